"""The settings of a stack: the only reader of Pulumi config. Every key is typed, with its unit and its default.

Keys are in camel case in `stacks/Pulumi.<stack>.yaml`, under the project's namespace: `llm-serving:network`. Numbers
carry their unit in their name. All problems of a stack file are found at once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from infra.problems import SettingsError, describe
from infra.section import Section, checked, named, problem_of
from infra.settings.cluster import ClusterSettings
from infra.settings.gateway import ApiGatewaySettings, GatewaySettings
from infra.settings.images import ImagesSettings
from infra.settings.models import ModelSettings
from infra.settings.network import AwsSettings, NetworkSettings
from infra.settings.storage import CacheSettings, ModelBucketSettings
from llm_serving import _checks, _cidr

NAMESPACE = "llm-serving"


class Settings(Section):
    """All settings of a stack."""

    aws: AwsSettings
    """Where the environment lives."""
    tags: dict[str, str] = Field(default_factory=dict[str, str])
    """Tags of every AWS resource, besides project and stack."""
    protect: bool = True
    """Whether stateful resources (cluster, bucket, cache) refuse to be deleted, by Pulumi and by AWS."""
    log_retention_days: Annotated[int, checked(_checks.retention_days, "logRetentionDays")] = 90
    """Days that logs are kept, one of the periods that CloudWatch offers."""
    network: NetworkSettings
    """The VPC."""
    cluster: ClusterSettings
    """The EKS cluster."""
    model_bucket: ModelBucketSettings = ModelBucketSettings()
    """The bucket of model weights."""
    cache: CacheSettings
    """The semantic cache."""
    images: ImagesSettings
    """Which build of each image to run."""
    gateway: GatewaySettings = GatewaySettings()
    """The LLM gateway."""
    api_gateway: ApiGatewaySettings
    """The public API."""
    models: Annotated[dict[str, ModelSettings], Field(min_length=1)]
    """Models to serve, by name."""

    def problems(self) -> Iterator[str]:
        """Check what only several sections together can tell."""
        yield from named("models", self.models)
        if not self.network.existing:
            for zone in self.network.availability_zones:
                if not re.fullmatch(re.escape(self.aws.region) + "[a-z]", zone):
                    yield (
                        f"network.availabilityZones: {zone!r} is no zone of {self.aws.region};"
                        f" nearest valid value: {self.aws.region}{zone[-1:] if zone[-1:].isalpha() else 'a'}"
                    )
            yield from problem_of(
                _cidr.check_disjoint,
                "cluster.serviceCidr",
                self.cluster.service_cidr,
                "network.cidr",
                self.network.cidr,
            )
        for name, model in self.models.items():
            if model.pool not in self.cluster.gpu_pools:
                pools = list(self.cluster.gpu_pools)
                near = _checks.nearest(model.pool, pools) if pools else "none: cluster.gpuPools is empty"
                yield f"models.{name}.pool: {model.pool!r} is no pool of cluster.gpuPools; nearest valid value: {near}"


def load(config: Mapping[str, str]) -> Settings:
    """Return the settings in Pulumi config, `namespace:key` to text; raises SettingsError with all problems."""
    values: dict[str, Any] = {}
    for key, text in config.items():
        namespace, _, name = key.partition(":")
        if namespace == NAMESPACE:
            values[name] = _parsed(text)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(describe(error, Settings, NAMESPACE)) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
