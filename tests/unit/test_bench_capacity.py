"""What the benchmark of the capacity checks measures, and what it writes."""

from datetime import date

from llm_serving.capacity import catalog, checks
from local import bench_capacity, machine


def test_every_model_meets_every_runtime_and_instance_type() -> None:
    placements = bench_capacity.every_placement()
    assert {placement.model.name for placement in placements} == set(catalog.models())
    assert {placement.runtime.name for placement in placements} == set(catalog.runtimes())
    whole = {instance.name for instance in catalog.instances().values() if instance.gpus}
    assert {placement.instance.name for placement in placements} == whole
    assert all(placement.gpus <= placement.instance.gpus for placement in placements)


def test_the_stack_has_services_that_fit_and_services_that_do_not() -> None:
    stack = bench_capacity.large_stack()
    assert len(stack.services) == bench_capacity.SERVICES == 100
    found = checks.check(stack, today=date(2026, 11, 25))
    unfit = {finding.setting.split(".")[1] for finding in found if finding.code in ("FIT_WEIGHTS", "FIT_KV_POOL")}
    assert 10 < len(unfit) < 90


def test_the_page_has_every_measure_with_its_limit() -> None:
    times = ("fit_ms", "answer_ms", "plan_ms", "slowest_plan_ms", "stack_ms")
    processes = ("process_ms", "process_processor_ms", "python_ms", "python_processor_ms")
    results = {
        "measured": "2026-11-25",
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 8, "linux": "6.1"},
        **dict.fromkeys(("placements", "models", "instances", "services", "stack_findings"), 3),
        **dict.fromkeys((*times, *processes), 7.5),
    }
    page = bench_capacity.page(results)
    assert "On 2026-11-25, 2 cores of a processor, 8 GiB, Linux 6.1." in page
    assert page.count("7.5 ms") == 9
    for limit in ("1 ms", "50 ms", "1000 ms", "300 ms"):
        assert f"| {limit} |" in page


def test_a_machine_is_described() -> None:
    described = machine.described()
    assert int(described["cores"]) >= 1
    assert int(described["memory_gib"]) >= 1
    assert str(described["linux"]).count(".") == 1
