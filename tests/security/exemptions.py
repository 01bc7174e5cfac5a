"""The controls that a stack does not satisfy, each with the reason that it stays so.

One that covers nothing fails the walk, as does a finding without one.
"""

from collections.abc import Sequence

from tests.security.aws_rules import S3
from tests.security.controls import Exemption

KEY = "aws:kms/key:Key"
POLICY = "aws:iam/rolePolicy:RolePolicy"
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
BY_ASSOCIATION = "EKS Pod Identity hands a role to the pods of an association of the role's own account only."
AGENT = "Talks to the kubelet through a socket in a folder of the node's that only root may use."
ALWAYS_THE_KEY = 'A key policy\'s resource "*" is the key itself.'

AWS: Sequence[Exemption] = (
    Exemption("AWS IAM.21", KEY, "*", detail="Action kms:[*]",
              reason="Without it nobody, the account's administrators included, could manage the key: it hands the"
              " decision to the account's IAM policies."),
    Exemption("AWS IAM.21", KEY, "*", detail="Resource [*]", reason=ALWAYS_THE_KEY),
    *(
        Exemption("AWS IAM.21", KEY, name, detail=f"Action kms:{action}[*]",
                  reason="The family of calls that CloudWatch Logs asks for, for this account's log groups only.")
        for name in ("network-flow-logs", "cluster-key", "api-logs", "logging-key")
        for action in ("ReEncrypt", "GenerateDataKey")
    ),
    *(
        Exemption("own D1", KEY, name, reason="Encrypts logs, which end by themselves. Its 30 days of grace are guard"
                  " enough.")
        for name in ("network-flow-logs", "api-logs")
    ),
    Exemption("own D1", KEY, "monitoring-key", reason="Encrypts alerts on their way; none is kept."),
    Exemption("AWS IAM.1, IAM.21", POLICY, "monitoring-publish", detail="Action kms:GenerateDataKey[*]",
              reason="What SNS asks of who publishes to an encrypted topic; one key, through SNS only."),
    Exemption("AWS IAM.21", f"{S3}Policy:BucketPolicy", "models-access-logs", detail="Resource */[*]",
              reason="S3 chooses the names of the log objects; only S3 may write them, for one bucket."),
    Exemption("AWS IAM.1, IAM.21", POLICY, "*-weights", detail="Resource *:bucket/models-bucket/models/*/[*]",
              reason="The files of one revision of one model: their names are the model's own."),
    Exemption("AWS IAM.1, IAM.21", POLICY, "network-flow-logs", detail="Resource *:[*]",
              reason="The streams of one log group: AWS names them."),
    Exemption("AWS IAM.1, IAM.21", POLICY, "logging-pods", detail="Resource *:[*]",
              reason="The streams of three log groups: Fluent Bit names them by node and pod."),
    Exemption("AWS IAM.1, IAM.21", POLICY, "node-autoscaling-resize", detail="Resource [*]",
              reason="It only describes groups, launch templates and instance types: AWS knows no resource for these."),
    Exemption("AWS IAM.1, IAM.21", POLICY, "node-autoscaling-resize", detail="Resource *autoScalingGroup:[*]*",
              reason="AWS names the groups; the condition asks for the tag that EKS gives those of this cluster."),
    Exemption("AWS IAM.1, IAM.21", POLICY, "node-autoscaling-resize", detail="Resource *:nodegroup/*",
              reason="All node groups of one cluster."),
    *(
        Exemption("own I2", ATTACHMENT, f"cluster-node-{policy}", reason=reason)
        for policy, reason in (
            ("AmazonEKSWorkerNodePolicy", "What EKS asks of every node's role; it only describes EC2 and EKS."),
            ("AmazonEKS_CNI_Policy", "Network interfaces for pods, by a CNI that runs before a pod could have a role."),
            ("AmazonEC2ContainerRegistryPullOnly", "Pulls images, pushes none."),
        )
    ),
    Exemption("own I2", ATTACHMENT, "cluster-disks", reason="What AWS's driver asks for; it deletes no disk but those"
              " that carry the driver's tag."),
    Exemption("own I2", ATTACHMENT, "api-logs", reason="The one that API Gateway checks for when it is given the"
              " account's log role."),
    *(
        Exemption("own I1", "aws:iam/role:Role", name, detail="*on behalf of another account", reason=reason)
        for name, reason in (
            ("cluster-node", "EC2 hands a role to instances of the role's own account only."),
            ("api-logs", "API Gateway takes the account's log role without saying for which API."),
            ("*-pods", BY_ASSOCIATION),
            ("monitoring-alertmanager", BY_ASSOCIATION),
            ("cluster-disks", BY_ASSOCIATION),
        )
    ),
    Exemption("AWS S3.9", f"{S3}:Bucket", "models-access-logs", reason="A log of the log would log itself for ever."),
    Exemption("S3.17", f"{S3}:Bucket", "models-access-logs",
              reason="S3 delivers access logs to no bucket that is encrypted with a KMS key; it has SSE-S3."),
    Exemption("AWS EC2.10, EC2.55, EC2.56", "aws:ec2/vpc:Vpc", "network-vpc", stacks=("dev",), detail="*",
              reason="An endpoint costs per zone and hour; dev's nodes reach AWS through NAT, over TLS."),
    Exemption("AWS EC2.10, EC2.55, EC2.56", "aws:ec2/vpc:Vpc", "network-vpc", stacks=("staging", "prod"),
              detail="* for ec2", reason="Only the CNI calls EC2, over TLS and through NAT."),
    Exemption("own N2", "aws:ec2/vpcEndpoint:VpcEndpoint", "*",
              reason="ECR's image layers are in a bucket of AWS's, and nodes have NAT besides: a policy here would keep"
              " nothing in. The callers' own policies decide."),
    Exemption("own E2", "aws:ec2/launchTemplate:LaunchTemplate", "*",
              reason="A node's disk holds images and copies of weights, and goes with the node. A key of our own would"
              " have to let the account's Auto Scaling role in."),
    Exemption("AWS EKS.1; CIS 5.4.2", "eks:index:Cluster", "cluster", stacks=("dev",),
              reason="Developers work from the office's addresses, which the stack file names."),
    Exemption("AWS ElastiCache.3", "aws:elasticache/replicationGroup:ReplicationGroup", "cache-group",
              stacks=("dev",), reason="One node is enough to develop with: the gateway answers without its cache."),
    Exemption("AWS SecretsManager.1", "aws:secretsmanager/secret:Secret", "*",
              reason="Rotating the cache's password by itself takes a Lambda function in the VPC that may change it. It"
              " is 256 random bits, reachable from the cluster only; replacing the secret's version rotates it."),
    Exemption("AWS APIGateway.2", "aws:apigateway/stage:Stage", "api-stage",
              reason="The backend is reached through a VPC link, by which nobody but this API gets in."),
    Exemption("AWS APIGateway.4", "aws:apigateway/stage:Stage", "api-stage", stacks=("dev",),
              reason="Its keys are in few hands, and the stage's and the keys' limits slow a caller down."),
    Exemption("AWS IAM.21", "aws:cloudwatch/logResourcePolicy:LogResourcePolicy", "api-acl",
              detail="Resource *:log-stream:[*]", stacks=("staging", "prod"),
              reason="The streams of one log group, which AWS WAF names."),
    Exemption("AWS ELB.18", "aws:lb/listener:Listener", "gateway-http",
              reason="A certificate needs a domain name, which an environment need not have. The way from API Gateway"
              " is a VPC link to an internal load balancer, and security groups name both ends."),
    Exemption("CIS 4.3.2", "kubernetes:core/v1:Namespace", "llm-serving",
              reason="Every pod of ours is isolated by its own chart's policy."),
    Exemption("CIS 4.3.2", "kubernetes:core/v1:Namespace", "monitoring-namespace",
              reason="Prometheus must reach every pod with metrics. kube-prometheus-stack brings the rest."),
    Exemption("CIS 4.3.2", "kubernetes:core/v1:Namespace", "gpu-agents-namespace",
              reason="What runs there has a node's folders in its hands; the network adds nothing to that."),
    *(
        Exemption("own K5", "kubernetes:networking.k8s.io/v1:NetworkPolicy", "autoscaling-traffic", stacks=("dev",),
                  detail=detail, reason=reason)
        for detail, reason in (
            ("ingress from anywhere on 6443, 9443",
             "The API server calls KEDA's adapter and webhook, from addresses that are AWS's own and change."),
            ("egress to anywhere on 443", "KEDA calls the API server, whose addresses are AWS's own and change."),
        )
    ),
    Exemption("own K5", "kubernetes:networking.k8s.io/v1:NetworkPolicy", "node-autoscaling-traffic",
              detail="egress to anywhere on 443",
              reason="It calls the API server and AWS, whose addresses are AWS's own and change."),
    Exemption("PSS; CIS 4.2", "kubernetes:core/v1:Namespace", "gpu-agents-namespace",
              reason="NVIDIA's device plugin and exporter work on the node itself, hence a namespace of their own."),
)  # fmt: skip
"""Of the program's resources."""

KUBERNETES: Sequence[Exemption] = (
    Exemption("own K5", "NetworkPolicy", "*", detail="egress to anywhere on 443",
              reason="Weights come from S3, whose addresses are AWS's own and change. Gateway pods can't do this."),
    Exemption("PSS; CIS 4.2.1", "DaemonSet", "dcgm-exporter",
              reason="One capability, SYS_ADMIN: DCGM reads no profiling counters without it."),
    *(
        Exemption(control, "DaemonSet", name, reason=reason, detail=detail)
        for name in ("dcgm-exporter", "nvidia-device-plugin")
        for control, detail, reason in (
            ("PSS", "*runAsNonRoot*", AGENT), ("PSS", "runs as user 0", AGENT), ("PSS", "mounts a hostPath", AGENT),
            ("CIS 4.1.5", "*", "It is given no API token, so the account has nothing to give."),
            ("CIS 4.3.2", "*", "What has a node's folders in its hands gains nothing by the network."),
        )
    ),
)  # fmt: skip
"""Of the objects in our charts."""
