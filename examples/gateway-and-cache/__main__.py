"""The LLM gateway and its cache, in a network and on a cluster that are there already.

A public API with one key is in front. Leave `ApiGateway` out where callers reach the load balancer by themselves.
"""

import pulumi
import pulumi_kubernetes as kubernetes

from llm_serving import ApiGateway, LlmGateway, SemanticCache

config = pulumi.Config()
vpc_id = config.require("vpcId")
subnet_ids: list[str] = config.require_object("subnetIds")
pods = config.require("clusterSecurityGroupId")
protect = config.require_bool("protect")
cluster = kubernetes.Provider("cluster", cluster_identifier=config.require("clusterName"))

cache = SemanticCache(
    "answers",
    {
        "vpc_id": vpc_id,
        "subnet_ids": subnet_ids,
        "client_security_group_id": pods,
        "node_type": "cache.r7g.large",
        "protect": protect,
    },
)
gateway = LlmGateway(
    "gateway",
    {
        "vpc_id": vpc_id,
        "subnet_ids": subnet_ids,
        "cluster_security_group_id": pods,
        "namespace": config.require("namespace"),
        "image": config.require("image"),
        "models": {config.require("model"): {"url": config.require("modelUrl")}},
        "cache_url": cache.url,
        "cpu_millicores": config.require_int("cpuMillicores"),
        "deletion_protection": protect,
    },
    pulumi.ResourceOptions(providers=[cluster]),
)
api = ApiGateway(
    "api",
    {
        "load_balancer_arn": gateway.load_balancer_arn,
        "load_balancer_dns_name": gateway.load_balancer_dns_name,
        "usage_plans": {"team": {"keys": ["team"], "requests_per_second": 20, "burst": 40}},
        "manage_account_role": False,  # one per account and region: the environment's own stack has set it
    },
)
pulumi.export("url", api.url)
pulumi.export("apiKeys", api.api_keys)
pulumi.export("cacheSecretArn", cache.connection_secret_arn)
