"""The models that an environment serves."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field
from pydantic.alias_generators import to_camel

from infra.section import Section, named, problem_of
from infra.settings.allow import Allow, allow_problems
from llm_serving import _checks, _scaling, _semantic_tier, observability
from llm_serving.runtimes import RUNTIMES, tensorrt_llm
from llm_serving.runtimes.launch import Adapter, ServiceSpec
from llm_serving.versions import STABLE, Share, service_name, share_problems

Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", examples=["a09a354"])]
WeightGb = Annotated[float, Field(ge=0.001, le=5000)]


class ScalingSettings(Section):
    """How a model's pods follow its load: docs/scaling.md."""

    min_replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Fewest pods. 0: none while nobody asks; the gateway then holds requests for the first."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Most pods, no more than the pool's nodes hold."""
    queue_target: Annotated[int, Field(ge=1, le=_scaling.MOST_WAITING)] = 8
    """Requests that may wait for each pod; more call for another pod."""
    kv_cache_target_percent: Annotated[int, Field(ge=10, le=100)] = 80
    """Use of the KV caches, on average, that pods are kept for; more calls for another one. 100 never does."""
    scale_up_stabilization_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    """For how long more pods must be wanted before there are more."""
    scale_down_stabilization_seconds: Annotated[int, Field(ge=0, le=3600)] = 300
    """For how long fewer pods must do before there are fewer."""

    def problems(self) -> Iterator[str]:
        """Check that there may be as many pods as there must be."""
        yield from problem_of(_checks.ordered, "minReplicas", self.min_replicas, "maxReplicas", self.max_replicas)


class SemanticRouteSettings(Section):
    """How a model's questions are compared by meaning: docs/cache.md."""

    mode: Literal["answer", "shadow"]
    """`answer` answers from the cache; `shadow` only counts what it would have answered."""
    threshold: Annotated[float, Field(gt=0, le=1)] = _semantic_tier.THRESHOLD
    """Least cosine of two questions that may have the same answer."""


class AdapterSettings(Section):
    """A LoRA adapter of a model."""

    revision: Revision
    """Revision to serve: the folder models/<model>/<revision> of the model bucket."""
    rank: Annotated[int, Field(ge=1, le=4096)]
    """Its rank: `r` in its adapter_config.json, as `llm-serving models show` says."""
    weight_gb: WeightGb
    """Size of its files in GB (10^9 bytes)."""
    model: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")] | None = None
    """What the model bucket knows it by. Default: its name here."""


class ServingSettings(Section):
    """How a model is served: what its versions may each have of their own."""

    runtime: Literal["tgi", "vllm", "tensorrt-llm"] = "tgi"
    """What serves it."""
    model: str | None = None
    """What the memory checks go by: a catalog name, or a config.json or its folder. Default: the model's own name."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Pods. Not together with `autoscaling`."""
    autoscaling: ScalingSettings | None = None
    """What decides the number of pods instead. Default: it is fixed."""
    gpus: Annotated[int, Field(ge=1, le=8)] = 1
    """GPUs of each pod."""
    nodes: Annotated[int, Field(ge=1, le=16)] = 1
    """Nodes that one replica spans, with a pod of `gpus` GPUs on each; on vllm only: docs/multi-node.md."""
    max_input_tokens: Annotated[int, Field(ge=1)] = 4096
    """Longest prompt in tokens."""
    max_total_tokens: Annotated[int, Field(ge=2)] = 8192
    """Longest prompt and answer together in tokens."""
    max_concurrent_requests: Annotated[int, Field(ge=1, le=10_000)] = 128
    """Requests in a pod at once; the next is refused by tgi with 429, by vllm with 503; it waits in tensorrt-llm."""
    cpu_millicores: Annotated[int, Field(ge=10, le=192_000)] = 2000
    """CPU that a pod asks for, in thousandths of a core."""
    memory_mib: Annotated[int, Field(ge=64, le=2_097_152)] = 8192
    """Memory of a pod in MiB, asked for and limited to."""
    dtype: str | None = None
    """Type to compute in, as the runtime spells it. Default: the checkpoint's own."""
    quantization: str | None = None
    """How weights are quantized, as the runtime spells it. Default: the checkpoint's own, if any."""
    kv_cache_dtype: str | None = None
    """Type of the cached keys and values, as the runtime spells it. Default: the compute type."""
    gpu_memory_utilization: float | None = None
    """Fraction of a GPU's memory to use; for tensorrt-llm, of what weights leave. Default: 0.92 for vllm, else 0.9."""
    max_batch_prefill_tokens: Annotated[int, Field(ge=1, le=4_294_967_295)] | None = None
    """Prompt tokens that are read in one step. Default: chosen by the runtime."""
    weights: Literal["copy", "stream"] | None = None
    """`copy`: to the pod's disk, verified; `stream`: vllm reads them from S3. Default: stream for vllm, else copy."""
    engine: bool = False
    """Whether tensorrt-llm built the revision, for one GPU: its name then ends like -sm90-1.2.1-tp4-bfloat16."""
    expected_concurrency: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Requests at once that a pod should serve; the memory checks then ask for room for them."""
    mean_total_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of an average request, prompt and answer, for `expectedConcurrency`. Default: `maxTotalTokens`."""
    allow: Allow = Field(default_factory=dict[str, str])
    """Findings about this model that are accepted: code, as in docs/checks.md, and a sentence that says why."""

    @property
    def least_replicas(self) -> int:
        """Pods that there always are."""
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas

    @property
    def most_replicas(self) -> int:
        """Pods that there may be."""
        return self.autoscaling.max_replicas if self.autoscaling else self.replicas


class VersionSettings(ServingSettings):
    """A version of a model: its part of the requests, and what it has of its own."""

    weight: Annotated[int, Field(ge=0, le=100)]
    """Percent of the model's requests; all versions' weights sum to 100. A shadow's: percent that it gets a copy of."""
    shadow: bool = False
    """Whether it only gets copies of requests, whose answers are thrown away."""
    revision: Revision | None = None
    """Revision to serve. Default: the model's."""
    weight_gb: WeightGb | None = None
    """Size of its files in GB (10^9 bytes). Default: the model's."""
    pool: str | None = None
    """GPU pool to run in. Default: the model's."""


class ModelSettings(ServingSettings):
    """A model to serve."""

    revision: Revision
    """Revision to serve: the folder models/<name>/<revision> of the model bucket."""
    weight_gb: WeightGb
    """Size of the model's files in GB (10^9 bytes). Start-up budgets follow from it."""
    pool: str
    """GPU pool to run in."""
    timeout_seconds: Annotated[int, Field(ge=1, le=900)] = 300
    """How long the gateway waits for an answer."""
    prefix_affinity: bool = False
    """Whether requests that begin alike go to the same pod, which has cached that: docs/routing.md."""
    semantic_cache: SemanticRouteSettings | None = None
    """Whether questions that only mean the same are answered from the cache, too. Default: they are not."""
    versions: dict[str, VersionSettings] = Field(default_factory=dict[str, VersionSettings])
    """Versions that share the requests, as in `stable` and `canary`. Default: the model itself is its only one."""
    adapters: dict[str, AdapterSettings] = Field(default_factory=dict[str, AdapterSettings])
    """LoRA adapters by the name that requests give as their model: docs/models.md. Every version serves all of them."""

    def version(self, name: str) -> "ModelSettings":
        """Return the settings of a version: the model's, but for what the version has of its own."""
        if name not in self.versions:
            return self
        version = self.versions[name]
        own = {field: getattr(version, field) for field in version.model_fields_set - {"weight", "shadow"}}
        inherited = {field for field in ("revision", "weight_gb", "pool") if own.get(field, "") is None}
        taken = {field: own[field] for field in own.keys() - inherited}
        # Whichever of the two a version has of its own decides the number of its pods.
        if "replicas" in taken:
            taken.setdefault("autoscaling", None)
        found = self.model_copy(update={"versions": {}, **taken})
        if found.autoscaling and "replicas" not in taken:
            found.model_fields_set.discard("replicas")
        return found

    def services(self, name: str) -> dict[str, "ModelSettings"]:
        """Return the settings of each inference service by its name; a model without versions has one, of its name.

        :param name: The model's.
        """
        versions = self.versions or (STABLE,)
        return {service_name(name, version): self.version(version) for version in versions}

    def cache_partition(self, version: str) -> str:
        """Return what a version's answers are cached by: its revision, which only one version may be known by."""
        revision = self.version(version).revision
        others = (self.version(name).revision for name in self.versions if name != version)
        return f"{revision}+{version}" if version != STABLE and revision in others else revision

    def spec(self, name: str) -> ServiceSpec:
        """Return what the runtime modules take."""
        return ServiceSpec(
            model=name,
            weight_gb=self.weight_gb,
            gpus=self.gpus,
            nodes=self.nodes,
            max_input_tokens=self.max_input_tokens,
            max_total_tokens=self.max_total_tokens,
            max_concurrent_requests=self.max_concurrent_requests,
            dtype=self.dtype,
            quantization=self.quantization,
            kv_cache_dtype=self.kv_cache_dtype,
            gpu_memory_utilization=self.gpu_memory_utilization,
            max_batch_prefill_tokens=self.max_batch_prefill_tokens,
            weights=self.weights,
            engine=self.engine,
            adapters=tuple(Adapter(adapter, own.rank, own.weight_gb) for adapter, own in self.adapters.items()),
        )

    def problems(self) -> Iterator[str]:
        """Check the limits as the runtime does at its start."""
        for problems in problem_of(RUNTIMES[self.runtime].launch, self.spec("model")):
            yield from map(_as_in_file, problems.split("\n"))
        yield from allow_problems(self.allow)
        yield from self._scaling_problems()
        yield from self._token_problems()
        yield from named("adapters", self.adapters)
        yield from self._version_problems()

    def _token_problems(self) -> Iterator[str]:
        if self.mean_total_tokens is not None and self.mean_total_tokens > self.max_total_tokens:
            yield (
                f"meanTotalTokens: {self.mean_total_tokens} is above maxTotalTokens {self.max_total_tokens};"
                f" nearest valid value: {self.max_total_tokens}"
            )

    def _version_problems(self) -> Iterator[str]:
        if not self.versions:
            return
        yield from named("versions", self.versions)
        yield from share_problems({name: Share(each.weight, each.shadow) for name, each in self.versions.items()})
        if not all(self.version(name).least_replicas for name in self.versions):
            yield "autoscaling.minReplicas: 0, and a model with versions is not scaled to zero; nearest valid value: 1"
        known = set(self.model_copy(update={"versions": {}}).problems())
        for name in self.versions:
            yield from (
                f"versions.{name}.{problem}" for problem in self.version(name).problems() if problem not in known
            )

    def _scaling_problems(self) -> Iterator[str]:
        if self.autoscaling is None:
            return
        if "replicas" in self.model_fields_set:
            yield (
                f"replicas: {self.replicas} is fixed, and autoscaling decides it; nearest valid value: none, and"
                f" autoscaling.minReplicas {self.replicas}"
            )
        if self.nodes > 1:
            yield (
                f"autoscaling: a replica spans {self.nodes} nodes, and KEDA may scale Deployments only;"
                f" nearest valid value: none, and replicas {max(1, self.autoscaling.min_replicas)}"
            )
        exported = observability.runtime(self.runtime)
        if exported.queue is None:
            yield (
                f"autoscaling: {self.runtime} {exported.version} exports no queue length to scale on;"
                f" nearest valid value: none, and replicas {self.autoscaling.min_replicas}"
            )

    def engine_problems(self, architectures: set[str]) -> Iterator[str]:
        """Check that a built engine is one for a pool whose GPUs have these architectures, as in sm90."""
        problems = tensorrt_llm.engine_problems(self.spec("model"), self.revision, architectures)
        return map(_as_in_file, problems)


FIELDS = re.compile("|".join(rf"\b{field.name}\b" for field in dataclasses.fields(ServiceSpec) if "_" in field.name))


def _as_in_file(problem: str) -> str:
    """Return a runtime's problem with the names of its fields as a stack file has them, without the model's."""
    return FIELDS.sub(lambda name: to_camel(name[0]), problem.removeprefix("model."))
