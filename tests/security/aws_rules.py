"""The controls on AWS resources, by resource type."""

import json
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from tests.security import edge_rules, policies
from tests.security.controls import Rule, Thing, absent, at_least, equals, has, present, protected

S3 = "aws:s3/bucket"
ENCRYPTION = f"{S3}ServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
BLOCKS = ("blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets")
PRIVATE = "network-private-"
CONTROL_PLANE_LOGS = ["api", "audit", "authenticator", "controllerManager", "scheduler"]
RETENTION_DAYS = {"prod": 365}
"""CloudWatch.16 asks for a year; what is rehearsed or tried out is kept for a month."""
ENDPOINTS = ("ec2", "ecr.api", "ecr.dkr")
"""What EC2.10, EC2.55 and EC2.56 ask for."""
NO_PROMPT = {"$context.requestId", "$context.identity.apiKeyId", "$context.identity.sourceIp", "$context.httpMethod",
             "$context.path", "$context.status", "$context.responseLength", "$context.responseLatency",
             "$context.integrationLatency", "$context.integrationErrorMessage", "$context.requestTime"}  # fmt: skip
"""Variables of API Gateway that hold neither a body nor a key."""


MARK = "integration.request.header.x-llm-authentication"
"""What the gateway knows by that a request must have a token."""


def all_blocked(thing: Thing) -> Iterator[str]:
    yield from (f"{name} is off" for name in BLOCKS if thing.get(name) is not True)


def refuses_plain_http(thing: Thing) -> Iterator[str]:
    conditions = [each["Condition"] for each in policies.statements(thing.get("policy")) if each["Effect"] == "Deny"]
    if {"Bool": {"aws:SecureTransport": "false"}} not in conditions:
        yield "accepts requests without TLS"
    if {"NumericLessThan": {"s3:TlsVersion": "1.2"}} not in conditions:
        yield "accepts TLS below 1.2"


def every_lifecycle_ends(thing: Thing) -> Iterator[str]:
    if not any("noncurrentVersionExpiration" in rule for rule in thing.get("rules")):
        yield "keeps noncurrent versions for ever"


def retention(thing: Thing) -> Iterator[str]:
    yield from at_least("retentionInDays", RETENTION_DAYS.get(thing.stack, 30))(thing)


def has_flow_log(thing: Thing) -> Iterator[str]:
    logs = thing.beside("aws:ec2/flowLog:FlowLog", vpcId=f"{thing.name}-id", trafficType="ALL")
    if not logs:
        yield "no flow log of all its traffic"


def closed_default_group(thing: Thing) -> Iterator[str]:
    type_ = "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup"
    groups = thing.beside(type_, vpcId=f"{thing.name}-id")
    if not groups or any(group.get("ingress") or group.get("egress") for group in groups):
        yield "its default security group lets traffic through"


def reaches_services_privately(thing: Thing) -> Iterator[str]:
    names = {other.get("serviceName") for other in thing.beside("aws:ec2/vpcEndpoint:VpcEndpoint")}
    have = {str(name).partition("com.amazonaws.")[2].partition(".")[2] for name in names}
    yield from (f"no interface endpoint for {service}" for service in ENDPOINTS if service not in have)


def private_route(thing: Thing) -> Iterator[str]:
    if "gatewayId" in thing.inputs and PRIVATE in str(thing.get("routeTableId")):
        yield "leads from a private subnet to the internet gateway"


def narrow_source(thing: Thing) -> Iterator[str]:
    cidr = thing.get("cidrIpv4")
    if cidr and ip_network(cidr).prefixlen < 8:
        yield f"from {cidr}"
    if thing.get("ipProtocol") == "-1":
        yield "every protocol"
    if not cidr and not thing.get("referencedSecurityGroupId"):
        yield "names neither a range nor a security group"


def in_private_subnets(path: str) -> Any:
    def check(thing: Thing) -> Iterator[str]:
        subnets = thing.items(path)
        yield from (f"{path}: {subnet} is not private" for subnet in subnets if PRIVATE not in str(subnet))
        if len(subnets) < 2:
            yield f"{path}: fewer than two zones"

    return check


def disks_encrypted(thing: Thing) -> Iterator[str]:
    for device in thing.items("blockDeviceMappings") or [{}]:
        if device.get("ebs", {}).get("encrypted") != "true":
            yield f"{device.get('deviceName')} is not encrypted"


def disks_with_own_key(thing: Thing) -> Iterator[str]:
    for device in thing.items("blockDeviceMappings") or [{}]:
        if not device.get("ebs", {}).get("kmsKeyId"):
            yield f"{device.get('deviceName')} is encrypted with the account's default key"


def no_public_address(thing: Thing) -> Iterator[str]:
    for interface in thing.items("networkInterfaces"):
        if interface.get("associatePublicIpAddress") != "false":
            yield "gives instances public addresses"


def api_server_private(thing: Thing) -> Iterator[str]:
    if thing.get("endpointPublicAccess") is not False:
        yield f"the API server can be reached from {', '.join(thing.items('publicAccessCidrs') or ['anywhere'])}"


def api_server_not_for_everybody(thing: Thing) -> Iterator[str]:
    if thing.get("endpointPublicAccess") is not False:
        for cidr in thing.items("publicAccessCidrs") or ["0.0.0.0/0"]:
            if ip_network(cidr).prefixlen < 16:
                yield f"{cidr} is half the internet"


def logs_nothing_private(thing: Thing) -> Iterator[str]:
    used = set(json.loads(thing.get("accessLogSettings.format") or "{}").values())
    yield from (f"logs {variable}" for variable in sorted(used - NO_PROMPT))
    if not used:
        yield "has no access log"


def needs_key_or_token(thing: Thing) -> Iterator[str]:
    if thing.get("apiKeyRequired") is True or thing.get("httpMethod") == "OPTIONS":
        return  # a browser's preflight, which the gateway answers by itself
    integrations = thing.beside("aws:apigateway/integration:Integration", resourceId=thing.get("resourceId"))
    if not integrations or any(each.fields("requestParameters").get(MARK) != "'TOKEN'" for each in integrations):
        yield "anybody may call it"


def has_firewall(thing: Thing) -> Iterator[str]:
    arn = f":stage/{thing.name}"
    on = [str(each.get("resourceArn")) for each in thing.beside("aws:wafv2/webAclAssociation:WebAclAssociation")]
    if not any(each.endswith(arn) for each in on):
        yield "no web ACL"


def has_rotation(thing: Thing) -> Iterator[str]:
    if not thing.beside("aws:secretsmanager/secretRotation:SecretRotation", secretId=f"{thing.name}-id"):
        yield "is not rotated by Secrets Manager"


def kept_secret(path: str) -> Any:
    def check(thing: Thing) -> Iterator[str]:
        value = thing.get(path)
        if not isinstance(value, Mapping) or set(value) != {"secret"}:  # pyright: ignore[reportUnknownArgumentType]
            yield f"{path} is not marked secret"

    return check


def not_http(thing: Thing) -> Iterator[str]:
    if thing.get("protocol") not in ("email", "https", "sqs", "lambda"):
        yield f"tells {thing.get('protocol')}"


def own_account_only(thing: Thing) -> Iterator[str]:
    if len(json.loads(thing.get("allowedAccountIds") or "[]")) != 1:
        yield "may reach any account"


def aws_managed(thing: Thing) -> Iterator[str]:
    yield f"attaches {thing.get('policyArn').rpartition(':')[2]}"


ONE_KEY = "its own KMS key"
RULES: Mapping[str, Sequence[Rule]] = {
    **edge_rules.RULES,
    "aws:kms/key:Key": (
        Rule("AWS KMS.4", "Keys rotate every year", "`_keys.encryption_key`", equals("enableKeyRotation", True)),
        Rule("AWS KMS.3", "A key lives on for 30 days after its deletion is asked for", "`_keys.encryption_key`",
             equals("deletionWindowInDays", 30)),
        Rule("AWS KMS.5", "Nobody outside the account uses a key", "`_iam.key_policy`", policies.principals("policy")),
        Rule("AWS IAM.21", "No wildcard", "`_iam.key_policy`", policies.wildcards("policy")),
        Rule("own D1", "What can't be made again is guarded", "`protect` of the component", protected),
    ),
    f"{S3}:Bucket": (
        Rule("AWS S3.2, S3.3, S3.8", "Public access is blocked", "`ModelBucket._close`",
             has(f"{S3}PublicAccessBlock:BucketPublicAccessBlock", "bucket", all_blocked)),
        Rule("AWS S3.12", "ACLs are off", "`ModelBucket._close`",
             has(f"{S3}OwnershipControls:BucketOwnershipControls", "bucket",
                 equals("rule.objectOwnership", "BucketOwnerEnforced"))),
        Rule("AWS S3.5", "TLS 1.2 or newer only", "`_iam.tls_only`, `requireTls`",
             has(f"{S3}Policy:BucketPolicy", "bucket", refuses_plain_http)),
        Rule("AWS S3.14", "Versioning", "`ModelBucket._keep`",
             has(f"{S3}Versioning:BucketVersioning", "bucket", equals("versioningConfiguration.status", "Enabled"))),
        Rule("AWS S3.13", "Lifecycle rules", "`ModelBucket._keep`",
             has(f"{S3}LifecycleConfiguration:BucketLifecycleConfiguration", "bucket", every_lifecycle_ends)),
        Rule("AWS S3.9", "Every request is logged", "`ModelBucket._log_access`",
             has(f"{S3}Logging:BucketLogging", "bucket", present("targetBucket"))),
        Rule("S3.17", "Encrypted with " + ONE_KEY, "`ModelBucket._guard`",
             has(ENCRYPTION, "bucket", present("rules.0.applyServerSideEncryptionByDefault.kmsMasterKeyId"))),
        Rule("own D1", "What can't be made again is guarded", "`protect` of the component", protected),
        Rule("own D2", "Destroying it deletes nothing that is in it", "`protect`", equals("forceDestroy", False)),
    ),
    f"{S3}Policy:BucketPolicy": (
        Rule("AWS S3.6", "Nobody outside the account may do anything", "`_iam`", policies.principals("policy")),
        Rule("AWS IAM.21", "No wildcard", "`_iam.access_log_delivery`", policies.wildcards("policy")),
    ),
    "aws:cloudwatch/logGroup:LogGroup": (
        Rule("own E1", "Logs are encrypted with a key of their own", "`Network`, `GpuCluster`, `ApiGateway`",
             present("kmsKeyId")),
        Rule("AWS CloudWatch.16", "Logs are kept for a year in prod, a month elsewhere", "`logRetentionDays`",
             retention),
    ),
    "aws:ec2/vpc:Vpc": (
        Rule("AWS EC2.6", "Flow logs of all traffic", "`Network._flow_logs`", has_flow_log),
        Rule("AWS EC2.2", "The default security group is closed", "`Network`", closed_default_group),
        Rule("AWS EC2.10, EC2.55, EC2.56", "AWS services by private addresses", "`network.interfaceEndpoints`",
             reaches_services_privately),
    ),
    "aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": (
        Rule("AWS EC2.2", "The default security group is closed", "`Network`", absent("ingress")),
    ),
    "aws:ec2/flowLog:FlowLog": (
        Rule("AWS EC2.6", "Flow logs of all traffic", "`Network._flow_logs`", equals("trafficType", "ALL")),
    ),
    "aws:ec2/subnet:Subnet": (
        Rule("AWS EC2.15", "No subnet gives out public addresses", "`Network`",
             equals("mapPublicIpOnLaunch", False)),
    ),
    "aws:ec2/route:Route": (
        Rule("own N1", "Private subnets reach the internet through NAT only", "`Network._routes`", private_route),
    ),
    "aws:ec2/vpcEndpoint:VpcEndpoint": (
        Rule("own N2", "An endpoint lets only this account's principals through", "none", present("policy")),
    ),
    "aws:ec2/securityGroup:SecurityGroup": (
        Rule("own N3", "Rules are resources of their own, each with its reason", "every component",
             lambda thing: [*absent("ingress")(thing), *absent("egress")(thing), *present("description")(thing)]),
    ),
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": (
        Rule("AWS EC2.18, EC2.19", "No port is open to the internet", "every component", narrow_source),
        Rule("own N3", "Rules are resources of their own, each with its reason", "every component",
             present("description")),
    ),
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": (
        Rule("own N4", "The load balancer reaches the pods and nothing else", "`LlmGateway._load_balancer`",
             narrow_source),
    ),
    "aws:ec2/launchTemplate:LaunchTemplate": (
        Rule("AWS EC2.8, EC2.170", "IMDSv2 only", "`_node_groups.launch_template`",
             equals("metadataOptions.httpTokens", "required")),
        Rule("AWS EC2.3", "Disks are encrypted", "`_node_groups.launch_template`", disks_encrypted),
        Rule("own E2", "Disks are encrypted with a key of their own", "none", disks_with_own_key),
        Rule("AWS EC2.25", "Nodes have no public address", "private subnets", no_public_address),
        Rule("own I3", "Pods can't take a node's role: one hop", "`_node_groups.launch_template`",
             equals("metadataOptions.httpPutResponseHopLimit", 1)),
        Rule("own N5", "No SSH key", "`_node_groups.launch_template`", absent("keyName")),
    ),
    "eks:index:Cluster": (
        Rule("AWS EKS.1; CIS 5.4.2", "The API server is private", "`cluster.publicAccessCidrs`", api_server_private),
        Rule("CIS 5.4.1", "A public API server is limited by address", "`cluster.publicAccessCidrs`",
             api_server_not_for_everybody),
        Rule("CIS 5.4.2", "Nodes reach the API server privately", "`GpuCluster`",
             equals("endpointPrivateAccess", True)),
        Rule("AWS EKS.3; CIS 5.3.1", "Secrets are encrypted with " + ONE_KEY, "`GpuCluster`",
             present("encryptionConfigKeyArn")),
        Rule("AWS EKS.8; CIS 2.1.1", "All control-plane logs", "`cluster.CONTROL_PLANE_LOGS`",
             equals("enabledClusterLogTypes", CONTROL_PLANE_LOGS)),
        Rule("CIS 5.5.1", "Access by IAM and access entries", "`GpuCluster`", equals("authenticationMode", "API")),
        Rule("CIS 4.3.1, 5.4.4", "Network policies are enforced", "`GpuCluster`, `vpcCniOptions`",
             equals("vpcCniOptions.enableNetworkPolicy", True)),
        Rule("CIS 5.4.3", "Control plane and nodes are in private subnets", "`Network`",
             in_private_subnets("privateSubnetIds")),
        Rule("own D3", "AWS refuses to delete it", "`protect`", equals("deletionProtection", True)),
    ),
    "eks:index:ManagedNodeGroup": (
        Rule("CIS 5.4.3", "Control plane and nodes are in private subnets", "`Network`",
             in_private_subnets("subnetIds")),
        Rule("own N6", "Its launch template is ours", "`GpuCluster._node_group`", present("launchTemplate.id")),
        Rule("own N5", "No SSH key", "`GpuCluster._node_group`", absent("remoteAccess")),
    ),
    "aws:iam/role:Role": (
        Rule("own I1", "One service takes a role, for this account only", "`_iam.service_trust`", policies.trust),
    ),
    "aws:iam/rolePolicy:RolePolicy": (
        Rule("AWS IAM.1, IAM.21", "No wildcard", "`_iam`", policies.wildcards("policy")),
    ),
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": (
        Rule("own I2", "No policy that AWS writes and widens", "`_iam`", aws_managed),
    ),
    "aws:elasticache/replicationGroup:ReplicationGroup": (
        Rule("AWS ElastiCache.5", "TLS only", "`SemanticCache`", equals("transitEncryptionMode", "required")),
        Rule("AWS ElastiCache.4", "Encrypted with " + ONE_KEY, "`SemanticCache`",
             lambda thing: [*equals("atRestEncryptionEnabled", True)(thing), *present("kmsKeyId")(thing)]),
        Rule("AWS ElastiCache.6", "A password, which is a secret", "`SemanticCache._token`", kept_secret("authToken")),
        Rule("AWS ElastiCache.3", "Fails over to another zone", "`cache.replicas`",
             lambda thing: [*equals("automaticFailoverEnabled", True)(thing), *equals("multiAzEnabled", True)(thing)]),
        Rule("AWS ElastiCache.1", "Daily snapshots", "`cache.snapshotRetentionDays`",
             at_least("snapshotRetentionLimit", 1)),
        Rule("AWS ElastiCache.2", "Minor versions come by themselves", "`SemanticCache`",
             equals("autoMinorVersionUpgrade", True)),
        Rule("AWS ElastiCache.7", "A subnet group of its own", "`SemanticCache`", present("subnetGroupName")),
        Rule("own D1", "What can't be made again is guarded", "`protect` of the component", protected),
        Rule("own D4", "A last snapshot is taken", "`protect`", present("finalSnapshotIdentifier")),
    ),
    "aws:secretsmanager/secret:Secret": (
        Rule("own E3", "Encrypted with " + ONE_KEY, "`SemanticCache`", present("kmsKeyId")),
        Rule("AWS SecretsManager.1", "Rotation", "none", has_rotation),
        Rule("own D1", "What can't be made again is guarded", "`protect` of the component", protected),
        Rule("own D5", "Can be brought back for 30 days", "`protect`", equals("recoveryWindowInDays", 30)),
    ),
    "aws:secretsmanager/secretVersion:SecretVersion": (
        Rule("own S1", "Marked secret", "`SemanticCache`", kept_secret("secretString")),
    ),
    "aws:apigateway/restApi:RestApi": (
        Rule("own T1", "TLS 1.2 or newer only", "`api_gateway.SECURITY_POLICY`",
             equals("securityPolicy", "SecurityPolicy_TLS13_1_2_2021_06")),
    ),
    "aws:apigateway/method:Method": (
        Rule("own A1", "Every call needs a key, or a token that the gateway checks", "`ApiGateway._proxy`",
             needs_key_or_token),
    ),
    "aws:apigateway/integration:Integration": (
        Rule("own N7", "Requests stay in AWS's network", "`ApiGateway._proxy`", equals("connectionType", "VPC_LINK")),
    ),
    "aws:apigateway/stage:Stage": (
        Rule("AWS APIGateway.9", "An access log without prompt, answer or key", "`api_gateway.ACCESS_LOG_FIELDS`",
             logs_nothing_private),
        Rule("AWS APIGateway.3", "X-Ray tracing", "`ApiGateway._stage`", equals("xrayTracingEnabled", True)),
        Rule("AWS APIGateway.2", "A client certificate towards the backend", "none", present("clientCertificateId")),
        Rule("AWS APIGateway.4", "A web ACL", "`apiGateway.firewall`", has_firewall),
    ),
    "aws:apigateway/methodSettings:MethodSettings": (
        Rule("AWS APIGateway.1", "Execution log", "`ApiGateway._stage`", equals("settings.loggingLevel", "ERROR")),
        Rule("own L1", "No prompt in the execution log", "`ApiGateway._stage`",
             equals("settings.dataTraceEnabled", False)),
        Rule("own A2", "All callers together are limited", "`apiGateway.requestsPerSecond`",
             at_least("settings.throttlingRateLimit", 0.1)),
        Rule("AWS APIGateway.5", "No cache that would hold answers", "`ApiGateway._stage`",
             absent("settings.cachingEnabled")),
    ),
    "aws:apigateway/usagePlan:UsagePlan": (
        Rule("own A2", "Each caller is limited", "`apiGateway.usagePlans`",
             at_least("throttleSettings.rateLimit", 0.1)),
    ),
    "aws:lb/loadBalancer:LoadBalancer": (
        Rule("AWS ELB.6", "AWS refuses to delete it", "`protect`", equals("enableDeletionProtection", True)),
        Rule("AWS ELB.13", "In two zones or more, private", "`LlmGateway`", in_private_subnets("subnets")),
        Rule("own N8", "Not reachable from the internet", "`LlmGateway`", equals("internal", True)),
        Rule("own N9", "Has a security group", "`LlmGateway`", present("securityGroups")),
    ),
    "aws:lb/listener:Listener": (
        Rule("AWS ELB.18", "TLS to the pods", "none", equals("protocol", "TLS")),
    ),
    "aws:sns/topic:Topic": (
        Rule("AWS SNS.1", "Encrypted with " + ONE_KEY, "`Monitoring._topic`", present("kmsMasterKeyId")),
    ),
    "aws:sns/topicSubscription:TopicSubscription": (
        Rule("own T2", "No alert in plain text over HTTP", "`monitoring.alertEmails`", not_http),
    ),
    "aws:s3/bucketLogging:BucketLogging": (
        Rule("AWS S3.9", "Every request is logged", "`ModelBucket._log_access`", present("targetBucket")),
    ),
    "kubernetes:core/v1:Secret": (
        Rule("own S1", "Marked secret", "`LlmGateway._pods`", kept_secret("data")),
    ),
    "pulumi:providers:aws": (
        Rule("own P1", "Reaches one account only", "`infra.providers`", own_account_only),
    ),
    "pulumi:providers:kubernetes": (
        Rule("own S1", "Marked secret", "`infra.providers`", kept_secret("kubeconfig")),
    ),
}  # fmt: skip
"""The rules of each type."""

PART = "checked with what it belongs to"
NOTHING_TO_SECURE: Mapping[str, str] = {
    **{
        f"llm-serving:index:{name}": "a component: its resources are checked"
        for name in (
            "ApiGateway", "Autoscaling", "EmbeddingService", "GpuAgents", "GpuCluster", "InferenceService",
            "LlmGateway", "Logging", "ModelBucket", "Monitoring", "Network", "NodeAutoscaling", "SemanticCache",
        )
    },
    f"{S3}LifecycleConfiguration:BucketLifecycleConfiguration": PART,
    f"{S3}OwnershipControls:BucketOwnershipControls": PART,
    f"{S3}PublicAccessBlock:BucketPublicAccessBlock": PART,
    ENCRYPTION: PART,
    f"{S3}Versioning:BucketVersioning": PART,
    "aws:apigateway/account:Account": "names the role by which API Gateway logs, which is checked",
    "aws:apigateway/apiKey:ApiKey": "AWS makes its value, which Pulumi keeps as a secret output",
    "aws:apigateway/deployment:Deployment": "a snapshot of methods and integrations, which are checked",
    "aws:apigateway/resource:Resource": "a path; its methods are checked",
    "aws:apigateway/usagePlanKey:UsagePlanKey": "joins a key with its plan",
    "aws:wafv2/webAclAssociation:WebAclAssociation": "joins a stage with its web ACL, which are checked",
    "aws:apigateway/vpcLink:VpcLink": "a private connection to the load balancer, which is checked",
    "aws:cloudwatch/logMetricFilter:LogMetricFilter": "counts lines, by fields that test_log_queries.py checks",
    "aws:cloudwatch/queryDefinition:QueryDefinition": "a text; who runs it needs leave to read the logs",
    "aws:ec2/eip:Eip": "the address of a NAT gateway: nothing listens on it",
    "aws:ec2/internetGateway:InternetGateway": "routes decide who uses it, and are checked",
    "aws:ec2/natGateway:NatGateway": "lets connections out only",
    "aws:ec2/routeTable:RouteTable": "its routes are checked",
    "aws:ec2/routeTableAssociation:RouteTableAssociation": "joins a subnet with its table",
    "aws:eks/addon:Addon": "AWS's own add-on, in AWS's own configuration",
    "aws:eks/podIdentityAssociation:PodIdentityAssociation": "its role's policy is checked",
    "aws:elasticache/parameterGroup:ParameterGroup": "sets what is evicted first",
    "aws:elasticache/subnetGroup:SubnetGroup": "private subnets, as the cluster's are checked to be",
    "aws:lb/targetGroup:TargetGroup": "its targets are pods, whose policies are checked",
    "kubernetes:core/v1:ConfigMap": "a dashboard: queries, and no answers",
    "kubernetes:monitoring.coreos.com/v1:PrometheusRule": "queries, and no answers",
    "kubernetes:monitoring.coreos.com/v1:ServiceMonitor": "names what Prometheus reads",
}  # fmt: skip
"""Types without rules, each with the reason."""
