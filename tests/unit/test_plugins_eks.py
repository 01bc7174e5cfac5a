import json
from pathlib import Path
from typing import Any

import pytest
from pulumi import InputPropertiesError

from local.errors import LocalError
from local.plugins.eks import inputs, kubeconfig, properties

CLUSTER: dict[str, Any] = {
    "authenticationMode": "API",
    "skipDefaultNodeGroup": True,
    "vpcId": "vpc-1",
    "subnetIds": ["subnet-1"],
}
GROUP: dict[str, Any] = {"cluster": object(), "nodeRoleArn": "arn:aws:iam::1:role/node"}


def problems(error: InputPropertiesError) -> dict[str, str]:
    return {each["property_path"]: each["reason"] for each in error.errors or []}


class TestChecks:
    def test_what_the_project_sends_is_accepted(self):
        inputs.check_cluster({**CLUSTER, "createOidcProvider": False, "encryptionConfigKeyArn": "arn", "gpu": None})
        inputs.check_node_group({**GROUP, "amiType": "AL2023_x86_64_NVIDIA", "enableIMDSv2": True, "diskSize": 100})

    def test_every_problem_is_named(self):
        with pytest.raises(InputPropertiesError) as refused:
            inputs.check_cluster({"createOidcProvider": True, "fargate": True, "authenticationMode": "CONFIG_MAP"})
        assert sorted(problems(refused.value)) == [
            "authenticationMode", "createOidcProvider", "fargate", "skipDefaultNodeGroup", "subnetIds", "vpcId",
        ]  # fmt: skip
        assert "install Pulumi's official eks plugin" in problems(refused.value)["fargate"]

    def test_public_access_cidrs_need_public_access(self):
        with pytest.raises(InputPropertiesError) as refused:
            inputs.check_cluster({**CLUSTER, "endpointPublicAccess": False, "publicAccessCidrs": ["10.0.0.0/8"]})
        assert list(problems(refused.value)) == ["publicAccessCidrs"]

    def test_node_group_has_one_role(self):
        for roles in ({}, {"nodeRole": object(), "nodeRoleArn": "arn"}):
            with pytest.raises(InputPropertiesError) as refused:
                inputs.check_node_group({"cluster": object(), **roles})
            assert list(problems(refused.value)) == ["nodeRole"]

    def test_given_launch_template_excludes_an_own_one(self):
        with pytest.raises(InputPropertiesError) as refused:
            inputs.check_node_group({**GROUP, "launchTemplate": {"id": "lt-1", "version": "1"}, "enableIMDSv2": True})
        assert list(problems(refused.value)) == ["launchTemplate"]


class TestProperties:
    def test_attachment_has_the_official_plugins_name(self):
        assert properties.attachment_name("llm-eksRole", "AmazonEKSClusterPolicy") == "llm-eksRole-4b490823"

    def test_assume_role_policy(self):
        policy = properties.assume_role_policy("eks.amazonaws.com", properties.CLUSTER_ROLE_ACTIONS)
        assert policy == (
            '{"Version":"2012-10-17","Statement":[{"Action":["sts:AssumeRole","sts:TagSession"],'
            '"Effect":"Allow","Principal":{"Service":["eks.amazonaws.com"]}}]}'
        )

    def test_later_tags_win(self):
        assert properties.tags("name", {"a": "1", "b": "1"}, None, {"b": "2"}) == {"Name": "name", "a": "1", "b": "2"}
        assert properties.tags("name", {"Name": "mine"}) == {"Name": "mine"}

    def test_node_security_group_tags(self):
        tags = properties.node_security_group_tags("llm-nodeSecurityGroup", "llm-1", {"a": "1"}, None)
        assert tags == {"Name": "llm-nodeSecurityGroup", "kubernetes.io/cluster/llm-1": "owned", "a": "1"}

    @pytest.mark.parametrize(
        ("given", "config"),
        [
            (("172.20.0.0/16", None), {"ipFamily": "ipv4", "serviceIpv4Cidr": "172.20.0.0/16"}),
            (("172.20.0.0/16", "ipv6"), {"ipFamily": "ipv6"}),
            ((None, "ipv4"), {"ipFamily": "ipv4"}),
        ],
    )
    def test_network_config(self, given: tuple[str | None, str | None], config: dict[str, str]):
        assert properties.network_config(*given) == config

    def test_scaling_defaults(self):
        assert properties.scaling(None) == {"desiredSize": 2, "minSize": 1, "maxSize": 2}
        assert properties.scaling({"desiredSize": 0.0, "maxSize": 8.0}) == {
            "desiredSize": 0, "minSize": 1, "maxSize": 8,
        }  # fmt: skip

    def test_metadata_options(self):
        assert properties.metadata_options(require_tokens=True) == {
            "httpTokens": "required", "httpPutResponseHopLimit": 2, "httpEndpoint": "enabled",
        }  # fmt: skip
        assert properties.metadata_options(require_tokens=False)["httpTokens"] == "optional"

    @pytest.mark.parametrize(
        ("ami_type", "device"),
        [
            (None, "/dev/xvda"),
            ("AL2023_x86_64_NVIDIA", "/dev/xvda"),
            ("BOTTLEROCKET_x86_64_NVIDIA", "/dev/xvdb"),
        ],
    )
    def test_data_device(self, ami_type: str | None, device: str):
        assert properties.data_device(ami_type) == device

    def test_addon_configuration_is_sorted(self):
        assert properties.addon_configuration({"b": {"d": 1, "c": 2}, "a": "x"}) == '{"a":"x","b":{"c":2,"d":1}}'
        assert properties.addon_configuration({}) is None
        assert properties.addon_configuration(None) is None


class TestVpcCni:
    def test_defaults_are_the_official_plugins(self):
        assert properties.vpc_cni_configuration({}) == {
            "env": {
                "AWS_VPC_ENI_MTU": "9001",
                "AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "false",
                "AWS_VPC_K8S_CNI_EXTERNALSNAT": "false",
                "AWS_VPC_K8S_CNI_LOGLEVEL": "DEBUG",
                "AWS_VPC_K8S_CNI_LOG_FILE": "/host/var/log/aws-routed-eni/ipamd.log",
                "AWS_VPC_K8S_CNI_VETHPREFIX": "eni",
                "AWS_VPC_K8S_PLUGIN_LOG_FILE": "/var/log/aws-routed-eni/plugin.log",
                "AWS_VPC_K8S_PLUGIN_LOG_LEVEL": "DEBUG",
                "ENABLE_POD_ENI": "false",
                "WARM_ENI_TARGET": "1",
            },
            "init": {"env": {"DISABLE_TCP_EARLY_DEMUX": "false"}},
        }

    def test_options_set_variables(self):
        environment = properties.vpc_cni_configuration(
            {"enablePrefixDelegation": True, "warmPrefixTarget": 1.0, "externalSnat": True, "logLevel": "INFO"}
        )["env"]
        assert environment["ENABLE_PREFIX_DELEGATION"] == "true"
        assert environment["WARM_PREFIX_TARGET"] == "1"
        assert environment["AWS_VPC_K8S_CNI_EXTERNALSNAT"] == "true"
        assert environment["AWS_VPC_K8S_CNI_LOGLEVEL"] == "INFO"

    def test_configuration_values_win(self):
        configuration = properties.vpc_cni_configuration(
            {
                "enableNetworkPolicy": True,
                "disableTcpEarlyDemux": True,
                "configurationValues": {"env": {"WARM_ENI_TARGET": "3"}, "init": {"env": {"X": "y"}}, "other": 1},
            }
        )
        assert configuration["env"]["WARM_ENI_TARGET"] == "3"
        assert configuration["env"]["ENABLE_POD_ENI"] == "false"
        assert configuration["init"] == {"env": {"DISABLE_TCP_EARLY_DEMUX": "true", "X": "y"}}
        assert configuration["other"] == 1
        assert configuration["enableNetworkPolicy"] == "true"


class TestKubeconfig:
    def test_eks(self):
        config = kubeconfig.eks_kubeconfig(
            name="llm-1", arn="arn:aws:eks:eu-west-1:1:cluster/llm-1", endpoint="https://e", certificate="Q0E="
        )
        assert config["clusters"] == [
            {"name": "kubernetes", "cluster": {"server": "https://e", "certificate-authority-data": "Q0E="}}
        ]
        execution = config["users"][0]["user"]["exec"]
        assert (execution["command"], *execution["args"]) == (
            "aws", "--region", "eu-west-1", "eks", "get-token", "--cluster-name", "llm-1", "--output", "json",
        )  # fmt: skip
        assert config["current-context"] == config["contexts"][0]["name"] == "aws"

    def test_eks_with_credentials(self):
        config = kubeconfig.eks_kubeconfig(
            name="c", arn="arn:aws:eks:eu-west-1:1:cluster/c", endpoint="e", certificate="",
            credentials={"roleArn": "arn:role", "profileName": "dev"},
        )  # fmt: skip
        assert config["users"][0]["user"]["exec"]["args"][-4:] == ["--role", "arn:role", "--profile", "dev"]

    def test_local(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        path = tmp_path / "kubeconfig"
        path.write_text("apiVersion: v1\nclusters: []\n")
        monkeypatch.setenv(kubeconfig.VARIABLE, str(path))
        assert kubeconfig.local_kubeconfig() == {"apiVersion": "v1", "clusters": []}
        path.write_text(json.dumps({"clusters": [1]}))
        assert kubeconfig.local_kubeconfig() == {"clusters": [1]}

    def test_none(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv(kubeconfig.VARIABLE, raising=False)
        assert kubeconfig.local_kubeconfig() is None

    @pytest.mark.parametrize("content", [None, "", "[1]", "a: [", "a: 1"])
    def test_unusable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None):
        path = tmp_path / "kubeconfig"
        if content is not None:
            path.write_text(content)
        monkeypatch.setenv(kubeconfig.VARIABLE, str(path))
        with pytest.raises(LocalError, match=r"LLM_SERVING_KUBECONFIG names .*: run `make up`"):
            kubeconfig.local_kubeconfig()
