"""The names and addresses that the parts of the local environment agree on."""

ACCOUNT = "000000000000"
"""The emulated AWS account."""
REGION = "us-east-1"
"""The emulated AWS region, the one of stacks/Pulumi.local.yaml."""

BRIDGE = "llm0"
"""The bridge that joins this host and the nodes. It has no port to any outside network."""
HOST_IP = "10.89.0.1"
"""This host as the nodes and pods see it."""
CACHE_IP = "10.89.0.2"
"""The address of the ElastiCache replication groups: one of its own, as its port is given and can't move."""
CACHE_PORT = 6379
ISSUER_IP = "10.89.0.3"
"""The address of Cognito's user pools as issuers of tokens: one of its own, as an issuer's port is HTTPS's and can't
move."""
ISSUER_PORT = 443
ISSUER_HOST = f"cognito-idp.{REGION}.amazonaws.com"
"""The name of these issuers, as on AWS."""
NODE_NETWORK = "10.89.0.0/24"
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
CLUSTER_DNS_IP = "10.96.0.10"
POD_IDENTITY_IP = "169.254.170.23"
"""The address of the EKS Pod Identity agent, as on AWS."""

ECR_HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
"""The registry that the stack names; each node's mirror settings send it to the local registry."""
