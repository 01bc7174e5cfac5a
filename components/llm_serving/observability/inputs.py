"""What dashboards and rules are made from: the models, pools, prices and objectives of one environment."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from llm_serving.observability.metrics import FIRST_TOKEN_BUCKETS, REQUEST_BUCKETS
from llm_serving.observability.runtime_metrics import RuntimeMetrics, UnknownRuntimeError, runtime

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class InputsError(ValueError):
    """Inputs that no dashboards or rules can be made from; the text has a line for each problem."""


@dataclass(frozen=True)
class Slo:
    """What a model's callers may count on. Ratios are of the requests over `WINDOW_DAYS` days."""

    availability: float = 0.995
    """Share of requests that are answered: neither with 5xx nor with the 429 of a model that is full."""
    first_token_seconds: float = 2
    """A streamed answer should begin within this; one of `FIRST_TOKEN_BUCKETS`."""
    first_token_ratio: float = 0.95
    """Share of streamed answers that do."""
    request_seconds: float = 60
    """A whole answer should end within this; one of `REQUEST_BUCKETS`."""
    request_ratio: float = 0.95
    """Share of answers that do."""

    def problems(self, name: str) -> Iterator[str]:
        """What is wrong with it, a line each."""
        for field_name in ("availability", "first_token_ratio", "request_ratio"):
            value: float = getattr(self, field_name)
            if not 0.5 <= value < 1:
                near = 0.5 if value < 0.5 else 0.9999
                yield f"{name}.{field_name}: {value:g} is outside 0.5 to below 1; nearest valid value: {near:g}"
        for field_name, buckets in (
            ("first_token_seconds", FIRST_TOKEN_BUCKETS),
            ("request_seconds", REQUEST_BUCKETS),
        ):
            value = getattr(self, field_name)
            if value not in buckets:
                near = min(buckets, key=lambda bucket, wanted=value: abs(bucket - wanted))
                yield (
                    f"{name}.{field_name}: {value:g} s is not a bucket of the gateway's histogram, so nothing tells"
                    f" which requests were slower; nearest valid value: {near:g}"
                )


WINDOW_DAYS = 30
"""The period of an error budget: the burn rates of `alerts.py` are the SRE Workbook's for 30 days."""


@dataclass(frozen=True)
class MonitoredModel:
    """A model by the name that its Deployment, its Service and the gateway's route share; or a version of one."""

    name: str
    """Of the Deployment and the Service."""
    pool: str
    """GPU pool that its pods run in."""
    runtime: str = "tgi"
    runtime_version: str | None = None
    """None is the version that the images pin."""
    gpus: int = 1
    """GPUs of each pod."""
    slo: Slo | None = None
    """None is the environment's."""
    version_of: str | None = None
    """The model whose version this is; its service is named MODEL-VERSION. None for a model itself."""

    @property
    def model(self) -> str:
        """The model that its series count for."""
        return self.version_of or self.name

    @property
    def version(self) -> str:
        """The version; "" for a model itself, whose pods are those of its stable version."""
        return self.name.removeprefix(f"{self.version_of}-") if self.version_of else ""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that its scrape adds."""
        return {"model": self.model, **({"version": self.version} if self.version else {})}

    @property
    def metrics(self) -> RuntimeMetrics:
        """What its runtime exports; raises UnknownRuntimeError where that isn't known."""
        return runtime(self.runtime, self.runtime_version)


@dataclass(frozen=True)
class MonitoredEmbedding:
    """An embedding service by the name that its Deployment, its Service and the gateway's route share."""

    name: str
    pool: str
    gpus: int = 0
    """GPUs of each pod; 0 where it computes on CPUs."""

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that its scrape adds."""
        return {"model": self.name}


@dataclass(frozen=True)
class MonitoredPool:
    """A node pool, and what its nodes cost."""

    name: str
    price_usd_per_hour: Mapping[str, float | None]
    """Of one node, by instance type; None where the price isn't known, which is not the same as free."""


@dataclass(frozen=True)
class Thresholds:
    """Where an alert begins. The defaults are ours, to be set to what the environment is sized for."""

    queue_per_pod: float = 16
    """Requests that wait in a pod, on average over its model's pods."""
    kv_cache_ratio: float = 0.95
    gpu_memory_ratio: float = 0.98
    """Above what a runtime takes on purpose: vLLM's default is 0.92, TGI's 0.90 to 0.95."""
    cache_error_ratio: float = 0.01
    """Share of the gateway's cache operations that fail."""
    certificate_days: float = 30
    """A certificate with less time left is a ticket."""
    certificate_page_days: float = 7
    """And with less than this, a page."""
    secret_days: float = 90
    """Age of a secret. 90 days is what AWS Foundational Security Best Practices ask of access keys and secrets."""
    scheduling_minutes: int = 15
    """A pod may wait this long for a node: a GPU instance takes several minutes to join."""


@dataclass(frozen=True)
class MonitoringInputs:
    """One environment. Raises InputsError, with every problem, when it is made."""

    models: tuple[MonitoredModel, ...]
    pools: tuple[MonitoredPool, ...]
    embeddings: tuple[MonitoredEmbedding, ...] = ()
    namespace: str = "llm-serving"
    """Where the gateway and the models run."""
    slo: Slo = Slo()
    thresholds: Thresholds = Thresholds()
    cache: bool = True
    """Whether the gateway has a response cache."""
    secrets: tuple[str, ...] = ("llm-gateway-cache",)
    """Kubernetes Secrets whose age is watched."""
    gateway_job: str = "llm-gateway"
    """Scrape job of the gateway."""
    other_jobs: tuple[str, ...] = ()
    """Further scrape jobs that must have a target, such as dcgm-exporter and kube-state-metrics."""
    other_usd_per_hour: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the environment costs beside its nodes, by what it is for: the cache, NAT gateways."""
    budget_usd_per_hour: float | None = None
    """More than this is a ticket. None: no budget."""
    minimum_requests: int = 100
    """Fewer requests in an objective's long window tell nothing about it, so no burn rate alert fires on them."""
    runbook_base_url: str = "docs/runbooks"
    """Where the pages of `docs/runbooks` can be read."""

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise InputsError("\n".join(problems))

    @property
    def runtimes(self) -> tuple[RuntimeMetrics, ...]:
        """What the models' runtimes export, each version once, in the models' order."""
        return tuple({(item.runtime, item.version): item for item in (m.metrics for m in self.models)}.values())

    @property
    def slos(self) -> Mapping[str, Slo]:
        """What the callers of each model and of each embedding service may count on, by its name."""
        own = {model.name: model.slo or self.slo for model in self.models}
        return {**own, **{service.name: self.slo for service in self.embeddings}}

    @property
    def in_namespace(self) -> str:
        """The matcher for this environment's namespace."""
        return f'namespace="{self.namespace}"'

    def _problems(self) -> Iterator[str]:
        if not self.models:
            yield "models: there must be at least one"
        pools = {pool.name for pool in self.pools}
        yield from self.slo.problems("slo")
        services = (*self.models, *self.embeddings)
        for name in (self.namespace, *(service.name for service in services), *pools):
            if not _NAME.fullmatch(name):
                yield f"{name!r} is no Kubernetes name: it goes into queries as it is"
        yield from self._model_problems(pools)
        for pool in self.pools:
            for instance_type, price in pool.price_usd_per_hour.items():
                if price is not None and price <= 0:
                    yield (
                        f"pools.{pool.name}.price_usd_per_hour.{instance_type}: {price:g} is not above 0;"
                        " nearest valid value: none, for a price that is not known"
                    )

    def _model_problems(self, pools: set[str]) -> Iterator[str]:
        placed = [(f"models.{model.name}", model.pool) for model in self.models]
        placed += [(f"embeddings.{service.name}", service.pool) for service in self.embeddings]
        for where, pool in placed:
            if pool not in pools:
                yield f"{where}.pool: {pool!r} is no pool; known: {', '.join(sorted(pools)) or 'none'}"
        for model in self.models:
            where = f"models.{model.name}"
            if model.slo is not None:
                yield from model.slo.problems(f"{where}.slo")
            try:
                _ = model.metrics
            except UnknownRuntimeError as error:
                yield f"{where}.{error}"
