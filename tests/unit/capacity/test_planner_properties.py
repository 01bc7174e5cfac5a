"""The planner's choice is never beaten by brute force, over made-up catalogs and the real one."""

import dataclasses
from collections.abc import Iterable, Iterator
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_serving.capacity import catalog, drivers, legality, planner, throughput
from llm_serving.capacity.catalog import InstanceType, RuntimeRelease
from llm_serving.capacity.fit import fit
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.planner import Plan, plan
from llm_serving.capacity.throughput import Load, Throughput

TODAY = date(2026, 11, 25)


@dataclasses.dataclass(frozen=True)
class Way:
    """A way to carry a load, as brute force finds it."""

    instance: InstanceType
    instances: int
    usd_per_hour: float | None


def brute_force(
    model: ModelShape,
    runtime: RuntimeRelease,
    load: Load,
    types: Iterable[InstanceType],
    *,
    quantizations: tuple[str | None, ...] = (None,),
    min_replicas: int = 1,
) -> Iterator[Way]:
    """Every way there is: each type, each number of its GPUs, each weight format; counts up instead of dividing."""
    for instance in types:
        for gpus in range(1, instance.gpus + 1):
            for quantization in quantizations:
                place = Placement(model=model, runtime=runtime, instance=instance, gpus=gpus, quantization=quantization)
                carried = carries(place, load)
                if carried is None:
                    continue
                replicas = min_replicas
                while replicas * carried.peak_requests_per_second * load.utilization < load.requests_per_second:
                    replicas += 1
                instances, room = 0, 0
                while room < replicas:
                    instances += 1
                    room += instance.gpus // gpus
                price = instance.usd_per_hour
                yield Way(instance, instances, None if price is None else sum([price] * instances))


def carries(place: Placement, load: Load) -> Throughput | None:
    """What a replica carries, if all rules let it run."""
    findings = list(legality.check(place))
    image = planner.newest_node_image(place.instance.architecture)
    assert image is not None
    findings += drivers.check(place, image, today=TODAY)
    fitted = fit(place)
    if not fitted.fits or any(finding.severity == "error" for finding in findings):
        return None
    carried = throughput.estimate(place, fitted, load)
    return carried if isinstance(carried, Throughput) else None


def check_unbeaten(result: Plan, ways: list[Way], types: Iterable[InstanceType]) -> None:
    best = result.best
    if best is None:
        assert ways == []
        assert sorted(result.ruled_out) == sorted(each.name for each in types)
        return
    prices = [way.usd_per_hour for way in ways if way.usd_per_hour is not None]
    if prices:
        assert best.cost.usd_per_hour == pytest.approx(min(prices))
        cheapest = [way for way in ways if way.usd_per_hour == pytest.approx(min(prices))]
    else:
        assert best.cost.usd_per_hour is None
        cheapest = ways
    assert best.instances == min(way.instances for way in cheapest)
    for option in (best, *result.runners_up):
        own = [way for way in ways if way.instance.name == option.instance.name]
        if option.cost.usd_per_hour is None:
            assert option.instances == min(way.instances for way in own)
        else:
            assert option.cost.usd_per_hour == pytest.approx(min(way.usd_per_hour or 0 for way in own))
    # Whatever can carry the load and is not listed is dearer than all that is.
    shown = {option.instance.name for option in (best, *result.runners_up)}
    listed = [option.cost.usd_per_hour or 0 for option in (best, *result.runners_up)]
    for way in ways:
        if way.instance.name not in shown:
            assert way.usd_per_hour is not None
            assert way.usd_per_hour >= max(listed) * (1 - 1e-9)
    assert shown | set(result.ruled_out) == {each.name for each in types}
    assert not shown & set(result.ruled_out)


LOADS = st.builds(
    Load,
    requests_per_second=st.floats(0.01, 200),
    mean_input_tokens=st.integers(1, 4000),
    mean_output_tokens=st.integers(1, 4000),
    utilization=st.floats(0.2, 1.0),
    max_seconds_per_output_token=st.none() | st.floats(0.005, 0.2),
)
MODELS = st.sampled_from(["Llama-3.1-8B", "Llama-3.1-70B", "Mixtral-8x7B", "Qwen3-30B-A3B", "gpt-oss-120b"])
RUNTIMES = st.sampled_from(["tgi", "vllm", "tensorrt-llm"])


@st.composite
def catalogs(draw: st.DrawFn) -> list[InstanceType]:
    """Types with any GPU of the catalog, any number of them, and any price or none."""
    real = [each for each in catalog.instances().values() if each.gpus > 0]
    count = draw(st.integers(1, 6))
    return [
        dataclasses.replace(
            draw(st.sampled_from(real)),
            name=f"type{index}",
            gpus=draw(st.sampled_from([1, 2, 3, 4, 8])),
            usd_per_hour=draw(st.none() | st.integers(1, 12).map(float)),
        )
        for index in range(count)
    ]


@given(
    types=catalogs(),
    load=LOADS,
    model=MODELS,
    runtime=RUNTIMES,
    quantized=st.booleans(),
    min_replicas=st.integers(1, 5),
    runners_up=st.integers(0, 4),
)
def test_made_up_catalogs(
    *,
    types: list[InstanceType],
    load: Load,
    model: str,
    runtime: str,
    quantized: bool,
    min_replicas: int,
    runners_up: int,
) -> None:
    shape, release = catalog.model(model), catalog.runtime(runtime)
    quantizations = ("fp8", None) if quantized else (None,)
    result = plan(
        shape,
        release,
        load,
        today=TODAY,
        instances=types,
        quantizations=quantizations,
        min_replicas=min_replicas,
        runners_up=runners_up,
    )
    ways = list(brute_force(shape, release, load, types, quantizations=quantizations, min_replicas=min_replicas))
    check_unbeaten(result, ways, types)


@pytest.mark.parametrize("runtime", ["tgi", "vllm", "tensorrt-llm"])
@pytest.mark.parametrize("model", ["Llama-3.1-8B", "Llama-3.1-70B", "Mixtral-8x7B", "gpt-oss-120b", "DeepSeek-R1"])
def test_the_real_catalog(model: str, runtime: str) -> None:
    shape, release = catalog.model(model), catalog.runtime(runtime)
    load = Load(12, 1500, 300)
    result = plan(shape, release, load, today=TODAY)
    types = list(catalog.instances().values())
    check_unbeaten(result, list(brute_force(shape, release, load, types)), types)


@settings(max_examples=15)
@given(load=LOADS, model=MODELS, factor=st.floats(1, 50))
def test_more_requests_never_cost_less(load: Load, model: str, factor: float) -> None:
    shape, release = catalog.model(model), catalog.runtime("vllm")
    more = dataclasses.replace(load, requests_per_second=load.requests_per_second * factor)
    less_cost, more_cost = (
        each.best.cost.usd_per_hour if each.best else None
        for each in (plan(shape, release, each, today=TODAY, instances=SOME) for each in (load, more))
    )
    assert (less_cost is None) == (more_cost is None)
    if less_cost is not None and more_cost is not None:
        assert more_cost >= less_cost


SOME = [catalog.instance(name) for name in ("g5.xlarge", "g6e.xlarge", "g6e.12xlarge", "g5.48xlarge", "p5.48xlarge")]
