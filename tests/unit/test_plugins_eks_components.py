"""What each component makes, child by child, as the engine would get it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pulumi_aws as aws
import pytest
from pulumi.output import Unknown

from local.plugins.eks import kubeconfig
from local.plugins.eks.cluster import Cluster
from local.plugins.eks.node_group import ManagedNodeGroup
from local.plugins.eks.provider import EksProvider
from tests import recording
from tests.recording import record

INPUTS: dict[str, Any] = {
    "authenticationMode": "API",
    "skipDefaultNodeGroup": True,
    "useDefaultVpcCni": True,
    "kubeProxyAddonOptions": {"enabled": False},
    "vpcId": "vpc-1",
    "publicSubnetIds": ["subnet-a"],
    "privateSubnetIds": ["subnet-b"],
    "version": "1.36",
}
CLUSTER_STATE: dict[str, Any] = {
    "endpoint": "https://cluster.example",
    "certificateAuthority": {"data": "Q0E="},
    "identities": [{"oidcs": [{"issuer": "https://oidc.example/id/1"}]}],
}


@pytest.fixture(autouse=True)
def aws_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(kubeconfig.VARIABLE, raising=False)
    monkeypatch.setitem(recording.COMPUTED, "aws:eks/cluster:Cluster", CLUSTER_STATE)
    monkeypatch.setitem(recording.COMPUTED, "aws:ec2/securityGroupRule:SecurityGroupRule", {"securityGroupRuleId": "r"})


def cluster(**inputs: Any) -> Callable[[], Cluster]:
    return lambda: Cluster("llm", {**INPUTS, **inputs}, pulumi.ResourceOptions())


class TestCluster:
    def test_children(self):
        made = record(cluster())
        assert {(each.type, each.name, each.parent) for each in made.resources} == {
            ("eks:index:Cluster", "llm", ""),
            ("eks:index:ServiceRole", "llm-eksRole", "llm"),
            ("aws:iam/role:Role", "llm-eksRole-role", "llm-eksRole"),
            ("aws:iam/rolePolicyAttachment:RolePolicyAttachment", "llm-eksRole-4b490823", "llm-eksRole"),
            ("aws:ec2/securityGroup:SecurityGroup", "llm-eksClusterSecurityGroup", "llm"),
            ("aws:ec2/securityGroupRule:SecurityGroupRule", "llm-eksClusterInternetEgressRule", "llm"),
            ("aws:eks/cluster:Cluster", "llm-eksCluster", "llm"),
            ("pulumi:providers:kubernetes", "llm-eks-k8s", "llm"),
            ("aws:ec2/securityGroup:SecurityGroup", "llm-nodeSecurityGroup", "llm"),
            ("aws:ec2/securityGroupRule:SecurityGroupRule", "llm-eksNodeIngressRule", "llm"),
            ("aws:ec2/securityGroupRule:SecurityGroupRule", "llm-eksNodeClusterIngressRule", "llm"),
            ("aws:ec2/securityGroupRule:SecurityGroupRule", "llm-eksExtApiServerClusterIngressRule", "llm"),
            ("aws:ec2/securityGroupRule:SecurityGroupRule", "llm-eksNodeInternetEgressRule", "llm"),
            ("aws:ec2/securityGroupRule:SecurityGroupRule", "llm-eksClusterIngressRule", "llm"),
        }

    def test_eks_cluster(self):
        made = record(
            cluster(
                name="llm-prod", tags={"a": "1"}, clusterTags={"b": "2"}, encryptionConfigKeyArn="arn:kms",
                enabledClusterLogTypes=["api"], endpointPrivateAccess=True, endpointPublicAccess=True,
                publicAccessCidrs=["10.0.0.0/8"], deletionProtection=True, bootstrapSelfManagedAddons=False,
                kubernetesServiceIpAddressRange="172.20.0.0/16", upgradePolicy={"supportType": "STANDARD"},
            )
        )  # fmt: skip
        resource = made.one("aws:eks/cluster:Cluster", "llm-eksCluster")
        assert resource.inputs == {
            "name": "llm-prod",
            "roleArn": "arn:aws:test:us-east-1:123456789012:role/llm-eksRole-role",
            "version": "1.36",
            "vpcConfig": {
                "securityGroupIds": ["llm-eksClusterSecurityGroup-id"],
                "subnetIds": ["subnet-a", "subnet-b"],
                "endpointPrivateAccess": True,
                "endpointPublicAccess": True,
                "publicAccessCidrs": ["10.0.0.0/8"],
            },
            "kubernetesNetworkConfig": {"ipFamily": "ipv4", "serviceIpv4Cidr": "172.20.0.0/16"},
            "bootstrapSelfManagedAddons": False,
            "enabledClusterLogTypes": ["api"],
            "encryptionConfig": {"provider": {"keyArn": "arn:kms"}, "resources": ["secrets"]},
            "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
            "upgradePolicy": {"supportType": "STANDARD"},
            "deletionProtection": True,
            "tags": {"Name": "llm-eksCluster", "a": "1", "b": "2"},
        }
        assert {"llm-eksRole-role", "llm-eksRole-4b490823"} <= set(resource.depends_on)
        assert resource.ignore_changes == [
            "accessConfig.bootstrapClusterCreatorAdminPermissions", "bootstrapSelfManagedAddons",
        ]  # fmt: skip

    def test_what_is_not_given_is_not_sent(self):
        made = record(cluster(skipDefaultSecurityGroups=True))
        assert made.inputs("aws:eks/cluster:Cluster", "llm-eksCluster") == {
            "roleArn": "arn:aws:test:us-east-1:123456789012:role/llm-eksRole-role",
            "version": "1.36",
            "vpcConfig": {"subnetIds": ["subnet-a", "subnet-b"]},
            "bootstrapSelfManagedAddons": True,
            "accessConfig": {"authenticationMode": "API", "bootstrapClusterCreatorAdminPermissions": True},
            "tags": {"Name": "llm-eksCluster"},
        }
        assert made.names("aws:ec2/securityGroup:SecurityGroup") == []
        assert made.names("aws:ec2/securityGroupRule:SecurityGroupRule") == []

    def test_given_role(self):
        def program() -> None:
            role = aws.iam.Role("mine", assume_role_policy="{}")
            cluster(serviceRole=role)()

        made = record(program)
        assert made.names("eks:index:ServiceRole") == []
        role_arn = made.inputs("aws:eks/cluster:Cluster", "llm-eksCluster")["roleArn"]
        assert role_arn == "arn:aws:test:us-east-1:123456789012:role/mine"

    def test_access_entries(self):
        policy = {"policyArn": "arn:policy", "accessScope": {"type": "cluster"}}
        entry = {"principalArn": "arn:admin", "username": "admin", "kubernetesGroups": ["g"]}
        made = record(cluster(accessEntries={"admin": {**entry, "accessPolicies": {"all": policy}}}))
        assert made.inputs("aws:eks/accessEntry:AccessEntry", "llm-admin") == {
            "clusterName": "llm-eksCluster", "principalArn": "arn:admin", "userName": "admin",
            "kubernetesGroups": ["g"],
        }  # fmt: skip
        association = made.one("aws:eks/accessPolicyAssociation:AccessPolicyAssociation", "llm-admin-all")
        assert association.parent == "llm-admin"
        assert association.inputs == {"clusterName": "llm-eksCluster", "principalArn": "arn:admin", **policy}

    def test_managed_add_ons(self):
        made = record(
            cluster(
                useDefaultVpcCni=False,
                vpcCniOptions={"addonVersion": "v1.22.4-eksbuild.1", "enablePrefixDelegation": True},
                kubeProxyAddonOptions={"version": "v1.36.3-eksbuild.2"},
                corednsAddonOptions={
                    "version": "v1.15.0-eksbuild.1", "configurationValues": {"replicaCount": 3}, "enabled": True,
                },
            )
        )  # fmt: skip
        common = {
            "clusterName": "llm-eksCluster", "preserve": True,
            "resolveConflictsOnCreate": "OVERWRITE", "resolveConflictsOnUpdate": "OVERWRITE",
        }  # fmt: skip
        assert made.inputs("aws:eks/addon:Addon", "llm-kube-proxy") == {
            **common, "addonName": "kube-proxy", "addonVersion": "v1.36.3-eksbuild.2",
        }  # fmt: skip
        assert made.inputs("aws:eks/addon:Addon", "llm-coredns") == {
            **common, "addonName": "coredns", "addonVersion": "v1.15.0-eksbuild.1",
            "configurationValues": '{"replicaCount":3}',
        }  # fmt: skip
        cni = made.one("aws:eks/addon:Addon", "llm-vpc-cni")
        assert cni.parent == "llm-vpc-cni"
        configuration = json.loads(cni.inputs.pop("configurationValues"))
        assert configuration["env"]["ENABLE_PREFIX_DELEGATION"] == "true"
        assert cni.inputs == {**common, "addonName": "vpc-cni", "addonVersion": "v1.22.4-eksbuild.1"}

    def test_security_group_rules(self):
        made = record(cluster())

        def rule(name: str) -> dict[str, Any]:
            inputs = dict(made.inputs("aws:ec2/securityGroupRule:SecurityGroupRule", f"llm-{name}"))
            assert inputs.pop("description")
            return inputs

        everything = {"protocol": "-1", "fromPort": 0, "toPort": 0}
        https = {"protocol": "tcp", "fromPort": 443, "toPort": 443}
        in_cluster, in_nodes = ({"securityGroupId": f"llm-{each}SecurityGroup-id"} for each in ("eksCluster", "node"))
        from_cluster = {"sourceSecurityGroupId": "llm-eksClusterSecurityGroup-id"}
        anywhere = {"cidrBlocks": ["0.0.0.0/0"]}
        assert rule("eksClusterInternetEgressRule") == {**everything, **in_cluster, **anywhere, "type": "egress"}
        assert rule("eksNodeInternetEgressRule") == {**everything, **in_nodes, **anywhere, "type": "egress"}
        assert rule("eksNodeIngressRule") == {**everything, **in_nodes, "self": True, "type": "ingress"}
        assert rule("eksNodeClusterIngressRule") == {
            **in_nodes, **from_cluster, "protocol": "tcp", "fromPort": 1025, "toPort": 65535, "type": "ingress",
        }  # fmt: skip
        assert rule("eksExtApiServerClusterIngressRule") == {**https, **in_nodes, **from_cluster, "type": "ingress"}
        assert rule("eksClusterIngressRule") == {
            **https, **in_cluster, "sourceSecurityGroupId": "llm-nodeSecurityGroup-id", "type": "ingress",
        }  # fmt: skip

    def test_outputs(self):
        outputs = record(cluster()).outputs["llm"]
        assert outputs["clusterSecurityGroupId"] == "llm-eksClusterSecurityGroup-id"
        assert outputs["nodeSecurityGroupId"] == "llm-nodeSecurityGroup-id"
        assert outputs["clusterIngressRuleId"] == "r"
        assert outputs["oidcProviderUrl"] == "https://oidc.example/id/1"
        assert outputs["oidcIssuer"] == "oidc.example/id/1"
        assert json.loads(outputs["kubeconfigJson"]) == outputs["kubeconfig"] == outputs["core"]["kubeconfig"]
        assert outputs["kubeconfig"]["clusters"][0]["cluster"]["server"] == "https://cluster.example"
        assert outputs["core"]["vpcId"] == "vpc-1"
        assert outputs["core"]["subnetIds"] == ["subnet-a", "subnet-b"]

    def test_local_control_plane(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        config = {"clusters": [{"name": "local"}], "users": [{"user": {"client-key-data": "KEY"}}]}
        path = tmp_path / "kubeconfig"
        path.write_text(json.dumps(config))
        monkeypatch.setenv(kubeconfig.VARIABLE, str(path))
        made = record(cluster())
        assert made.outputs["llm"]["kubeconfig"] == {"secret": config}
        assert json.loads(made.outputs["llm"]["kubeconfigJson"]["secret"]) == config
        assert "kubeconfig" not in made.outputs["llm"]["core"]
        provider = made.inputs("pulumi:providers:kubernetes", "llm-eks-k8s")["kubeconfig"]
        assert json.loads(provider["secret"]) == config

    def test_kubeconfig_is_unknown_before_the_cluster_is_made(self):
        made = record(cluster(), preview=True)
        assert isinstance(made.inputs("pulumi:providers:kubernetes", "llm-eks-k8s")["kubeconfig"], Unknown)
        assert len(made.resources) == len(record(cluster()).resources)


class TestManagedNodeGroup:
    def group(self, **inputs: Any) -> recording.Recording:
        def program() -> None:
            core = {
                "cluster": aws.eks.Cluster("eks", role_arn="arn", vpc_config={"subnet_ids": []}, version="1.36"),
                "subnetIds": ["subnet-a"],
            }
            given = {"cluster": core, "nodeRoleArn": "arn:node", **inputs}
            ManagedNodeGroup("gpu", given, pulumi.ResourceOptions())

        return record(program)

    def test_own_launch_template(self):
        made = self.group(
            amiType="AL2023_x86_64_NVIDIA", instanceTypes=["g6.xlarge"], diskSize=100.0, enableIMDSv2=True,
            labels={"llm-serving/pool": "l4"}, scalingConfig={"desiredSize": 2.0, "minSize": 1.0, "maxSize": 3.0},
            taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}], subnetIds=["subnet-z"],
            releaseVersion="1.36.3-20261101", capacityType="ON_DEMAND", tags={"a": "1"}, ignoreScalingChanges=True,
        )  # fmt: skip
        assert made.one("aws:ec2/launchTemplate:LaunchTemplate", "gpu-launchTemplate").parent == "gpu"
        assert made.inputs("aws:ec2/launchTemplate:LaunchTemplate", "gpu-launchTemplate") == {
            "blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 100}}],
            "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": 2, "httpEndpoint": "enabled"},
        }
        resource = made.one("aws:eks/nodeGroup:NodeGroup", "gpu")
        assert resource.parent == "gpu"
        assert resource.ignore_changes == ["scalingConfig.desiredSize"]
        assert resource.inputs == {
            "clusterName": "eks",
            "nodeRoleArn": "arn:node",
            "subnetIds": ["subnet-z"],
            "scalingConfig": {"desiredSize": 2, "minSize": 1, "maxSize": 3},
            "launchTemplate": {"id": "gpu-launchTemplate-id", "version": "3"},
            "version": "1.36",
            "amiType": "AL2023_x86_64_NVIDIA",
            "capacityType": "ON_DEMAND",
            "instanceTypes": ["g6.xlarge"],
            "labels": {"llm-serving/pool": "l4"},
            "releaseVersion": "1.36.3-20261101",
            "tags": {"a": "1"},
            "taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
        }

    def test_given_launch_template_decides_the_version(self):
        template = {"id": "lt-1", "version": "7"}
        inputs = self.group(launchTemplate=template).inputs("aws:eks/nodeGroup:NodeGroup", "gpu")
        assert inputs["launchTemplate"] == template
        assert "version" not in inputs

    def test_defaults(self):
        made = self.group(diskSize=50.0)
        assert made.names("aws:ec2/launchTemplate:LaunchTemplate") == []
        assert made.inputs("aws:eks/nodeGroup:NodeGroup", "gpu") == {
            "clusterName": "eks",
            "nodeRoleArn": "arn:node",
            "subnetIds": ["subnet-a"],
            "scalingConfig": {"desiredSize": 2, "minSize": 1, "maxSize": 2},
            "version": "1.36",
            "diskSize": 50,
        }


class TestProvider:
    def test_unknown_component(self):
        with pytest.raises(pulumi.InputPropertiesError, match="eks:index:NodeGroupV2 is not served by the local eks"):
            EksProvider("4.4.0").construct("x", "eks:index:NodeGroupV2", {})

    def test_methods_are_refused(self):
        with pytest.raises(pulumi.InputPropertiesError, match="use the `kubeconfig` output"):
            EksProvider("4.4.0").call("eks:index:Cluster/getKubeconfig", {})

    def test_missing_kubeconfig_is_one_clear_line(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv(kubeconfig.VARIABLE, "/missing")
        with pytest.raises(pulumi.InputPropertiesError, match="LLM_SERVING_KUBECONFIG names /missing: No such file"):
            EksProvider("4.4.0").construct("llm", "eks:index:Cluster", INPUTS)
