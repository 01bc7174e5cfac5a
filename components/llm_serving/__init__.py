"""Components of an LLM-serving environment on AWS, for Pulumi programs in Python and, as a plugin, in any language.

A component's module is imported when it is first asked for: pulumi_aws takes seconds to import whole, and the parts of
this package that don't deal with Pulumi have no use for it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_serving._identity import JwtArgs
    from llm_serving.api_gateway import ApiGateway, ApiGatewayArgs, DomainArgs, FirewallArgs, UsagePlanArgs
    from llm_serving.autoscaling import Autoscaling, AutoscalingArgs
    from llm_serving.cluster import AccessEntryArgs, GpuCluster, GpuClusterArgs, NodePoolArgs
    from llm_serving.embedding_service import EmbeddingService, EmbeddingServiceArgs
    from llm_serving.gpu_agents import GpuAgents, GpuAgentsArgs
    from llm_serving.image_repositories import ImageRepositories, ImageRepositoriesArgs
    from llm_serving.inference_service import AdapterArgs, InferenceService, InferenceServiceArgs, ScalingArgs
    from llm_serving.leader_worker_sets import LeaderWorkerSets, LeaderWorkerSetsArgs
    from llm_serving.llm_gateway import (
        LlmGateway,
        LlmGatewayArgs,
        ModelRouteArgs,
        ModelVersionArgs,
        SemanticRouteArgs,
        SemanticTierArgs,
        TracesArgs,
    )
    from llm_serving.logging import Logging, LoggingArgs, OpenSearchArgs
    from llm_serving.model_bucket import ModelBucket, ModelBucketArgs
    from llm_serving.monitoring import MonitoredEmbeddingArgs, MonitoredModelArgs, Monitoring, MonitoringArgs
    from llm_serving.network import ExistingNetworkArgs, Network, NetworkArgs
    from llm_serving.node_autoscaling import NodeAutoscaling, NodeAutoscalingArgs
    from llm_serving.semantic_cache import SemanticCache, SemanticCacheArgs

__all__ = [
    "AccessEntryArgs",
    "AdapterArgs",
    "ApiGateway",
    "ApiGatewayArgs",
    "Autoscaling",
    "AutoscalingArgs",
    "DomainArgs",
    "EmbeddingService",
    "EmbeddingServiceArgs",
    "ExistingNetworkArgs",
    "FirewallArgs",
    "GpuAgents",
    "GpuAgentsArgs",
    "GpuCluster",
    "GpuClusterArgs",
    "ImageRepositories",
    "ImageRepositoriesArgs",
    "InferenceService",
    "InferenceServiceArgs",
    "JwtArgs",
    "LeaderWorkerSets",
    "LeaderWorkerSetsArgs",
    "LlmGateway",
    "LlmGatewayArgs",
    "Logging",
    "LoggingArgs",
    "ModelBucket",
    "ModelBucketArgs",
    "ModelRouteArgs",
    "ModelVersionArgs",
    "MonitoredEmbeddingArgs",
    "MonitoredModelArgs",
    "Monitoring",
    "MonitoringArgs",
    "Network",
    "NetworkArgs",
    "NodeAutoscaling",
    "NodeAutoscalingArgs",
    "NodePoolArgs",
    "OpenSearchArgs",
    "ScalingArgs",
    "SemanticCache",
    "SemanticCacheArgs",
    "SemanticRouteArgs",
    "SemanticTierArgs",
    "TracesArgs",
    "UsagePlanArgs",
]

_HOMES = {
    "AccessEntryArgs": "cluster",
    "AdapterArgs": "inference_service",
    "ApiGateway": "api_gateway",
    "ApiGatewayArgs": "api_gateway",
    "Autoscaling": "autoscaling",
    "AutoscalingArgs": "autoscaling",
    "DomainArgs": "api_gateway",
    "EmbeddingService": "embedding_service",
    "EmbeddingServiceArgs": "embedding_service",
    "ExistingNetworkArgs": "network",
    "FirewallArgs": "api_gateway",
    "GpuAgents": "gpu_agents",
    "GpuAgentsArgs": "gpu_agents",
    "GpuCluster": "cluster",
    "GpuClusterArgs": "cluster",
    "ImageRepositories": "image_repositories",
    "ImageRepositoriesArgs": "image_repositories",
    "InferenceService": "inference_service",
    "InferenceServiceArgs": "inference_service",
    "LeaderWorkerSets": "leader_worker_sets",
    "LeaderWorkerSetsArgs": "leader_worker_sets",
    "LlmGateway": "llm_gateway",
    "LlmGatewayArgs": "llm_gateway",
    "Logging": "logging",
    "LoggingArgs": "logging",
    "ModelBucket": "model_bucket",
    "ModelBucketArgs": "model_bucket",
    "ModelRouteArgs": "llm_gateway",
    "JwtArgs": "_identity",
    "ModelVersionArgs": "llm_gateway",
    "MonitoredEmbeddingArgs": "monitoring",
    "SemanticRouteArgs": "llm_gateway",
    "SemanticTierArgs": "llm_gateway",
    "MonitoredModelArgs": "monitoring",
    "Monitoring": "monitoring",
    "MonitoringArgs": "monitoring",
    "Network": "network",
    "NetworkArgs": "network",
    "NodeAutoscaling": "node_autoscaling",
    "NodeAutoscalingArgs": "node_autoscaling",
    "NodePoolArgs": "cluster",
    "OpenSearchArgs": "logging",
    "ScalingArgs": "inference_service",
    "SemanticCache": "semantic_cache",
    "SemanticCacheArgs": "semantic_cache",
    "TracesArgs": "llm_gateway",
    "UsagePlanArgs": "api_gateway",
}
"""The module of each name."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
