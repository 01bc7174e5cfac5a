"""What keeps data: the model bucket and the semantic cache."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from infra.section import Section
from llm_serving import _semantic_tier


class ModelBucketSettings(Section):
    """The bucket of model weights."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", examples=["my-models"])] | None = None
    """Name of the bucket. Default: chosen by Pulumi."""
    require_tls: bool = True
    """Whether requests without TLS 1.2 are refused. Only an S3 endpoint without TLS needs false."""
    noncurrent_version_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that a replaced or deleted object can be brought back."""


class SemanticTierSettings(Section):
    """What compares questions by meaning."""

    embeddings: Annotated[str, Field(examples=["all-minilm-l6-v2"])] | None = None
    """Name of the embedding service of this stack that embeds the questions. Default: the gateway embeds itself."""
    embedder_url: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$", examples=["http://embedder:8080"])] | None = None
    """Address of another embedder in its place, which has /v1/embeddings."""
    embedder_model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")] = _semantic_tier.MODEL
    """The model that is asked for at `embedderUrl`."""
    timeout_milliseconds: Annotated[int, Field(ge=10, le=10_000)] = 250
    """Longest wait for a whole lookup; then the model answers."""
    max_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    """Questions that are kept; the oldest go first. Each takes about 2.7 KiB of a gateway pod's memory."""
    max_partition_entries: Annotated[int, Field(ge=1, le=1_000_000)] = 2000
    """Questions that are kept of one tenant, model, system prompt and history."""

    def problems(self) -> Iterator[str]:
        """Check that there is one embedder at most, and that it has the model."""
        if self.embeddings is not None and self.embedder_url is not None:
            yield "embeddings, embedderUrl: both are set; nearest valid value: embeddings alone"
        if self.in_process and self.embedder_model != _semantic_tier.MODEL:
            yield (
                f"embedderModel: {self.embedder_model!r} needs embedderUrl, as the gateway itself has another model;"
                f" nearest valid value: {_semantic_tier.MODEL}"
            )

    @property
    def in_process(self) -> bool:
        """Whether the gateway embeds the questions itself."""
        return self.embeddings is None and self.embedder_url is None


class CacheSettings(Section):
    """The semantic cache."""

    node_type: Annotated[str, Field(pattern=r"^cache\.[a-z0-9-]+\.[a-z0-9]+$", examples=["cache.r7g.large"])]
    """ElastiCache node type."""
    engine_version: Literal["8.2"] = "8.2"
    """Valkey version; vector search begins with 8.2."""
    replicas: Annotated[int, Field(ge=0, le=5)] = 1
    """Copies besides the primary; with one or more the cache fails over."""
    snapshot_retention_days: Annotated[int, Field(ge=0, le=35)] = 7
    """Days that daily snapshots are kept; 0 keeps none."""
    enabled: bool = True
    """Whether the gateway answers from the cache. The cache itself is there either way."""
    ttl_seconds: Annotated[int, Field(ge=1, le=31_536_000)] = 3600
    """How long an answer is kept."""
    semantic: SemanticTierSettings | None = None
    """What compares questions by meaning, for models with `semanticCache`. Default: nothing does."""
