"""The cheapest hardware that carries a load: every instance type of the catalog, every legal split, priced.

A placement is in the plan when the model fits, no rule finds an error, the newest node image's driver runs the
runtime's image and its throughput can be estimated. All others are out, each type with one reason.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil, inf

from llm_serving.capacity import catalog, drivers, legality, parallelism, throughput
from llm_serving.capacity.catalog import InstanceType, NodeImage, RuntimeRelease
from llm_serving.capacity.cost import Cost, cost, usd
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.fit import Fit, fit
from llm_serving.capacity.fit import findings as fit_findings
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import DEFAULT_TOTAL_TOKENS, Placement
from llm_serving.capacity.throughput import Load, NoEstimate, Throughput

RUNNERS_UP = 5
"""Instance types listed after the best."""
CONCURRENT_REQUESTS = 128
"""Requests that a replica takes at once where nobody says: TGI's default."""


@dataclass(frozen=True, slots=True)
class Option:
    """A way to carry the load."""

    placement: Placement
    """One replica of it."""
    fit: Fit
    throughput: Throughput
    """Of one replica."""
    replicas: int
    """Replicas that the load needs."""
    instances: int
    """Instances that hold them."""
    cost: Cost
    warnings: tuple[Finding, ...]
    """What the rules find that does not keep it from running, such as tensor parallelism over PCIe."""

    @property
    def instance(self) -> InstanceType:
        """The instance type."""
        return self.placement.instance

    @property
    def tensor_parallel(self) -> int:
        """GPUs of a replica."""
        return self.placement.gpus

    @property
    def quantization(self) -> str | None:
        """As the runtime spells it; None for the checkpoint's own."""
        return self.placement.quantization

    @property
    def replicas_per_instance(self) -> int:
        """Replicas that an instance has GPUs for."""
        return self.instance.gpus // self.tensor_parallel

    @property
    def utilization(self) -> float:
        """Part of the peak rate of all replicas that the load is."""
        return self._rate / self.throughput.peak_requests_per_second

    @property
    def seconds_per_output_token(self) -> float:
        """Mean time between two tokens of an answer under the load spread evenly over the replicas, in seconds."""
        return self.throughput.seconds_per_output_token(self._rate)

    @property
    def _rate(self) -> float:
        return self.throughput.load.requests_per_second / self.replicas


@dataclass(frozen=True, slots=True)
class Plan:
    """What carries a load, and what does not."""

    model: ModelShape
    runtime: RuntimeRelease
    load: Load
    best: Option | None
    """The cheapest; None where nothing is left."""
    runners_up: tuple[Option, ...]
    """The best option of each of the next types, cheapest first, then the types whose price is unknown."""
    ruled_out: Mapping[str, str]
    """Why each other type is not above, in the order that they were given in."""
    assumption: str
    """What the throughput, the number of replicas and the costs rest on; shown with every one of them."""


@dataclass(frozen=True, slots=True)
class _Rejection:
    """A placement that is out. `stage` is how far it came: the reason of the one that came furthest is told."""

    stage: int
    reason: Callable[[], str]


@dataclass(frozen=True, slots=True)
class _Request:
    """What `plan` was asked, less the instance types."""

    model: ModelShape
    runtime: RuntimeRelease
    load: Load
    quantizations: tuple[str | None, ...]
    kv_cache_dtype: str | None
    max_total_tokens: int
    max_concurrent_requests: int
    gpu_memory_utilization: float | None
    min_replicas: int
    images: Mapping[str, NodeImage | None]
    """Of the nodes, by architecture."""
    today: date

    def placement(self, instance: InstanceType, gpus: int, quantization: str | None) -> Placement:
        return Placement(
            model=self.model,
            runtime=self.runtime,
            instance=instance,
            gpus=gpus,
            quantization=quantization,
            kv_cache_dtype=self.kv_cache_dtype,
            max_total_tokens=self.max_total_tokens,
            max_concurrent_requests=self.max_concurrent_requests,
            gpu_memory_utilization=self.gpu_memory_utilization,
        )


def plan(
    model: ModelShape,
    runtime: RuntimeRelease,
    load: Load,
    *,
    today: date,
    instances: Iterable[InstanceType] | None = None,
    quantizations: Sequence[str | None] = (None,),
    kv_cache_dtype: str | None = None,
    max_total_tokens: int = DEFAULT_TOTAL_TOKENS,
    max_concurrent_requests: int = CONCURRENT_REQUESTS,
    gpu_memory_utilization: float | None = None,
    min_replicas: int = 1,
    node_image: NodeImage | None = None,
    runners_up: int = RUNNERS_UP,
) -> Plan:
    """Find the cheapest placement of `model` that carries `load`.

    Prices are on demand in us-east-1 from the catalog. Cheapest first, then fewer instances, then fewer GPUs, then the
    type's name, then the earlier of `quantizations`, then fewer GPUs a replica. A type whose price is unknown comes
    after every type that has one.

    :param today: Day for which support of drivers and Kubernetes versions is judged.
    :param instances: Types to choose from; None for the whole catalog.
    :param quantizations: Weight formats that are acceptable, as the runtime spells them; None is the checkpoint's own.
    :param max_total_tokens: Longest prompt and answer together, in tokens, that a replica must hold.
    :param max_concurrent_requests: Requests that the runtime lets into a replica at once.
    :param min_replicas: Least replicas, whatever the load.
    :param node_image: Image of the nodes; None for the newest of the catalog. One that is given rules out types of
        the other architecture.
    :param runners_up: Types with a price to list after the best.
    :raises ValueError: A number is out of range; names all of them.
    """
    types = tuple(catalog.instances().values() if instances is None else instances)
    request = _Request(
        model=model,
        runtime=runtime,
        load=load,
        quantizations=tuple(quantizations),
        kv_cache_dtype=kv_cache_dtype,
        max_total_tokens=max_total_tokens,
        max_concurrent_requests=max_concurrent_requests,
        gpu_memory_utilization=gpu_memory_utilization,
        min_replicas=min_replicas,
        images={each: _image(node_image, each) for each in {each.architecture for each in types}},
        today=today,
    )
    _check(request, runners_up)
    options: list[Option] = []
    reasons: dict[str, Callable[[], str]] = {}
    for instance in types:
        found = _best_of(request, instance)
        if isinstance(found, Option):
            options.append(found)
        else:
            reasons[instance.name] = found.reason
    options.sort(key=lambda option: _order(request, option))
    best = options[0] if options else None
    priced = [option for option in options[1:] if option.cost.usd_per_hour is not None]
    unpriced = [option for option in options[1:] if option.cost.usd_per_hour is None]
    for option in priced[runners_up:]:
        reasons[option.instance.name] = _dearer(option, options[0])
    return Plan(
        model=model,
        runtime=runtime,
        load=load,
        best=best,
        runners_up=(*priced[:runners_up], *unpriced),
        ruled_out={each.name: reasons[each.name]() for each in types if each.name in reasons},
        assumption=throughput.assumption(load),
    )


def _check(request: _Request, runners_up: int) -> None:
    load = request.load
    problems = [
        f"{name}: {value} is below {least}; nearest value that works: {least}"
        for name, value, least in (
            ("max_concurrent_requests", request.max_concurrent_requests, 1),
            ("min_replicas", request.min_replicas, 1),
            ("runners_up", runners_up, 0),
        )
        if value < least
    ]
    if load.mean_total_tokens > request.max_total_tokens:
        problems.append(
            f"max_total_tokens: {request.max_total_tokens} is less than an average request of the load,"
            f" {load.mean_input_tokens:g} input and {load.mean_output_tokens:g} output tokens;"
            f" nearest value that works: {ceil(load.mean_total_tokens)}"
        )
    if request.max_total_tokens > request.model.context:
        problems.append(
            f"max_total_tokens: {request.max_total_tokens} is more than the {request.model.context} that"
            f" {request.model.name} was made for; nearest value that works: {request.model.context}"
        )
    fraction = request.gpu_memory_utilization
    if fraction is not None and not 0 < fraction <= 1:
        nearest = 1 if fraction > 1 else request.runtime.memory_fraction
        problems.append(
            f"gpu_memory_utilization: {fraction:g} is outside 0 to 1; nearest value that works: {nearest:g}"
        )
    if not request.quantizations:
        problems.append("quantizations: none is allowed; nearest value that works: the checkpoint's own (None)")
    if problems:
        raise ValueError("\n".join(problems))


def _order(request: _Request, option: Option) -> tuple[float, int, int, str, int, int]:
    """What options are sorted by."""
    hourly = option.cost.usd_per_hour
    return (
        inf if hourly is None else hourly,
        option.instances,
        option.instances * option.instance.gpus,
        option.instance.name,
        request.quantizations.index(option.quantization),
        option.tensor_parallel,
    )


def _best_of(request: _Request, instance: InstanceType) -> Option | _Rejection:
    """The best option of one type, or why it has none."""
    found = list(_candidates(request, instance))
    if options := [each for each in found if isinstance(each, Option)]:
        return min(options, key=lambda option: _order(request, option))
    # Of those that came as far, the last: on the most GPUs.
    return max((each for each in reversed(found) if isinstance(each, _Rejection)), key=lambda each: each.stage)


def _candidates(request: _Request, instance: InstanceType) -> Iterator[Option | _Rejection]:
    """Every split and weight format on one type, options and rejections; the largest split last."""
    if instance.gpus < 1:
        yield _Rejection(0, lambda: "it has a fraction of a GPU, and how fast that is is unknown")
        return
    image = request.images[instance.architecture]
    for gpus in parallelism.legal_sizes(request.model, request.runtime.name, instance.gpus):
        for quantization in request.quantizations:
            yield _try(request, request.placement(instance, gpus, quantization), image)


def _try(request: _Request, placement: Placement, image: NodeImage | None) -> Option | _Rejection:
    fitted = fit(placement)
    if not fitted.fits:
        return _Rejection(1, lambda: _too_small(placement, fitted))
    found = legality.check(placement)
    if error := _first_error(found):
        return _Rejection(2, lambda: error.message)
    if image is None:
        return _Rejection(3, lambda: f"there is no GPU node image for {placement.instance.architecture}")
    found = [*found, *drivers.check(placement, image, today=request.today)]
    if error := _first_error(found):
        return _Rejection(3, lambda: error.message)
    carried = throughput.estimate(placement, fitted, request.load)
    if isinstance(carried, NoEstimate):
        return _Rejection(4, lambda: carried.reason)
    needed = ceil(request.load.requests_per_second / carried.sustainable_requests_per_second)
    replicas = max(request.min_replicas, needed)
    instances = ceil(replicas / (placement.instance.gpus // placement.gpus))
    return Option(
        placement=placement,
        fit=fitted,
        throughput=carried,
        replicas=replicas,
        instances=instances,
        cost=cost(placement.instance, instances, request.load),
        warnings=(*found, *fit_findings(placement, fitted)),
    )


def _first_error(findings: Iterable[Finding]) -> Finding | None:
    return next((finding for finding in findings if finding.severity == "error"), None)


def _too_small(placement: Placement, fitted: Fit) -> str:
    """Why a model does not fit, shorter than the finding: a plan has one such line for each small type."""
    budget = fitted.per_gpu
    if placement.instance.gpu_memory_mib < 1:
        return f"the memory of its {placement.instance.gpu.name} is unknown"
    split = f"{placement.gpus} GPUs" if placement.gpus > 1 else "its GPU"
    if fitted.kv_pool_tokens < 1:
        return (
            f"on {split} the weights take {budget.weights:.1f} GiB and the runtime {budget.overhead:.1f} GiB"
            f" of {budget.usable:.1f} GiB usable on each GPU"
        )
    return (
        f"on {split} the KV cache holds {fitted.kv_pool_tokens} tokens,"
        f" fewer than one request of {placement.max_total_tokens}"
    )


def _dearer(option: Option, best: Option) -> Callable[[], str]:
    return lambda: (
        f"dearer: {option.instances} for {usd(option.cost.usd_per_hour)} USD an hour,"
        f" where {best.instances} {best.instance.name} cost {usd(best.cost.usd_per_hour)}"
    )


def newest_node_image(architecture: str) -> NodeImage | None:
    """The catalog's GPU node image for the newest Kubernetes version, Amazon Linux before Bottlerocket; None without.

    :param architecture: x86_64 or arm64, as of an instance type.
    """
    images = [image for image in catalog.node_images() if _is_for(image, architecture)]
    return max(images, key=_newness, default=None)


def _image(given: NodeImage | None, architecture: str) -> NodeImage | None:
    if given is None:
        return newest_node_image(architecture)
    return given if _is_for(given, architecture) else None


def _is_for(image: NodeImage, architecture: str) -> bool:
    return ("_ARM_64_" if architecture == "arm64" else "_x86_64_") in image.ami_type


def _newness(image: NodeImage) -> tuple[bool, tuple[int, ...], tuple[int, ...]]:
    return image.ami_type.startswith("AL2023"), _numbers(image.kubernetes_version), _numbers(image.release)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
