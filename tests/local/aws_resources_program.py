"""A Pulumi program with one of every AWS resource type that the project uses, and the functions that it calls.

`test_aws_resources.py` runs it. Nothing here is an example of how to build anything.
"""

import json
from typing import Any

import pulumi
import pulumi_aws as aws

config = pulumi.Config()
provider = aws.Provider(
    "main",
    region="us-east-1",
    s3_use_path_style=True,
    allowed_account_ids=["000000000000"],
    skip_metadata_api_check=True,
    default_tags={"tags": {"project": "resources", "stack": pulumi.get_stack()}},
)
call = pulumi.InvokeOptions(provider=provider)


def made(*after: pulumi.Resource) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(provider=provider, depends_on=list(after))


zones = aws.get_availability_zones(state="available", opts=call)
identity = aws.get_caller_identity(opts=call)


def role(name: str, service: str) -> aws.iam.Role:
    document = aws.iam.get_policy_document(
        statements=[
            {
                "actions": ["sts:AssumeRole", "sts:TagSession"],
                "principals": [{"type": "Service", "identifiers": [service]}],
                "conditions": [
                    {"test": "StringEquals", "variable": "aws:SourceAccount", "values": [identity.account_id]}
                ],
            }
        ],
        opts=call,
    )
    return aws.iam.Role(name, assume_role_policy=document.json, opts=made())


# Network

vpc = aws.ec2.Vpc("net", cidr_block="10.0.0.0/16", enable_dns_hostnames=True, tags={"Name": "net"}, opts=made())
gateway = aws.ec2.InternetGateway("net", vpc_id=vpc.id, opts=made())
subnets = [
    aws.ec2.Subnet(
        f"net-{index}",
        vpc_id=vpc.id,
        cidr_block=f"10.0.{index}.0/24",
        availability_zone=zones.names[index],
        map_public_ip_on_launch=index == 0,
        tags={"kubernetes.io/role/elb": "1"},
        opts=made(),
    )
    for index in range(2)
]
subnet_ids = [subnet.id for subnet in subnets]
address = aws.ec2.Eip("net", domain="vpc", opts=made())
nat = aws.ec2.NatGateway("net", subnet_id=subnets[0].id, allocation_id=address.id, opts=made(gateway))
routes = aws.ec2.RouteTable("net", vpc_id=vpc.id, opts=made())
aws.ec2.Route("net", route_table_id=routes.id, destination_cidr_block="0.0.0.0/0", nat_gateway_id=nat.id, opts=made())
aws.ec2.RouteTableAssociation("net", route_table_id=routes.id, subnet_id=subnets[1].id, opts=made())
aws.ec2.DefaultSecurityGroup("net", vpc_id=vpc.id, opts=made())
group = aws.ec2.SecurityGroup("net", vpc_id=vpc.id, description="rules of their own", opts=made())
aws.ec2.SecurityGroup(
    "inline",
    vpc_id=vpc.id,
    name_prefix="inline-",
    ingress=[{"protocol": "tcp", "from_port": 443, "to_port": 443, "cidr_blocks": ["10.0.0.0/16"]}],
    egress=[{"protocol": "-1", "from_port": 0, "to_port": 0, "cidr_blocks": ["0.0.0.0/0"]}],
    opts=made(),
)
aws.ec2.SecurityGroupRule(
    "net",
    type="ingress",
    security_group_id=group.id,
    protocol="tcp",
    from_port=443,
    to_port=443,
    self=True,
    opts=made(),
)
aws.vpc.SecurityGroupIngressRule(
    "net", security_group_id=group.id, cidr_ipv4="10.0.0.0/16", ip_protocol="tcp", from_port=80, to_port=80, opts=made()
)
aws.vpc.SecurityGroupEgressRule("net", security_group_id=group.id, cidr_ipv4="0.0.0.0/0", ip_protocol="-1", opts=made())
aws.ec2.VpcEndpoint(
    "s3", vpc_id=vpc.id, service_name="com.amazonaws.us-east-1.s3", route_table_ids=[routes.id], opts=made()
)
aws.ec2.VpcEndpoint(
    "ecr",
    vpc_id=vpc.id,
    service_name="com.amazonaws.us-east-1.ecr.api",
    vpc_endpoint_type="Interface",
    subnet_ids=[subnets[1].id],
    security_group_ids=[group.id],
    private_dns_enabled=True,
    opts=made(),
)
logs = aws.cloudwatch.LogGroup("net", retention_in_days=7, opts=made())
log_role = role("net", "vpc-flow-logs.amazonaws.com")
# Not in the SDK's typed form: with an Output inside a list the SDK itself refuses that one.
document: Any = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["logs:PutLogEvents"], "Resource": [logs.arn]}],
}
aws.iam.RolePolicy("net", role=log_role.id, policy=document, opts=made())
aws.ec2.FlowLog(
    "net", vpc_id=vpc.id, traffic_type="ALL", iam_role_arn=log_role.arn, log_destination=logs.arn, opts=made()
)

events = aws.cloudwatch.LogStream("net", log_group_name=logs.name, opts=made())
aws.cloudwatch.LogMetricFilter(
    "net",
    log_group_name=logs.name,
    pattern="{ $.model = * }",
    metric_transformation={
        "name": "Lines", "namespace": "Logs", "value": "1", "unit": "Count", "dimensions": {"Model": "$.model"},
    },
    opts=made(),
)  # fmt: skip
aws.cloudwatch.QueryDefinition(
    "net", name="net/all", log_group_names=[logs.name], query_string="fields @message", opts=made()
)
aws.cloudwatch.MetricAlarm(
    "net",
    namespace="Logs",
    metric_name="Lines",
    statistic="Sum",
    period=300,
    evaluation_periods=1,
    threshold=1,
    comparison_operator="GreaterThanOrEqualToThreshold",
    treat_missing_data="notBreaching",
    opts=made(),
)

# Storage

key = aws.kms.Key("models", enable_key_rotation=True, deletion_window_in_days=7, opts=made())
aws.kms.Alias("models", target_key_id=key.key_id, opts=made())
bucket = aws.s3.Bucket("Models", force_destroy=True, opts=made())
aws.s3.BucketVersioning("models", bucket=bucket.id, versioning_configuration={"status": "Enabled"}, opts=made())
aws.s3.BucketServerSideEncryptionConfiguration(
    "models",
    bucket=bucket.id,
    rules=[
        {
            "apply_server_side_encryption_by_default": {"sse_algorithm": "aws:kms", "kms_master_key_id": key.arn},
            "bucket_key_enabled": True,
        }
    ],
    opts=made(),
)
block = aws.s3.BucketPublicAccessBlock(
    "models",
    bucket=bucket.id,
    block_public_acls=True,
    block_public_policy=True,
    ignore_public_acls=True,
    restrict_public_buckets=True,
    opts=made(),
)
aws.s3.BucketOwnershipControls(
    "models", bucket=bucket.id, rule={"object_ownership": "BucketOwnerEnforced"}, opts=made()
)
aws.s3.BucketPolicy(
    "models",
    bucket=bucket.id,
    policy=pulumi.Output.json_dumps(
        {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": "s3:*",
                    "Resource": [bucket.arn],
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
            ],
        }
    ),
    opts=made(block),
)
aws.s3.BucketLifecycleConfiguration(
    "models",
    bucket=bucket.id,
    rules=[
        {
            "id": "old",
            "status": "Enabled",
            "filter": {"prefix": "models/"},
            "noncurrent_version_expiration": {"noncurrent_days": 30},
            "abort_incomplete_multipart_upload": {"days_after_initiation": 7},
        }
    ],
    opts=made(),
)
aws.s3.BucketLogging("models", bucket=bucket.id, target_bucket=bucket.id, target_prefix="log/", opts=made(block))
delivery = role("delivery", "firehose.amazonaws.com")
aws.kinesis.FirehoseDeliveryStream(
    "logs",
    destination="opensearch",
    server_side_encryption={"enabled": True, "key_type": "CUSTOMER_MANAGED_CMK", "key_arn": key.arn},
    opensearch_configuration={
        "domain_arn": "arn:aws:es:us-east-1:000000000000:domain/logs",
        "role_arn": delivery.arn,
        "index_name": "logs",
        "cloudwatch_logging_options": {"enabled": True, "log_group_name": logs.name, "log_stream_name": events.name},
        "s3_configuration": {"role_arn": delivery.arn, "bucket_arn": bucket.arn, "kms_key_arn": key.arn},
    },
    opts=made(),
)
aws.iam.Policy(
    "models",
    policy=bucket.arn.apply(
        lambda arn: json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": arn}]}
        )
    ),
    opts=made(),
)

# Alerts

topic = aws.sns.Topic("alerts", kms_master_key_id=key.arn, opts=made())
aws.sns.TopicSubscription("alerts", topic=topic.arn, protocol="email", endpoint="ops@example.com", opts=made())

# Cluster

cluster_role = role("cluster", "eks.amazonaws.com")
attachment = aws.iam.RolePolicyAttachment(
    "cluster",
    role=cluster_role.name,
    policy_arn="arn:aws:iam::aws:policy/AmazonEKSClusterPolicy",
    opts=made(),
)
cluster = aws.eks.Cluster(
    "cluster",
    role_arn=cluster_role.arn,
    version="1.33",
    access_config={"authentication_mode": "API", "bootstrap_cluster_creator_admin_permissions": True},
    vpc_config={
        "subnet_ids": subnet_ids,
        "endpoint_private_access": True,
        "endpoint_public_access": True,
        "public_access_cidrs": ["0.0.0.0/0"],
    },
    encryption_config={"provider": {"key_arn": key.arn}, "resources": ["secrets"]},
    enabled_cluster_log_types=["api", "audit"],
    deletion_protection=False,
    opts=made(attachment),
)
node_role = role("nodes", "ec2.amazonaws.com")
template = aws.ec2.LaunchTemplate(
    "nodes",
    metadata_options={"http_tokens": "required", "http_put_response_hop_limit": 1, "http_endpoint": "enabled"},
    block_device_mappings=[
        {"device_name": "/dev/xvda", "ebs": {"volume_size": 100, "volume_type": "gp3", "encrypted": "true"}}
    ],
    tag_specifications=[{"resource_type": "instance", "tags": {"pool": "l4"}}],
    update_default_version=True,
    opts=made(),
)
nodes = aws.eks.NodeGroup(
    "nodes",
    cluster_name=cluster.name,
    node_role_arn=node_role.arn,
    subnet_ids=subnet_ids,
    ami_type="AL2023_x86_64_NVIDIA",
    instance_types=["g6.xlarge"],
    scaling_config={"desired_size": config.get_int("nodes") or 1, "min_size": 1, "max_size": 3},
    launch_template={"id": template.id, "version": template.latest_version.apply(str)},
    labels={"llm-serving/pool": "l4"},
    taints=[{"key": "nvidia.com/gpu", "value": "present", "effect": "NO_SCHEDULE"}],
    update_config={"max_unavailable": 1},
    opts=made(),
)
aws.eks.Addon(
    "cni",
    cluster_name=cluster.name,
    addon_name="vpc-cni",
    resolve_conflicts_on_create="OVERWRITE",
    resolve_conflicts_on_update="OVERWRITE",
    opts=made(nodes),
)
entry = aws.eks.AccessEntry(
    "admin", cluster_name=cluster.name, principal_arn=log_role.arn, type="STANDARD", opts=made()
)
aws.eks.AccessPolicyAssociation(
    "admin",
    cluster_name=cluster.name,
    principal_arn=log_role.arn,
    policy_arn="arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy",
    access_scope={"type": "cluster"},
    opts=made(entry),
)
aws.eks.PodIdentityAssociation(
    "model",
    cluster_name=cluster.name,
    namespace="llm-serving",
    service_account="model",
    role_arn=node_role.arn,
    opts=made(),
)

# Cache

secret = aws.secretsmanager.Secret("cache", recovery_window_in_days=0, kms_key_id=key.arn, opts=made())
version = aws.secretsmanager.SecretVersion(
    "cache", secret_id=secret.id, secret_string=pulumi.Output.secret("canary-0123456789-0123456789"), opts=made()
)
cache_subnets = aws.elasticache.SubnetGroup("cache", subnet_ids=subnet_ids, opts=made())
parameters = aws.elasticache.ParameterGroup(
    "cache", family="valkey8", parameters=[{"name": "maxmemory-policy", "value": "allkeys-lru"}], opts=made()
)
aws.elasticache.ReplicationGroup(
    "Cache",
    description="semantic cache",
    engine="valkey",
    engine_version="8.2",
    node_type="cache.t4g.small",
    num_cache_clusters=1,
    parameter_group_name=parameters.name,
    subnet_group_name=cache_subnets.name,
    security_group_ids=[group.id],
    transit_encryption_enabled=True,
    at_rest_encryption_enabled=True,
    auth_token=version.secret_string,
    auth_token_update_strategy="SET",
    opts=made(),
)
users = [
    aws.elasticache.User(
        name,
        user_id=f"user-{name}",
        user_name=name,
        access_string=access,
        engine="valkey",
        authentication_mode={"type": "password", "passwords": [pulumi.Output.secret("canary-0123456789")]},
        opts=made(),
    )
    for name, access in (("default", "off ~keys* -@all"), ("gateway", "on ~* +@all"))
]
aws.elasticache.UserGroup(
    "cache", engine="valkey", user_group_id="users", user_ids=[user.user_id for user in users], opts=made()
)

# Edge

balancer = aws.lb.LoadBalancer(
    "a-name-that-is-too-long-for-it", internal=True, load_balancer_type="network", subnets=subnet_ids, opts=made()
)
targets = aws.lb.TargetGroup(
    "gateway",
    port=8080,
    protocol="TCP",
    target_type="ip",
    vpc_id=vpc.id,
    health_check={"protocol": "HTTP", "path": "/health/ready", "port": "8080", "matcher": "200-299"},
    deregistration_delay=30,
    opts=made(),
)
aws.lb.Listener(
    "gateway",
    load_balancer_arn=balancer.arn,
    port=80,
    protocol="TCP",
    default_actions=[{"type": "forward", "target_group_arn": targets.arn}],
    opts=made(),
)
api = aws.apigateway.RestApi(
    "api",
    endpoint_configuration={"types": "REGIONAL"},
    security_policy="SecurityPolicy_TLS13_1_2_2021_06",
    endpoint_access_mode="BASIC",
    opts=made(),
)
resource = aws.apigateway.Resource(
    "api", rest_api=api.id, parent_id=api.root_resource_id, path_part="{proxy+}", opts=made()
)
validator = aws.apigateway.RequestValidator("api", rest_api=api.id, validate_request_body=True, opts=made())
method = aws.apigateway.Method(
    "api",
    rest_api=api.id,
    resource_id=resource.id,
    http_method="ANY",
    authorization="NONE",
    api_key_required=True,
    request_parameters={"method.request.path.proxy": True},
    opts=made(),
)
link = aws.apigateway.VpcLink("api", target_arn=balancer.arn, opts=made())
integration = aws.apigateway.Integration(
    "api",
    rest_api=api.id,
    resource_id=resource.id,
    http_method=method.http_method,
    type="HTTP_PROXY",
    integration_http_method="ANY",
    uri=balancer.dns_name.apply(lambda name: f"http://{name}/{{proxy}}"),
    connection_type="VPC_LINK",
    connection_id=link.id,
    response_transfer_mode="STREAM",
    request_parameters={"integration.request.path.proxy": "method.request.path.proxy"},
    opts=made(),
)
refusal = aws.apigateway.Response(
    "api",
    rest_api_id=api.id,
    response_type="DEFAULT_4XX",
    response_templates={"application/json": '{"message":$context.error.messageString}'},
    response_parameters={"gatewayresponse.header.Access-Control-Allow-Origin": "'https://app.example'"},
    opts=made(),
)
deployment = aws.apigateway.Deployment(
    "api", rest_api=api.id, triggers={"version": "1"}, opts=made(method, integration, refusal)
)
stage = aws.apigateway.Stage(
    "api", rest_api=api.id, deployment=deployment.id, stage_name="v1", xray_tracing_enabled=True, opts=made()
)
aws.apigateway.MethodSettings(
    "api",
    rest_api=api.id,
    stage_name=stage.stage_name,
    method_path="*/*",
    settings={"metrics_enabled": True, "logging_level": "INFO", "throttling_rate_limit": 10},
    opts=made(),
)
api_key = aws.apigateway.ApiKey("api", opts=made())
plan = aws.apigateway.UsagePlan(
    "api",
    api_stages=[{"api_id": api.id, "stage": stage.stage_name}],
    throttle_settings={"rate_limit": 50, "burst_limit": 100},
    opts=made(),
)
aws.apigateway.UsagePlanKey("api", key_id=api_key.id, key_type="API_KEY", usage_plan_id=plan.id, opts=made())
aws.apigateway.Account("api", cloudwatch_role_arn=log_role.arn, opts=made())


def seen(name: str) -> aws.wafv2.WebAclVisibilityConfigArgsDict:
    return {"cloudwatch_metrics_enabled": True, "metric_name": name, "sampled_requests_enabled": False}


callers = aws.wafv2.IpSet("api", scope="REGIONAL", ip_address_version="IPV4", addresses=["203.0.113.0/24"], opts=made())
firewall = aws.wafv2.WebAcl(
    "api",
    scope="REGIONAL",
    default_action={"allow": {}},
    visibility_config=seen("api"),
    data_protection_config={"data_protections": [{"action": "SUBSTITUTION", "field": {"field_type": "BODY"}}]},
    rules=[
        {
            "name": "rate", "priority": 1, "action": {"block": {}},
            "visibility_config": seen("rate"),
            "statement": {
                "rate_based_statement": {"limit": 2000, "aggregate_key_type": "IP", "evaluation_window_sec": 300}
            },
        },
        {
            "name": "known", "priority": 2, "override_action": {"none": {}},
            "visibility_config": seen("known"),
            "statement": {"managed_rule_group_statement": {
                "vendor_name": "AWS", "name": "AWSManagedRulesCommonRuleSet",
                "rule_action_overrides": [{"name": "SizeRestrictions_BODY", "action_to_use": {"count": {}}}],
            }},
        },
        {
            "name": "callers", "priority": 3, "action": {"count": {}},
            "visibility_config": seen("callers"),
            "statement": {"not_statement": {"statement": {"ip_set_reference_statement": {"arn": callers.arn}}}},
        },
    ],
    opts=made(),
)  # fmt: skip
aws.wafv2.WebAclAssociation("api", resource_arn=stage.arn, web_acl_arn=firewall.arn, opts=made())
blocked = aws.cloudwatch.LogGroup("blocked", name=firewall.name.apply(lambda name: f"aws-waf-logs-{name}"), opts=made())
writes: dict[str, Any] = {
    "Effect": "Allow", "Principal": {"Service": "delivery.logs.amazonaws.com"}, "Action": "logs:PutLogEvents",
}  # fmt: skip
aws.cloudwatch.LogResourcePolicy(
    "blocked",
    policy_name=blocked.name,
    policy_document=blocked.arn.apply(
        lambda arn: json.dumps({"Version": "2012-10-17", "Statement": [{**writes, "Resource": f"{arn}:*"}]})
    ),
    opts=made(),
)
aws.wafv2.WebAclLoggingConfiguration(
    "api",
    resource_arn=firewall.arn,
    log_destination_configs=[blocked.arn],
    redacted_fields=[{"single_header": {"name": "x-api-key"}}, {"query_string": {}}],
    logging_filter={
        "default_behavior": "DROP",
        "filters": [
            {
                "behavior": "KEEP",
                "requirement": "MEETS_ANY",
                "conditions": [{"action_condition": {"action": "BLOCK"}}],
            }
        ],
    },
    opts=made(),
)
zone = aws.route53.Zone("api", name="example.com", opts=made())
domain = aws.apigateway.DomainName(
    "api",
    domain_name="llm.example.com",
    regional_certificate_arn="arn:aws:acm:us-east-1:000000000000:certificate/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f",
    endpoint_configuration={"types": "REGIONAL"},
    security_policy="TLS_1_2",
    opts=made(),
)
aws.apigateway.BasePathMapping(
    "api", rest_api=api.id, stage_name=stage.stage_name, domain_name=domain.domain_name, opts=made()
)
aws.route53.Record(
    "api",
    zone_id=zone.zone_id,
    name="llm.example.com",
    type="A",
    aliases=[
        {"name": domain.regional_domain_name, "zone_id": domain.regional_zone_id, "evaluate_target_health": False}
    ],
    opts=made(),
)
repository = aws.ecr.Repository(
    "Images",
    image_tag_mutability="IMMUTABLE",
    image_scanning_configuration={"scan_on_push": True},
    encryption_configurations=[{"encryption_type": "KMS", "kms_key": key.arn}],
    force_delete=True,
    opts=made(),
)
pulling = {"Principal": {"AWS": ["123456789012"]}, "Effect": "Allow", "Action": ["ecr:BatchGetImage"]}
aws.ecr.RepositoryPolicy(
    "images",
    repository=repository.name,
    policy=json.dumps({"Version": "2012-10-17", "Statement": [pulling]}),
    opts=made(),
)
expiry = {
    "rulePriority": 1,
    "selection": {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14},
    "action": {"type": "expire"},
}
aws.ecr.LifecyclePolicy(
    "images",
    repository=repository.name,
    policy=json.dumps({"rules": [expiry]}),
    opts=made(),
)

pulumi.export("account", identity.account_id)
pulumi.export("apiKey", api_key.value)
pulumi.export("balancer", balancer.name)
pulumi.export("bucket", bucket.bucket)
pulumi.export("certificate", cluster.certificate_authority.data)
pulumi.export("clusterVersion", aws.eks.get_cluster_output(name=cluster.name, opts=call).version)
pulumi.export("nodes", nodes.scaling_config.desired_size)
pulumi.export("partition", aws.get_partition(opts=call).partition)
pulumi.export("region", aws.get_region(opts=call).region)
pulumi.export("vpcId", vpc.id)
pulumi.export("vpcRanges", aws.ec2.get_vpc_output(id=vpc.id, opts=call).cidr_block_associations[0].cidr_block)
pulumi.export("vpcRegion", vpc.region)
pulumi.export("zones", zones.names[:2])
