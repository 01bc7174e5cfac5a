"""Settings of embedding services: their defaults, what is refused, and what the checks see of them."""

from typing import Any

import pytest

from infra import checks as program_checks
from tests.unit.test_settings import loaded, problems, values

NAME = "all-minilm-l6-v2"
GPU = {"device": "gpu", "pool": "l4"}


def with_service(service: dict[str, Any], name: str = NAME, **images: Any) -> dict[str, Any]:
    """The local settings with this embedding service and no other."""
    settings = values()
    settings["embeddings"] = {name: service}
    settings["images"] |= images
    return settings


def test_defaults() -> None:
    service = loaded(with_service({})).embeddings[NAME]
    assert (service.device, service.pool, service.replicas, service.truncate) == ("cpu", None, 2, False)
    assert (service.cpu_millicores, service.memory, service.timeout_seconds) == (1000, 1024, 60)
    settings = loaded(with_service(GPU, embedderCuda={"tag": "0.1.0"}))
    assert settings.embeddings[NAME].memory == 4096


def test_none_is_needed() -> None:
    settings = values()
    del settings["embeddings"]
    del settings["images"]["embedder"]
    assert loaded(settings).embeddings == {}


@pytest.mark.parametrize(
    ("service", "problem"),
    [
        ({"device": "cuda"}, "device: 'cuda' is not one of cpu, gpu; nearest valid value: cpu"),
        (
            {"device": "gpu"},
            "pool: is missing, and the device gpu needs one; nearest valid value: a pool of cluster.gpuPools",
        ),
        ({"pool": "l4"}, "pool: 'l4' is for the device gpu only; nearest valid value: none, or device: gpu"),
        ({"memoryMib": 256}, "memoryMib: 256 is below 512; nearest valid value: 512"),
        ({"revision": "1"}, "revision: unknown key; nearest known key: replicas"),
        ({"allow": {"rollout": "x"}}, "allow.rollout: "),
    ],
)
def test_what_is_refused(service: dict[str, Any], problem: str) -> None:
    (found,) = problems(with_service(service))
    assert found.startswith(f"llm-serving:embeddings.{NAME}.{problem}")


def test_the_image_of_its_device_and_the_pool_must_be_there_all_at_once() -> None:
    settings = with_service({"device": "gpu", "pool": "l5"})
    settings["embeddings"]["smollm2-135m"] = {}
    del settings["images"]["embedder"]
    assert problems(settings) == [
        f"llm-serving:embeddings.{NAME}.pool: 'l5' is no pool of cluster.gpuPools; nearest valid value: l4",
        "llm-serving:images.embedder: is missing, and it serves smollm2-135m; nearest valid value: tag: 0.1.0",
        f"llm-serving:images.embedderCuda: is missing, and it serves {NAME}; nearest valid value: tag: 0.1.0",
        (
            "llm-serving:embeddings.smollm2-135m: the name is that of models.smollm2-135m too;"
            " nearest valid value: smollm2-135m-embedding"
        ),
    ]


def test_a_name_is_not_that_of_a_versions_service() -> None:
    settings = with_service({}, "smollm2-135m-canary")
    settings["models"]["smollm2-135m"]["versions"] = {"stable": {"weight": 90}, "canary": {"weight": 10}}
    (found,) = problems(settings)
    assert "the name is that of models.smollm2-135m.versions.canary too" in found


def test_a_name_is_one_of_kubernetes() -> None:
    (found,) = problems(with_service({}, "MiniLM"))
    assert found.startswith("llm-serving:embeddings.MiniLM: is no name of up to 40 lower-case letters")


def test_what_the_checks_see() -> None:
    allow = {"POOL_NODES_NOW": "the pool grows next week"}
    settings = loaded(with_service({**GPU, "replicas": 3, "allow": allow}, embedderCuda={"tag": "1"}))
    seen = program_checks.stack_of(settings, "local").embeddings[NAME]
    assert (seen.pool, seen.gpus, seen.replicas, seen.memory_mib) == ("l4", 1, 3, 4096)
    assert (seen.setting, seen.allow) == (f"embeddings.{NAME}", allow)
    on_cpus = program_checks.stack_of(loaded(values()), "local").embeddings[NAME]
    assert (on_cpus.pool, on_cpus.gpus, on_cpus.timeout_seconds) == ("system", 0, 30)
