"""What keeps data: the model bucket and the semantic cache."""

from typing import Annotated, Literal

from pydantic import Field

from infra.section import Section


class ModelBucketSettings(Section):
    """The bucket of model weights."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", examples=["my-models"])] | None = None
    """Name of the bucket. Default: chosen by Pulumi."""
    require_tls: bool = True
    """Whether requests without TLS 1.2 are refused. Only an S3 endpoint without TLS needs false."""
    noncurrent_version_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that a replaced or deleted object can be brought back."""


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
