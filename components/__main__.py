"""Serves the components as a Pulumi plugin, for programs in other languages."""

from pulumi.provider.experimental import component_provider_host

from llm_serving import (
    ApiGateway,
    Autoscaling,
    EmbeddingService,
    GpuAgents,
    GpuCluster,
    ImageRepositories,
    InferenceService,
    LeaderWorkerSets,
    LlmGateway,
    Logging,
    ModelBucket,
    Monitoring,
    Network,
    NodeAutoscaling,
    SemanticCache,
)

if __name__ == "__main__":
    component_provider_host(
        name="llm-serving",
        version="0.1.0",
        components=[
            ApiGateway,
            Autoscaling,
            EmbeddingService,
            GpuAgents,
            GpuCluster,
            ImageRepositories,
            InferenceService,
            LeaderWorkerSets,
            LlmGateway,
            Logging,
            ModelBucket,
            Monitoring,
            Network,
            NodeAutoscaling,
            SemanticCache,
        ],
    )
