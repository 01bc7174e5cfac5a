"""All checks on one stack: what the registry holds, what a stack file may accept, and how long it takes."""

import time
from dataclasses import replace
from datetime import date

import pytest

from llm_serving.capacity import catalog, checks
from llm_serving.capacity.cloud_facts import CloudFacts
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.stack import Stack
from tests.unit.capacity.sample_stack import GPU, SERVICE, STACK, told, with_pool, with_service

TODAY = date(2026, 11, 25)
ZONES = frozenset(STACK.zones)
CLOUD = CloudFacts(
    quotas={"L-DB2E81BA": 10_000.0, "L-1216C47A": 1000.0, "L-417A185B": 1000.0},
    offerings=dict.fromkeys((*catalog.instances(), "m7i.large"), ZONES),
    reservations=(),
)
WHY = "we have tried it under load"
SEVENTY = catalog.model("Llama-3.1-70B")


def found(stack: Stack) -> list[Finding]:
    return checks.check(stack, today=TODAY, cloud=CLOUD)


def test_nothing_is_wrong_with_the_sample() -> None:
    assert found(STACK) == []


def test_codes_are_unique_and_each_has_a_sentence() -> None:
    for code, check in checks.ALL.items():
        assert code == check.code
        assert code.replace("_", "").isalnum()
        assert code.isupper()
        assert check.summary.endswith(".")


def test_every_finding_is_of_a_registered_check() -> None:
    broken = replace(
        with_pool(
            instance_types=("g5.12xlarge", "x"), release_version=None, disk_gb=60, ami_type="AL2023_ARM_64_NVIDIA"
        ),
        services={
            "big": replace(SERVICE, name="big", model=SEVENTY, weight_gb=1, gpus=3, replicas=9),
            "none": replace(SERVICE, name="none", model=None, runtime="tgj", allow={"FIT_KV_POOL": WHY}),
        },
        kubernetes_version="1.30",
    )
    findings = checks.check(broken, today=TODAY)
    assert {finding.code for finding in findings} <= set(checks.ALL)
    assert len({finding.code for finding in findings}) > 10


def test_a_stack_file_answers_for_parts_that_are_not_counted() -> None:
    model = replace(catalog.model("Llama-3.1-8B"), other_parts=("vision_config",))
    (warned,) = found(with_service(model=model))
    (accepted,) = found(with_service(model=model, allow={"FIT_OTHER_PARTS": WHY}))

    assert (warned.code, warned.severity, warned.setting) == ("FIT_OTHER_PARTS", "warning", "models.chat.model")
    assert accepted.message == f"{warned.message}; accepted: {WHY}"


def test_a_model_that_does_not_fit_is_told_what_would() -> None:
    stack = replace(
        with_pool(instance_types=("g5.12xlarge",), disk_gb=500),
        services={"chat": replace(SERVICE, model=SEVENTY, weight_gb=141.1, gpus=4, memory_mib=160_000)},
    )
    errors = [finding for finding in found(stack) if finding.severity == "error"]
    assert told(errors) == [("FIT_WEIGHTS", "error", "models.chat.pool")]
    assert "largest context that fits: 0 tokens" in errors[0].message
    assert "would do: " in errors[0].message
    for name in errors[0].alternatives:
        fitting = replace(stack, gpu_pools={"l4": replace(GPU, instance_types=(name,), disk_gb=500)})
        instance = catalog.instance(name)
        asked = replace(stack.services["chat"], gpus=instance.gpus, memory_mib=16384)
        assert "FIT_WEIGHTS" not in {each.code for each in found(replace(fitting, services={"chat": asked}))}


def test_errors_come_first() -> None:
    stack = replace(with_service(replicas=1, cpu_millicores=9000), zones=())
    assert [finding.severity for finding in found(stack)] == ["error", "warning", "unchecked"]


def test_drivers_are_those_of_the_pinned_release() -> None:
    stack = with_pool(release_version="1.36.2-20991231")
    assert told(found(stack)) == [("AMI_UNKNOWN", "unchecked", "cluster.gpuPools.l4.releaseVersion")]
    vllm = replace(with_service(runtime="vllm"), kubernetes_version="1.33", gpu_pools={
        "l4": replace(GPU, release_version="1.33.5-20250920")
    })  # fmt: skip
    assert ("DRIVER_CUDA", "error", "models.chat.pool") in told(found(vllm))


def test_kubernetes_support() -> None:
    ended = replace(STACK, kubernetes_version="1.31")
    (finding,) = [each for each in checks.check(ended, today=date(2026, 11, 27)) if each.code == "KUBERNETES_SUPPORT"]
    assert finding.severity == "error"


@pytest.mark.parametrize("of_model", [True, False])
def test_an_accepted_error_is_a_warning_that_says_why(of_model: bool) -> None:
    allow = {"POOL_POD_TOO_LARGE": WHY}
    stack = with_service(cpu_millicores=9000, allow=allow if of_model else {})
    (finding,) = found(stack if of_model else replace(stack, allow=allow))
    assert (finding.code, finding.severity) == ("POOL_POD_TOO_LARGE", "warning")
    assert finding.message.endswith("; nearest valid value: 7660; accepted: we have tried it under load")


def test_a_model_accepts_for_itself_only() -> None:
    services = {
        "chat": replace(SERVICE, replicas=1, allow={"ROLLOUT_ONE_REPLICA": WHY}),
        "code": replace(SERVICE, name="code", replicas=1),
    }
    findings = found(replace(STACK, services=services))
    assert [(finding.setting, WHY in finding.message) for finding in findings] == [
        ("models.chat.replicas", True),
        ("models.code.replicas", False),
    ]


def test_what_was_not_checked_stays_so_when_it_is_accepted() -> None:
    stack = replace(STACK, allow={"CLOUD_QUOTA_UNCHECKED": WHY, "CLOUD_OFFERING_UNCHECKED": WHY})
    findings = checks.check(stack, today=TODAY)
    assert {finding.severity for finding in findings} == {"unchecked"}
    assert all(finding.message.endswith(WHY) for finding in findings)


def test_accepting_what_is_not_there() -> None:
    stack = replace(with_service(allow={"FIT_KV_POOL": WHY}), allow={"WEIGHT_SIZE": WHY, "CLOUD_QUOTA": WHY})
    assert told(found(stack)) == [
        ("ALLOW_UNUSED", "warning", "allow.WEIGHT_SIZE"),
        ("ALLOW_UNUSED", "warning", "models.chat.allow.FIT_KV_POOL"),
    ]


def hundred() -> Stack:
    """A hundred models, half of which fit nowhere near."""
    services = {
        f"model-{number}": replace(
            SERVICE,
            name=f"model-{number}",
            pool=f"pool-{number}",
            model=SEVENTY if number % 2 else SERVICE.model,
            weight_gb=141.1 if number % 2 else 16.1,
        )
        for number in range(100)
    }
    pools = {f"pool-{number}": replace(GPU, name=f"pool-{number}") for number in range(100)}
    return replace(STACK, services=services, gpu_pools=pools)


def test_a_hundred_models_take_less_than_a_second() -> None:
    stack = hundred()
    found(STACK)
    started = time.process_time()
    findings = found(stack)
    assert time.process_time() - started < 1
    assert sum(finding.code.startswith("FIT_") and finding.severity == "error" for finding in findings) == 50
