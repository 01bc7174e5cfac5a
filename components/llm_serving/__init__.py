"""Components of an LLM-serving environment on AWS, for Pulumi programs in Python and, as a plugin, in any language."""

from llm_serving.api_gateway import ApiGateway, ApiGatewayArgs, UsagePlanArgs
from llm_serving.cluster import AccessEntryArgs, GpuCluster, GpuClusterArgs, NodePoolArgs
from llm_serving.inference_service import InferenceService, InferenceServiceArgs
from llm_serving.llm_gateway import LlmGateway, LlmGatewayArgs, ModelRouteArgs
from llm_serving.model_bucket import ModelBucket, ModelBucketArgs
from llm_serving.network import ExistingNetworkArgs, Network, NetworkArgs
from llm_serving.semantic_cache import SemanticCache, SemanticCacheArgs

__all__ = [
    "AccessEntryArgs",
    "ApiGateway",
    "ApiGatewayArgs",
    "ExistingNetworkArgs",
    "GpuCluster",
    "GpuClusterArgs",
    "InferenceService",
    "InferenceServiceArgs",
    "LlmGateway",
    "LlmGatewayArgs",
    "ModelBucket",
    "ModelBucketArgs",
    "ModelRouteArgs",
    "Network",
    "NetworkArgs",
    "NodePoolArgs",
    "SemanticCache",
    "SemanticCacheArgs",
    "UsagePlanArgs",
]
