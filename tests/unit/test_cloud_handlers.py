"""Every answer that MiniStack lacks, parsed by boto3 from the running emulator."""

import datetime as dt
import json
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError

from llm_serving.capacity.cloud import gather
from llm_serving.capacity.cloud_facts import CloudFacts, Unchecked
from tests.cloud_harness import Cloud, network, role
from tests.unit.capacity.sample_stack import GPU, STACK


@pytest.fixture(scope="module")
def eks(cloud: Cloud) -> Any:
    return cloud.client("eks")


@pytest.fixture(scope="module")
def cluster(cloud: Cloud, eks: Any) -> str:
    subnets = network(cloud)
    eks.create_cluster(
        name="llm",
        version="1.35",
        roleArn=role(cloud, "cluster", "eks.amazonaws.com"),
        resourcesVpcConfig={"subnetIds": subnets},
        accessConfig={"authenticationMode": "API"},
    )
    template = cloud.client("ec2").create_launch_template(
        LaunchTemplateName="gpu", LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}}
    )["LaunchTemplate"]
    eks.create_nodegroup(
        clusterName="llm",
        nodegroupName="gpu",
        subnets=subnets,
        nodeRole=role(cloud, "node", "ec2.amazonaws.com"),
        amiType="AL2023_x86_64_NVIDIA",
        instanceTypes=["g6.xlarge"],
        scalingConfig={"minSize": 1, "maxSize": 3, "desiredSize": 1},
        labels={"pool": "l4", "old": "yes"},
        taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
        launchTemplate={"id": template["LaunchTemplateId"], "version": "$Latest"},
    )
    return "llm"


def group(eks: Any) -> dict[str, Any]:
    return eks.describe_nodegroup(clusterName="llm", nodegroupName="gpu")["nodegroup"]


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    failure: Any = error.value
    return failure.response["Error"]["Code"]


def test_a_cluster_has_its_vpc_and_a_security_group_there(cloud: Cloud, eks: Any, cluster: str) -> None:
    found = eks.describe_cluster(name=cluster)["cluster"]
    security_group = found["resourcesVpcConfig"]["clusterSecurityGroupId"]
    (described,) = cloud.client("ec2").describe_security_groups(GroupIds=[security_group])["SecurityGroups"]
    assert described["VpcId"] == found["resourcesVpcConfig"]["vpcId"]
    assert found["accessConfig"]["authenticationMode"] == "API"
    assert found["upgradePolicy"] == {"supportType": "EXTENDED"}


def test_a_cluster_is_where_the_local_control_plane_is(cloud: Cloud, eks: Any, cluster: str) -> None:
    kubeconfig = cloud.state / "cluster" / "kubeconfig"
    assert eks.describe_cluster(name=cluster)["cluster"]["certificateAuthority"]["data"]
    kubeconfig.parent.mkdir()
    server = {"server": "https://10.89.0.1:6443", "certificate-authority-data": "Q0E="}
    kubeconfig.write_text(json.dumps({"clusters": [{"name": "local", "cluster": server}]}))
    found = eks.describe_cluster(name=cluster)["cluster"]
    assert (found["endpoint"], found["certificateAuthority"]) == ("https://10.89.0.1:6443", {"data": "Q0E="})


def test_a_node_group_keeps_its_launch_template_and_gets_a_release(eks: Any, cluster: str) -> None:
    found = group(eks)
    assert found["launchTemplate"]["name"] == "gpu"
    assert found["launchTemplate"]["version"] == "1"
    assert "diskSize" not in found
    assert found["releaseVersion"].startswith("1.35.")
    assert found["updateConfig"] == {"maxUnavailable": 1}


def test_a_node_group_scales_in_place(eks: Any, cluster: str) -> None:
    update = eks.update_nodegroup_config(
        clusterName="llm",
        nodegroupName="gpu",
        scalingConfig={"desiredSize": 3},
        labels={"addOrUpdateLabels": {"pool": "l40s"}, "removeLabels": ["old"]},
        taints={"addOrUpdateTaints": [{"key": "spot", "value": "true", "effect": "NO_EXECUTE"}]},
        updateConfig={"maxUnavailable": 2},
    )["update"]
    assert update["type"] == "ConfigUpdate"
    assert {"type": "DesiredSize", "value": "3"} in update["params"]
    assert isinstance(update["createdAt"], dt.datetime)

    found = group(eks)
    assert found["scalingConfig"] == {"minSize": 1, "maxSize": 3, "desiredSize": 3}
    assert found["labels"] == {"pool": "l40s"}
    assert [taint["key"] for taint in found["taints"]] == ["nvidia.com/gpu", "spot"]
    assert found["updateConfig"] == {"maxUnavailable": 2}

    described = eks.describe_update(name="llm", updateId=update["id"], nodegroupName="gpu")["update"]
    assert described["status"] == "Successful"
    assert eks.list_updates(name="llm", nodegroupName="gpu")["updateIds"] == [update["id"]]


def test_a_size_beyond_the_maximum_is_refused(eks: Any, cluster: str) -> None:
    with pytest.raises(ClientError) as error:
        eks.update_nodegroup_config(clusterName="llm", nodegroupName="gpu", scalingConfig={"desiredSize": 9})
    assert code(error) == "InvalidParameterException"


def test_an_unknown_node_group_is_not_found(eks: Any, cluster: str) -> None:
    with pytest.raises(ClientError) as error:
        eks.update_nodegroup_config(clusterName="llm", nodegroupName="none", scalingConfig={"desiredSize": 1})
    assert code(error) == "ResourceNotFoundException"


def test_cluster_and_node_group_are_upgraded_one_version_at_a_time(eks: Any, cluster: str) -> None:
    with pytest.raises(ClientError) as error:
        eks.update_nodegroup_version(clusterName="llm", nodegroupName="gpu", version="1.36")
    assert code(error) == "InvalidParameterException"

    update = eks.update_cluster_version(name="llm", version="1.36")["update"]
    assert update["type"] == "VersionUpdate"
    assert eks.describe_cluster(name="llm")["cluster"]["version"] == "1.36"
    eks.update_nodegroup_version(clusterName="llm", nodegroupName="gpu", version="1.36")
    assert group(eks)["releaseVersion"].startswith("1.36.")

    with pytest.raises(ClientError) as error:
        eks.update_cluster_version(name="llm", version="1.34")
    assert code(error) == "InvalidParameterException"


def test_a_clusters_settings_change(eks: Any, cluster: str) -> None:
    logging = {"clusterLogging": [{"types": ["api"], "enabled": True}]}
    assert eks.update_cluster_config(name="llm", logging=logging)["update"]["type"] == "LoggingUpdate"
    access = {"endpointPublicAccess": True, "publicAccessCidrs": ["203.0.113.0/24"]}
    update = eks.update_cluster_config(name="llm", resourcesVpcConfig=access)["update"]
    assert update["type"] == "EndpointAccessUpdate"
    found = eks.describe_cluster(name="llm")["cluster"]
    assert found["logging"] == logging
    assert found["resourcesVpcConfig"]["publicAccessCidrs"] == ["203.0.113.0/24"]


def test_addon_versions_say_which_is_the_default_for_a_kubernetes_version(eks: Any) -> None:
    (addon,) = eks.describe_addon_versions(addonName="kube-proxy", kubernetesVersion="1.36")["addons"]
    defaults = [
        version["addonVersion"]
        for version in addon["addonVersions"]
        if any(fit["clusterVersion"] == "1.36" and fit["defaultVersion"] for fit in version["compatibilities"])
    ]
    assert defaults == ["v1.36.3-eksbuild.2"]
    assert {found["addonName"] for found in eks.describe_addon_versions()["addons"]} >= {"vpc-cni", "coredns"}
    with pytest.raises(ClientError) as error:
        eks.describe_addon_versions(addonName="nonsense")
    assert code(error) == "ResourceNotFoundException"


def test_addon_configuration(eks: Any) -> None:
    (addon,) = eks.describe_addon_versions(addonName="coredns", kubernetesVersion="1.36")["addons"]
    version = addon["addonVersions"][0]["addonVersion"]
    found = eks.describe_addon_configuration(addonName="coredns", addonVersion=version)
    assert json.loads(found["configurationSchema"])["type"] == "object"


def test_cluster_versions(eks: Any) -> None:
    (default,) = eks.describe_cluster_versions(defaultOnly=True)["clusterVersions"]
    assert default["clusterVersion"] == "1.36"
    assert default["endOfStandardSupportDate"] > default["releaseDate"]
    (old,) = eks.describe_cluster_versions(clusterVersions=["1.32"])["clusterVersions"]
    assert old["versionStatus"] in {"EXTENDED_SUPPORT", "UNSUPPORTED"}


def test_instance_type_offerings(cloud: Cloud) -> None:
    offerings = cloud.client("ec2").describe_instance_type_offerings(
        LocationType="availability-zone",
        Filters=[{"Name": "instance-type", "Values": ["g6.xlarge", "x99.large"]}],
    )["InstanceTypeOfferings"]
    assert offerings == [
        {"InstanceType": "g6.xlarge", "LocationType": "availability-zone", "Location": f"us-east-1{zone}"}
        for zone in "abc"
    ]


def test_vcpu_quotas(cloud: Cloud) -> None:
    quotas = cloud.client("service-quotas")
    gpu = quotas.get_service_quota(ServiceCode="ec2", QuotaCode="L-DB2E81BA")["Quota"]
    assert (gpu["QuotaName"], gpu["Value"]) == ("Running On-Demand G and VT instances", 768.0)
    assert gpu["QuotaArn"] == "arn:aws:servicequotas:us-east-1:000000000000:ec2/L-DB2E81BA"
    pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="ec2", PaginationConfig={"PageSize": 3})
    listed = [[quota["QuotaCode"] for quota in page["Quotas"]] for page in pages]
    assert [len(page) for page in listed] == [3, 3, 1]
    assert len({code for page in listed for code in page}) == 7
    for asked in ({"ServiceCode": "ec2", "QuotaCode": "L-0"}, {"ServiceCode": "none", "QuotaCode": "L-DB2E81BA"}):
        with pytest.raises(ClientError) as error:
            quotas.get_service_quota(**asked)
        assert code(error) == "NoSuchResourceException"


def test_what_the_checks_of_a_stack_ask(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a preview: endpoint and credentials come from the environment."""
    variables = {"AWS_ENDPOINT_URL": cloud.url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for name, value in {**variables, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    stack = replace(STACK, gpu_pools={"l4": GPU, "h100": replace(GPU, instance_types=("p5.48xlarge",))})
    facts = gather(stack, account_id="000000000000")
    assert facts == CloudFacts(
        quotas={"L-1216C47A": 640.0, "L-417A185B": 384.0, "L-DB2E81BA": 768.0},
        offerings=dict.fromkeys(
            ("g6.2xlarge", "m7i.large", "p5.48xlarge"), frozenset({"us-east-1a", "us-east-1b", "us-east-1c"})
        ),
        reservations=(),
    )


def test_credentials_that_the_account_refuses(cloud: Cloud) -> None:
    class Refused:
        def client(self, service: str) -> Any:
            return cloud.client(service, "AKIAIOSFODNN7EXAMPLE", "wrong")

    (reason,) = {facts.reason for facts in vars_of(gather(STACK, account_id="000000000000", clients=Refused()))}
    assert reason.startswith("GetCallerIdentity was answered with ")


def vars_of(facts: CloudFacts) -> list[Unchecked]:
    found = (facts.quotas, facts.offerings, facts.reservations)
    return [each for each in found if isinstance(each, Unchecked)]


def test_public_parameters_of_node_images(cloud: Cloud) -> None:
    ssm = cloud.client("ssm")
    path = "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended"
    image = ssm.get_parameter(Name=f"{path}/image_id")["Parameter"]
    assert image["Value"].startswith("ami-")
    assert len(image["Value"]) == 21
    assert ssm.get_parameter(Name=f"{path}/release_version")["Parameter"]["Value"] == "1.36.3-20261110"

    ssm.put_parameter(Name="/mine", Value="1", Type="String")
    found = ssm.get_parameters(Names=["/mine", f"{path}/image_id", "/none"])
    assert {parameter["Name"] for parameter in found["Parameters"]} == {"/mine", f"{path}/image_id"}
    assert found["InvalidParameters"] == ["/none"]
    assert len(ssm.get_parameters_by_path(Path=path, Recursive=True)["Parameters"]) == 3
    assert [parameter["Name"] for parameter in ssm.describe_parameters()["Parameters"]] == ["/mine"]


def test_a_network_load_balancer_is_named_as_on_aws(cloud: Cloud) -> None:
    elb = cloud.client("elbv2")
    balancer = elb.create_load_balancer(Name="front", Type="network", Scheme="internal", Subnets=network(cloud))
    arn = balancer["LoadBalancers"][0]["LoadBalancerArn"]
    assert ":loadbalancer/net/front/" in arn
    assert balancer["LoadBalancers"][0]["DNSName"].endswith(".elb.us-east-1.amazonaws.com")
    elb.modify_load_balancer_attributes(
        LoadBalancerArn=arn, Attributes=[{"Key": "load_balancing.cross_zone.enabled", "Value": "true"}]
    )
    elb.add_tags(ResourceArns=[arn], Tags=[{"Key": "team", "Value": "llm"}])
    assert elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"] == [{"Key": "team", "Value": "llm"}]

    targets = elb.create_target_group(Name="pods", Protocol="TCP", Port=8080, TargetType="ip")["TargetGroups"][0]
    assert targets["HealthCheckProtocol"] == "TCP"
    listener = elb.create_listener(
        LoadBalancerArn=arn,
        Protocol="TCP",
        Port=80,
        DefaultActions=[{"Type": "forward", "TargetGroupArn": targets["TargetGroupArn"]}],
    )["Listeners"][0]
    assert ":listener/net/front/" in listener["ListenerArn"]
    assert elb.describe_listeners(LoadBalancerArn=arn)["Listeners"][0]["ListenerArn"] == listener["ListenerArn"]
    assert elb.describe_listener_attributes(ListenerArn=listener["ListenerArn"])["Attributes"]
    elb.delete_listener(ListenerArn=listener["ListenerArn"])
    elb.delete_load_balancer(LoadBalancerArn=arn)
    elb.delete_target_group(TargetGroupArn=targets["TargetGroupArn"])
    assert elb.describe_load_balancers()["LoadBalancers"] == []


def test_targets_are_known_by_address_and_port(cloud: Cloud) -> None:
    elb = cloud.client("elbv2")
    group = elb.create_target_group(Name="ports", Protocol="TCP", Port=8080, TargetType="ip")["TargetGroups"][0]
    arn = group["TargetGroupArn"]
    elb.register_targets(TargetGroupArn=arn, Targets=[{"Id": "10.244.1.2"}, {"Id": "10.244.1.2", "Port": 9090}])
    described = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    assert [found["Target"]["Port"] for found in described] == [8080, 9090]
    assert {found["TargetHealth"]["Reason"] for found in described} == {"Target.NotInUse"}
    elb.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": "10.244.1.2", "Port": 8080}])
    (left,) = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    assert left["Target"]["Port"] == 9090
    (gone,) = elb.describe_target_health(TargetGroupArn=arn, Targets=[{"Id": "10.1.1.1"}])["TargetHealthDescriptions"]
    assert gone["TargetHealth"]["Reason"] == "Target.NotRegistered"


def test_a_vpc_link_lives_and_is_named_by_integrations(cloud: Cloud) -> None:
    gateway, elb = cloud.client("apigateway"), cloud.client("elbv2")
    balancer = elb.create_load_balancer(Name="linked", Type="network", Subnets=network(cloud))["LoadBalancers"][0]
    link = gateway.create_vpc_link(name="link", targetArns=[balancer["LoadBalancerArn"]], tags={"team": "llm"})
    assert link["status"] == "AVAILABLE"
    change = {"op": "replace", "path": "/name", "value": "other"}
    gateway.update_vpc_link(vpcLinkId=link["id"], patchOperations=[change])
    assert gateway.get_vpc_link(vpcLinkId=link["id"])["name"] == "other"
    assert [found["id"] for found in gateway.get_vpc_links()["items"]] == [link["id"]]
    arn = f"arn:aws:apigateway:us-east-1::/vpclinks/{link['id']}"
    gateway.tag_resource(resourceArn=arn, tags={"stage": "test"})
    gateway.untag_resource(resourceArn=arn, tagKeys=["team"])
    assert gateway.get_tags(resourceArn=arn)["tags"] == {"stage": "test"}

    api = gateway.create_rest_api(name="api")
    root = gateway.get_resources(restApiId=api["id"])["items"][0]["id"]
    where = {"restApiId": api["id"], "resourceId": root, "httpMethod": "GET"}
    gateway.put_method(**where, authorizationType="NONE")
    made = gateway.put_integration(
        **where,
        type="HTTP_PROXY",
        integrationHttpMethod="GET",
        uri=f"http://{balancer['DNSName']}/",
        connectionType="VPC_LINK",
        connectionId=link["id"],
        timeoutInMillis=29000,
    )
    assert made["connectionId"] == link["id"]
    assert gateway.get_integration(**where)["connectionId"] == link["id"]
    with pytest.raises(ClientError) as error:
        gateway.delete_vpc_link(vpcLinkId=link["id"])
    assert code(error) == "BadRequestException"
    gateway.delete_rest_api(restApiId=api["id"])
    gateway.delete_vpc_link(vpcLinkId=link["id"])
    with pytest.raises(ClientError) as error:
        gateway.get_vpc_link(vpcLinkId=link["id"])
    assert code(error) == "NotFoundException"


def test_a_method_and_its_integration_change(cloud: Cloud) -> None:
    gateway = cloud.client("apigateway")
    api = gateway.create_rest_api(name="api")["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    where = {"restApiId": api, "resourceId": root, "httpMethod": "ANY"}
    gateway.put_method(**where, authorizationType="NONE", apiKeyRequired=True)
    gateway.put_integration(**where, type="HTTP_PROXY", integrationHttpMethod="ANY", uri="http://a.example/")

    def patch(path: str, value: str) -> list[dict[str, str]]:
        return [{"op": "replace", "path": path, "value": value}]

    for required in (False, True):
        changed = gateway.update_method(**where, patchOperations=patch("/apiKeyRequired", str(required).lower()))
        assert changed["apiKeyRequired"] is required
        assert gateway.get_method(**where)["apiKeyRequired"] is required
    changed = gateway.update_integration(**where, patchOperations=patch("/timeoutInMillis", "9000"))
    assert changed["timeoutInMillis"] == gateway.get_integration(**where)["timeoutInMillis"] == 9000
    mark = "integration.request.header.x-llm-authentication"
    changed = gateway.update_integration(**where, patchOperations=patch(f"/requestParameters/{mark}", "'TOKEN'"))
    assert changed["requestParameters"] == {mark: "'TOKEN'"}
    with pytest.raises(ClientError) as error:
        gateway.update_method(**{**where, "httpMethod": "GET"}, patchOperations=patch("/apiKeyRequired", "true"))
    assert code(error) == "NotFoundException"
    gateway.delete_rest_api(restApiId=api)


def test_a_vpc_link_needs_a_network_load_balancer(cloud: Cloud) -> None:
    with pytest.raises(ClientError) as error:
        cloud.client("apigateway").create_vpc_link(name="link", targetArns=["arn:aws:elasticloadbalancing:x"])
    assert code(error) == "BadRequestException"


def test_vpc_links_of_http_apis(cloud: Cloud) -> None:
    gateway = cloud.client("apigatewayv2")
    link = gateway.create_vpc_link(Name="link", SubnetIds=network(cloud))
    assert link["VpcLinkStatus"] == "AVAILABLE"
    assert gateway.update_vpc_link(VpcLinkId=link["VpcLinkId"], Name="other")["Name"] == "other"
    assert len(gateway.get_vpc_links()["Items"]) == 1
    gateway.delete_vpc_link(VpcLinkId=link["VpcLinkId"])
    assert gateway.get_vpc_links()["Items"] == []


def test_iam_decides_on_our_calls_too(cloud: Cloud, cluster: str) -> None:
    iam = cloud.client("iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    as_reader = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
    scale = {"clusterName": "llm", "nodegroupName": "gpu", "scalingConfig": {"desiredSize": 1}}
    with pytest.raises(ClientError) as error:
        cloud.client("eks", **as_reader).update_nodegroup_config(**scale)
    assert code(error) == "AccessDeniedException"

    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "eks:UpdateNodegroupConfig", "Resource": "*"}],
    }
    iam.put_user_policy(UserName="reader", PolicyName="scale", PolicyDocument=json.dumps(policy))
    cloud.client("eks", **as_reader).update_nodegroup_config(**scale)
    with pytest.raises(ClientError) as error:
        cloud.client("eks", **as_reader).describe_addon_versions()
    assert code(error) == "AccessDeniedException"
    with pytest.raises(ClientError) as error:
        cloud.client("eks", key=key["AccessKeyId"], secret="wrong").update_nodegroup_config(**scale)
    assert code(error) in {"SignatureDoesNotMatch", "InvalidSignatureException"}


def test_unsigned_calls_are_refused(cloud: Cloud) -> None:
    cloud.client("s3").create_bucket(Bucket="private")
    cloud.client("s3").put_object(Bucket="private", Key="secret", Body=b"x")
    for path in ("/", "/private/secret", "/cluster-versions", "/vpclinks", "/clusters", "/v2/vpclinks"):
        assert httpx.get(f"{cloud.url}{path}", timeout=5).status_code == 403, path
        assert httpx.get(f"{cloud.url}{path}", headers={"authorization": "Basic eA=="}, timeout=5).status_code == 403
    presigned = cloud.client("s3").generate_presigned_url("get_object", Params={"Bucket": "private", "Key": "secret"})
    assert httpx.get(presigned, timeout=5).content == b"x"
    for path in ("/_ministack/reset", "/_ministack/config", "/_localstack/state"):
        assert httpx.post(f"{cloud.url}{path}", timeout=5).status_code == 403
    query = {"Action": "DescribeInstanceTypeOfferings", "Version": "2016-11-15"}
    assert httpx.post(cloud.url, data=query, timeout=5).status_code in {400, 403}
    target = {"X-Amz-Target": "AmazonSSM.GetParameter", "Content-Type": "application/x-amz-json-1.1"}
    assert httpx.post(cloud.url, headers=target, json={"Name": "/x"}, timeout=5).status_code in {400, 403}


def test_a_deleted_cluster_leaves_nothing(cloud: Cloud) -> None:
    eks, ec2 = cloud.client("eks"), cloud.client("ec2")
    subnets = network(cloud)
    found = eks.create_cluster(
        name="short", roleArn=role(cloud, "short", "eks.amazonaws.com"), resourcesVpcConfig={"subnetIds": subnets}
    )["cluster"]
    security_group = found["resourcesVpcConfig"]["clusterSecurityGroupId"]
    while eks.describe_cluster(name="short")["cluster"]["status"] != "ACTIVE":
        time.sleep(0.05)
    eks.delete_cluster(name="short")
    with pytest.raises(ClientError):
        ec2.describe_security_groups(GroupIds=[security_group])
