"""Settings that MiniStack takes and doesn't answer: a later preview would find them changed."""

from tests.cloud_harness import Cloud, network


def test_a_replication_group_keeps_its_key_and_upgrades(cloud: Cloud) -> None:
    cache = cloud.client("elasticache")
    key = "arn:aws:kms:us-east-1:000000000000:key/one"
    asked = {
        "ReplicationGroupId": "answers",
        "ReplicationGroupDescription": "answers",
        "Engine": "valkey",
        "KmsKeyId": key,
        "AtRestEncryptionEnabled": True,
        "AutoMinorVersionUpgrade": False,
    }
    assert cache.create_replication_group(**asked)["ReplicationGroup"]["KmsKeyId"] == key
    (group,) = cache.describe_replication_groups(ReplicationGroupId="answers")["ReplicationGroups"]
    assert (group["KmsKeyId"], group["AutoMinorVersionUpgrade"]) == (key, False)
    cache.modify_replication_group(ReplicationGroupId="answers", AutoMinorVersionUpgrade=True, ApplyImmediately=True)
    (group,) = cache.describe_replication_groups(ReplicationGroupId="answers")["ReplicationGroups"]
    assert (group["KmsKeyId"], group["AutoMinorVersionUpgrade"]) == (key, True)
    (member,) = cache.describe_cache_clusters(CacheClusterId=group["MemberClusters"][0])["CacheClusters"]
    assert member["AutoMinorVersionUpgrade"] is True
    cache.delete_replication_group(ReplicationGroupId="answers")


def test_a_flow_log_keeps_all_its_settings(cloud: Cloud) -> None:
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    (identifier,) = ec2.create_flow_logs(
        ResourceIds=[vpc],
        ResourceType="VPC",
        TrafficType="ALL",
        LogDestination="arn:aws:logs:us-east-1:000000000000:log-group:flow",
        DeliverLogsPermissionArn="arn:aws:iam::000000000000:role/flow",
        MaxAggregationInterval=60,
        TagSpecifications=[{"ResourceType": "vpc-flow-log", "Tags": [{"Key": "Name", "Value": "network"}]}],
    )["FlowLogIds"]
    (log,) = ec2.describe_flow_logs(FlowLogIds=[identifier])["FlowLogs"]
    assert log["DeliverLogsPermissionArn"] == "arn:aws:iam::000000000000:role/flow"
    assert log["MaxAggregationInterval"] == 60
    assert log["Tags"] == [{"Key": "Name", "Value": "network"}]


def test_a_network_load_balancer_keeps_what_it_holds_private_link_to(cloud: Cloud) -> None:
    balancers, subnets = cloud.client("elbv2"), network(cloud)
    (subnet,) = cloud.client("ec2").describe_subnets(SubnetIds=subnets[:1])["Subnets"]
    group = cloud.client("ec2").create_security_group(GroupName="lb", Description="lb", VpcId=subnet["VpcId"])[
        "GroupId"
    ]
    asked = {"Name": "guarded", "Type": "network", "Subnets": subnets, "SecurityGroups": [group]}
    (made,) = balancers.create_load_balancer(**asked)["LoadBalancers"]
    setting = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"
    assert made[setting] == "on"
    balancers.set_security_groups(LoadBalancerArn=made["LoadBalancerArn"], SecurityGroups=[group], **{setting: "off"})
    (known,) = balancers.describe_load_balancers(LoadBalancerArns=[made["LoadBalancerArn"]])["LoadBalancers"]
    assert known[setting] == "off"


def test_a_usage_plan_has_no_quota_unless_it_is_given_one(cloud: Cloud) -> None:
    gateway = cloud.client("apigateway")
    throttle = {"rateLimit": 5.0, "burstLimit": 10}
    plan = gateway.create_usage_plan(name="plan", throttle=throttle)
    assert plan["throttle"] == throttle
    assert "quota" not in gateway.get_usage_plan(usagePlanId=plan["id"])


def test_the_value_of_an_api_key_is_chosen_where_none_is_given(cloud: Cloud) -> None:
    key = cloud.client("apigateway").create_api_key(name="demo", value="", enabled=True)
    assert len(key["value"]) >= 20


def test_parameters_by_who_set_them(cloud: Cloud) -> None:
    cache = cloud.client("elasticache")
    group = {"CacheParameterGroupName": "answers"}
    cache.create_cache_parameter_group(**group, CacheParameterGroupFamily="valkey8", Description="answers")
    changed = {"ParameterName": "maxmemory-policy", "ParameterValue": "volatile-ttl"}
    cache.modify_cache_parameter_group(**group, ParameterNameValues=[changed])
    by_user = cache.describe_cache_parameters(**group, Source="user")["Parameters"]
    assert [(known["ParameterName"], known["ParameterValue"]) for known in by_user] == [
        ("maxmemory-policy", "volatile-ttl")
    ]
    by_system = cache.describe_cache_parameters(**group, Source="system")["Parameters"]
    assert "maxmemory-policy" not in {known["ParameterName"] for known in by_system}


def test_an_interface_endpoint_keeps_its_groups_and_its_private_names(cloud: Cloud) -> None:
    ec2 = cloud.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    group = ec2.create_security_group(GroupName="ecr", Description="ecr", VpcId=vpc)["GroupId"]
    made = ec2.create_vpc_endpoint(
        VpcId=vpc,
        VpcEndpointType="Interface",
        ServiceName="com.amazonaws.us-east-1.ecr.api",
        SecurityGroupIds=[group],
        PrivateDnsEnabled=True,
    )["VpcEndpoint"]
    (known,) = ec2.describe_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])["VpcEndpoints"]
    for endpoint in (made, known):
        assert endpoint["PrivateDnsEnabled"] is True
        assert [found["GroupId"] for found in endpoint["Groups"]] == [group]


def test_a_stage_has_no_access_log_unless_it_is_given_one(cloud: Cloud) -> None:
    gateway = cloud.client("apigateway")
    api = gateway.create_rest_api(name="api")["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    gateway.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
    gateway.put_integration(restApiId=api, resourceId=root, httpMethod="GET", type="MOCK")
    deployment = gateway.create_deployment(restApiId=api)["id"]
    gateway.create_stage(restApiId=api, stageName="llm", deploymentId=deployment)
    assert "accessLogSettings" not in gateway.get_stage(restApiId=api, stageName="llm")
    (stage,) = gateway.get_stages(restApiId=api)["item"]
    assert "accessLogSettings" not in stage
