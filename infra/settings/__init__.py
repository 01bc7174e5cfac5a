"""The settings of a stack: the only reader of Pulumi config. Every key is typed, with its unit and its default.

Keys are in camel case in `stacks/Pulumi.<stack>.yaml`, under the project's namespace: `llm-serving:network`. Numbers
carry their unit in their name. All problems of a stack file are found at once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel

from infra import plain_secrets
from infra.problems import SettingsError, describe
from infra.section import Section, checked, named, problem_of
from infra.settings.allow import Allow, allow_problems
from infra.settings.autoscaling import AutoscalingSettings
from infra.settings.cluster import ClusterSettings
from infra.settings.embeddings import EmbeddingSettings
from infra.settings.gateway import ApiGatewaySettings, GatewaySettings
from infra.settings.images import ImagesSettings
from infra.settings.leader_worker_sets import LeaderWorkerSetSettings
from infra.settings.logging import LoggingSettings
from infra.settings.models import ModelSettings
from infra.settings.monitoring import MonitoringSettings
from infra.settings.network import AwsSettings, NetworkSettings
from infra.settings.storage import CacheSettings, ModelBucketSettings
from llm_serving import _checks, _cidr, _edge_rules, _semantic_tier
from llm_serving.runtimes import RUNTIMES, embedder
from llm_serving.versions import name_problems

NAMESPACE = "llm-serving"
ZONE_LETTERS = "abcdef"
"""What zones end with: no region has more than the six of us-east-1 (`_cidr.MOST_ZONES`)."""


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
    logging: LoggingSettings = LoggingSettings()
    """What the logs are for besides being kept."""
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
    monitoring: MonitoringSettings = MonitoringSettings()
    """Prometheus, its rules and dashboards, and who is told."""
    autoscaling: AutoscalingSettings = AutoscalingSettings()
    """Where KEDA comes from, which scales the models that have `autoscaling`."""
    leader_worker_sets: LeaderWorkerSetSettings = LeaderWorkerSetSettings()
    """Where the controller comes from that runs the models which have `nodes` above 1."""
    models: Annotated[dict[str, ModelSettings], Field(min_length=1)]
    """Models to serve, by name."""
    embeddings: dict[str, EmbeddingSettings] = Field(default_factory=dict[str, EmbeddingSettings])
    """Embedding services, by the name that requests give as their model."""
    allow: Allow = Field(default_factory=dict[str, str])
    """Findings of the checks that this stack accepts: code, as in docs/checks.md, and a sentence that says why."""

    def problems(self) -> Iterator[str]:
        """Check what only several sections together can tell."""
        yield from named("models", self.models)
        yield from named("embeddings", self.embeddings)
        yield from allow_problems(self.allow)
        if not self.network.existing:
            for zone in self.network.availability_zones:
                if not re.fullmatch(re.escape(self.aws.region) + f"[{ZONE_LETTERS}]", zone):
                    near = zone[-1:] if "a" <= zone[-1:] <= ZONE_LETTERS[-1] else ZONE_LETTERS[-1]
                    yield (
                        f"network.availabilityZones: {zone!r} is no zone of {self.aws.region};"
                        f" nearest valid value: {self.aws.region}{near if zone[-1:].isalpha() else 'a'}"
                    )
            yield from problem_of(
                _cidr.check_disjoint,
                "cluster.serviceCidr",
                self.cluster.service_cidr,
                "network.cidr",
                self.network.cidr,
            )
        for name, model in self.models.items():
            own = list(self._pool_problems(model))
            yield from (f"models.{name}.{problem}" for problem in own)
            for version in model.versions:
                found = self._pool_problems(model.version(version))
                yield from (f"models.{name}.versions.{version}.{problem}" for problem in found if problem not in own)
        for name, service in self.embeddings.items():
            if service.pool is not None and service.pool not in self.cluster.gpu_pools:
                yield f"embeddings.{name}.{self._no_pool(service.pool)}"
        yield from self._image_problems()
        yield from self._name_problems()
        yield from self._pods_name_problems()
        yield from self._group_name_problems()
        yield from self._cache_problems()
        yield from self._adapter_problems()
        if self.api_gateway.domain is not None:
            field, arn = "apiGateway.domain.certificateArn", self.api_gateway.domain.certificate_arn
            yield from problem_of(_edge_rules.check_certificate, field, arn, self.aws.region)

    def _pool_problems(self, model: ModelSettings) -> Iterator[str]:
        if model.pool not in self.cluster.gpu_pools:
            yield self._no_pool(model.pool)
        else:
            yield from model.engine_problems(self.cluster.gpu_pools[model.pool].architectures())

    def _no_pool(self, name: str) -> str:
        pools = list(self.cluster.gpu_pools)
        near = _checks.nearest(name, pools) if pools else "none: cluster.gpuPools is empty"
        return f"pool: {name!r} is no pool of cluster.gpuPools; nearest valid value: {near}"

    def _cache_problems(self) -> Iterator[str]:
        embedder = self.cache.semantic.embeddings if self.cache.semantic else None
        if embedder is not None and embedder not in self.embeddings:
            known = list(self.embeddings)
            near = _checks.nearest(embedder, known) if known else "none: embeddings is empty"
            yield f"cache.semantic.embeddings: {embedder!r} is no service of embeddings; nearest valid value: {near}"
        tier = self.cache.semantic
        if tier is not None and tier.in_process and self.cache.enabled:
            memory = self.gateway.memory_mib
            yield from problem_of(_semantic_tier.check_memory, "gateway.memoryMib", memory, tier.max_entries)
        for name, model in self.models.items():
            if model.semantic_cache is None:
                continue
            if self.cache.semantic is None:
                yield (
                    f"models.{name}.semanticCache: needs cache.semantic, and there is none; nearest valid value: none"
                )
            if not self.cache.enabled:
                yield f"models.{name}.semanticCache: needs cache.enabled, and it is false; nearest valid value: none"
        for key in ("key_requests_per_minute", "key_tokens_per_minute"):
            if getattr(self.gateway, key) is not None and not self.cache.enabled:
                yield (
                    f"gateway.{to_camel(key)}: is counted in the cache, and cache.enabled is false;"
                    " nearest valid value: none"
                )

    def _name_problems(self) -> Iterator[str]:
        """Check that each version's service has a name that is allowed, and its own."""
        of: dict[str, str] = dict.fromkeys(self.models, "")
        for name, model in self.models.items():
            yield from (f"models.{name}.{problem}" for problem in name_problems(name, model.versions))
            for service in model.services(name).keys() - {name}:
                version = service.removeprefix(f"{name}-")
                if service in of:
                    yield (
                        f"models.{name}.versions.{version}: its service {service} would be that of"
                        f" models.{of[service] or service} too; nearest valid value: {version}-2"
                    )
                of[service] = f"{name}.versions.{version}"
        for name in self.embeddings:
            if name in of:
                yield (
                    f"embeddings.{name}: the name is that of models.{of[name] or name} too;"
                    f" nearest valid value: {name}-embedding"
                )

    def _pods_name_problems(self) -> Iterator[str]:
        """Check that the Service of a model's pods has a name of its own."""
        services = {name for model, own in self.models.items() for name in own.services(model)} | set(self.embeddings)
        for name, model in self.models.items():
            for taken in services & {f"{service}-pods" for service in model.services(name) if model.prefix_affinity}:
                yield (
                    f"models.{name}.prefixAffinity: true, and the Service of its pods, {taken}, would have the name of"
                    " another service; nearest valid value: false"
                )

    def _group_name_problems(self) -> Iterator[str]:
        """Check that the controller's own Service of a replica that spans nodes has a name of its own."""
        services = {service: each for name, own in self.models.items() for service, each in own.services(name).items()}
        for service, model in services.items():
            taken = f"{service}-group"
            if model.nodes > 1 and (taken in services or taken in self.embeddings):
                yield (
                    f"models.{taken}: is the name of what runs {service} on {model.nodes} nodes;"
                    f" nearest valid value: {taken}-2"
                )

    def _adapter_problems(self) -> Iterator[str]:
        """Check that a request's `model` says one thing: no adapter has a model's or another adapter's name."""
        owners = {name: f"{section}.{name}" for section in ("models", "embeddings") for name in getattr(self, section)}
        for name, model in self.models.items():
            for adapter in model.adapters:
                own = f"models.{name}.adapters.{adapter}"
                if (other := owners.setdefault(adapter, own)) != own:
                    yield (
                        f"{own}: has the name of {other}, and requests couldn't tell them apart; nearest valid value:"
                        f" {name}-{adapter}"
                    )

    def _image_problems(self) -> Iterator[str]:
        by_runtime: dict[str, list[str]] = {}
        for name, model in self.models.items():
            for service, version in model.services(name).items():
                by_runtime.setdefault(version.runtime, []).append(service)
        for runtime, models in by_runtime.items():
            if self.images.of_runtime(runtime) is None:
                key = to_camel(runtime.replace("-", "_"))
                yield (
                    f"images.{key}: is missing, and {runtime} serves {', '.join(models)};"
                    f" nearest valid value: tag: {RUNTIMES[runtime].version}"
                )
        for key, device in (("embedder", "cpu"), ("embedderCuda", "gpu")):
            of_device = [name for name, service in self.embeddings.items() if service.device == device]
            if of_device and self.images.of_embedder(device) is None:
                yield (
                    f"images.{key}: is missing, and it serves {', '.join(of_device)};"
                    f" nearest valid value: tag: {embedder.VERSION}"
                )


def load(config: Mapping[str, str]) -> Settings:
    """Return the settings in Pulumi config, `namespace:key` to text; raises SettingsError with all problems."""
    values: dict[str, Any] = {}
    for key, text in config.items():
        namespace, _, name = key.partition(":")
        if namespace == NAMESPACE:
            values[name] = _parsed(text)
    # Alone and first: the other checks repeat the value that they refuse.
    if found := [f"{NAMESPACE}:{problem}" for problem in plain_secrets.problems(values)]:
        raise SettingsError(found)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(describe(error, Settings, NAMESPACE)) from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
