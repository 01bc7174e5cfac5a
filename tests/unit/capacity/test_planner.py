"""What the planner chooses, lists and rules out, and why; test_planner_properties.py compares it with brute force."""

import dataclasses
import time
from datetime import date

import pytest

from llm_serving.capacity import catalog, planner
from llm_serving.capacity.catalog import InstanceType
from llm_serving.capacity.planner import Plan, plan
from llm_serving.capacity.throughput import Load

TODAY = date(2026, 11, 25)
LOAD = Load(2, 1000, 250)


def named(*names: str) -> list[InstanceType]:
    return [catalog.instance(name) for name in names]


def copies(name: str, *prices: float | None) -> list[InstanceType]:
    """Types like `name` but for their prices, called a, b, c and so on."""
    original = catalog.instance(name)
    return [
        dataclasses.replace(original, name="abcdefgh"[index], usd_per_hour=price) for index, price in enumerate(prices)
    ]


def planned(
    instances: list[InstanceType] | None,
    load: Load = LOAD,
    *,
    model: str = "Llama-3.1-8B",
    runtime: str = "vllm",
    runners_up: int = 5,
    min_replicas: int = 1,
    quantizations: tuple[str | None, ...] = (None,),
) -> Plan:
    return plan(
        catalog.model(model),
        catalog.runtime(runtime),
        load,
        today=TODAY,
        instances=instances,
        runners_up=runners_up,
        min_replicas=min_replicas,
        quantizations=quantizations,
    )


def names(result: Plan) -> list[str]:
    return [option.instance.name for option in ((result.best,) if result.best else ()) + result.runners_up]


def test_the_cheapest_type_wins() -> None:
    result = planned(copies("g6e.xlarge", 3, 1, 2))
    assert names(result) == ["b", "c", "a"]
    assert result.best is not None
    assert result.best.cost.usd_per_hour == result.best.instances * 1
    assert not result.ruled_out


def test_a_type_that_needs_more_instances_may_be_cheaper() -> None:
    # One H100 carries what several L40S do, and costs more than them.
    load = Load(8, 1000, 250)
    result = planned(named("g6e.xlarge", "p5.4xlarge"), load)
    slow, fast = (planned(named(name), load).best for name in ("g6e.xlarge", "p5.4xlarge"))
    assert slow is not None
    assert fast is not None
    assert slow.instances > fast.instances
    cheaper = min((slow, fast), key=lambda option: option.cost.usd_per_hour or 0)
    assert result.best == cheaper


def test_ties_go_to_fewer_instances_then_fewer_gpus_then_the_name() -> None:
    small, large = copies("g6e.12xlarge", 2, 2)
    halved = dataclasses.replace(small, name="0half", gpus=2, usd_per_hour=1.0)
    alone = planned([halved]).best
    assert alone is not None
    heavy = Load(alone.throughput.sustainable_requests_per_second * 3, 1000, 250)
    result = planned([halved, large, small], heavy)
    # Two of "0half" cost what one of the others costs.
    assert [(option.instance.name, option.instances) for option in (result.best, *result.runners_up) if option] == [
        ("a", 1),
        ("b", 1),
        ("0half", 2),
    ]
    fewer = dataclasses.replace(small, name="z", gpus=1)
    assert names(planned([small, fewer])) == ["z", "a"]


def test_the_rate_decides_the_number_of_replicas() -> None:
    (instance,) = copies("g6e.12xlarge", 10.0)
    one = planned([instance]).best
    assert one is not None
    assert (one.tensor_parallel, one.replicas_per_instance) == (1, 4)
    rate = one.throughput.sustainable_requests_per_second
    for factor, replicas, instances in ((0.9, 1, 1), (3.5, 4, 1), (4.5, 5, 2)):
        option = planned([instance], Load(rate * factor, 1000, 250)).best
        assert option is not None
        assert (option.replicas, option.instances) == (replicas, instances)
        assert option.utilization <= 0.7 + 1e-9
        assert option.cost.usd_per_hour == pytest.approx(instances * 10.0)


def test_there_are_never_fewer_replicas_than_asked_for() -> None:
    option = planned(named("g6e.xlarge"), Load(0.01, 100, 100), min_replicas=3).best
    assert option is not None
    assert (option.replicas, option.instances) == (3, 3)


def test_an_unknown_price_is_never_best_while_a_known_one_is_there() -> None:
    result = planned(copies("g6e.xlarge", None, 500.0, None, 1.0), runners_up=0)
    assert names(result) == ["d", "a", "c"]
    assert [option.cost.usd_per_hour for option in result.runners_up] == [None, None]
    assert list(result.ruled_out) == ["b"]


def test_only_unknown_prices_leave_the_one_with_fewest_instances() -> None:
    result = planned(copies("g6e.xlarge", None, None))
    assert names(result) == ["a", "b"]
    assert result.best is not None
    assert result.best.cost.usd_per_month is None


def test_types_beyond_the_runners_up_say_what_they_cost() -> None:
    result = planned(copies("g6e.xlarge", 1, 2, 3, 4), runners_up=2)
    assert names(result) == ["a", "b", "c"]
    instances = result.best.instances if result.best else 0
    assert result.ruled_out == {
        "d": f"dearer: {instances} for {4 * instances:.2f} USD an hour, where {instances} a cost {instances:.2f}"
    }


def test_quantization_is_used_where_it_is_allowed() -> None:
    kept = planned(named("g5.12xlarge"), model="Llama-3.1-70B")
    assert kept.best is None
    assert "GiB usable on each GPU" in kept.ruled_out["g5.12xlarge"]
    allowed = planned(named("g5.12xlarge"), model="Llama-3.1-70B", quantizations=(None, "awq")).best
    assert allowed is not None
    assert (allowed.quantization, allowed.tensor_parallel) == ("awq", 4)


def test_a_format_that_the_runtime_does_not_know_is_out() -> None:
    result = planned(named("g6e.xlarge"), quantizations=("no-such-format",))
    assert "no-such-format" in result.ruled_out["g6e.xlarge"]


def test_what_does_not_keep_it_from_running_is_warned_about() -> None:
    option = planned(named("g6e.12xlarge"), model="Llama-3.1-70B").best
    assert option is not None
    assert "TP_PCIE" in [finding.code for finding in option.warnings]
    assert all(finding.severity != "error" for finding in option.warnings)


@pytest.mark.parametrize(
    ("runtime", "model", "instance", "reason"),
    [
        ("vllm", "Llama-3.1-70B", "g6e.xlarge", "on its GPU the weights take 131.4 GiB"),
        ("vllm", "Llama-3.1-70B", "g6e.12xlarge", ""),
        ("tgi", "gpt-oss-120b", "g5.12xlarge", "does not know gpt_oss"),
        ("vllm", "Llama-3.1-8B", "p3dn.24xlarge", "7.0"),
        ("vllm", "Llama-3.1-8B", "g7.2xlarge", "595"),
        ("vllm", "Llama-3.1-8B", "g6f.xlarge", "fraction of a GPU"),
    ],
)
def test_reasons(runtime: str, model: str, instance: str, reason: str) -> None:
    result = planned(named(instance), runtime=runtime, model=model)
    if reason:
        assert result.best is None
        assert reason in result.ruled_out[instance]
        assert "\n" not in result.ruled_out[instance]
    else:
        assert result.best is not None


def test_a_cache_smaller_than_one_request_is_the_reason() -> None:
    result = plan(
        catalog.model("Llama-3.1-8B"),
        catalog.runtime("vllm"),
        LOAD,
        today=TODAY,
        instances=named("g5.xlarge"),
        max_total_tokens=100_000,
    )
    assert "tokens, fewer than one request of 100000" in result.ruled_out["g5.xlarge"]


def test_a_latency_limit_is_a_reason() -> None:
    result = planned(named("g5.xlarge"), Load(1, 1000, 250, max_seconds_per_output_token=0.01))
    assert "ms for an output token, above 10 ms" in result.ruled_out["g5.xlarge"]


def test_a_latency_limit_is_kept() -> None:
    load = Load(20, 1000, 250, max_seconds_per_output_token=0.02)
    result = planned(None, load)
    assert result.best is not None
    for option in (result.best, *result.runners_up):
        assert option.seconds_per_output_token <= 0.02


def test_every_type_of_the_catalog_is_accounted_for_once() -> None:
    result = planned(None)
    listed = names(result)
    assert sorted(listed + list(result.ruled_out)) == sorted(catalog.instances())
    assert all(result.ruled_out.values())
    assert "2 input" not in result.assumption
    assert "1000 input and 250 output tokens" in result.assumption


def test_an_architecture_without_node_image_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "node_images", tuple)
    assert planned(named("g6e.xlarge")).ruled_out == {"g6e.xlarge": "there is no GPU node image for x86_64"}


def test_the_newest_image_is_of_amazon_linux_where_there_is_one() -> None:
    image = planner.newest_node_image("x86_64")
    assert image is not None
    assert image.ami_type == "AL2023_x86_64_NVIDIA"
    same = [each for each in catalog.node_images() if each.ami_type == image.ami_type]
    assert image.release == max(each.release for each in same)
    arm = planner.newest_node_image("arm64")
    assert arm is not None
    assert "_ARM_64_" in arm.ami_type


def test_a_node_image_that_is_given_counts_for_its_architecture_only() -> None:
    old = next(image for image in catalog.node_images() if "_x86_64_" in image.ami_type and image.driver[0] < 580)
    result = plan(
        catalog.model("Llama-3.1-8B"),
        catalog.runtime("vllm"),
        LOAD,
        today=TODAY,
        instances=named("g5g.16xlarge", "g6e.xlarge"),
        node_image=old,
    )
    assert result.ruled_out["g5g.16xlarge"] == "there is no GPU node image for arm64"
    # CUDA 13 needs driver 580.
    assert "580" in result.ruled_out["g6e.xlarge"]


def test_a_context_beyond_the_model_is_refused() -> None:
    shape = catalog.model("SmolLM2-135M")
    with pytest.raises(ValueError, match="8193 is more than the 8192 that SmolLM2-135M was made for"):
        plan(shape, catalog.runtime("vllm"), LOAD, today=TODAY, max_total_tokens=8193)


def test_numbers_out_of_range_are_named_all_at_once() -> None:
    with pytest.raises(ValueError, match="nearest value that works") as error:
        plan(
            catalog.model("Llama-3.1-8B"),
            catalog.runtime("vllm"),
            Load(1, 9000, 500.5),
            today=TODAY,
            min_replicas=0,
            max_concurrent_requests=0,
            runners_up=-1,
            gpu_memory_utilization=1.2,
            quantizations=(),
        )
    assert str(error.value).splitlines() == [
        "max_concurrent_requests: 0 is below 1; nearest value that works: 1",
        "min_replicas: 0 is below 1; nearest value that works: 1",
        "runners_up: -1 is below 0; nearest value that works: 0",
        (
            "max_total_tokens: 8192 is less than an average request of the load, 9000 input and 500.5 output tokens;"
            " nearest value that works: 9501"
        ),
        "gpu_memory_utilization: 1.2 is outside 0 to 1; nearest value that works: 1",
        "quantizations: none is allowed; nearest value that works: the checkpoint's own (None)",
    ]


def test_a_plan_over_the_whole_catalog_takes_no_time() -> None:
    seconds: list[float] = []
    for _ in range(3):
        started = time.perf_counter()
        planned(None)
        seconds.append(time.perf_counter() - started)
    # Ten times what it may take, so that a busy machine passes; `make bench` measures it.
    assert min(seconds) < 0.5
