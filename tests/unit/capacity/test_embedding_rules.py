"""What the checks say of embedding services: pods are counted, and the CUDA image is held against the nodes."""

import re
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from llm_serving.capacity import catalog, checks, node_images
from llm_serving.capacity.embedding_rules import RELEASE
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.stack import Embedding, Stack
from tests.unit.capacity.sample_stack import GPU, STACK, with_pool

TODAY = date(2026, 11, 25)
ON_GPU = Embedding("minilm", "l4", 1, 2, 60, 1000, 4096)
ON_CPUS = Embedding("minilm", "system", 0, 2, 60, 1000, 1024)


def found(stack: Stack, service: Embedding, **values: Any) -> list[Finding]:
    changed = replace(stack, embeddings={"minilm": replace(service, **values)})
    return [each for each in checks.check(changed, today=TODAY) if each.severity != "unchecked"]


def roomy(**values: Any) -> Stack:
    return with_pool(desired_size=4, **values)


def test_nothing_is_wrong_with_either() -> None:
    assert found(STACK, ON_CPUS) == []
    assert found(roomy(), ON_GPU) == []


def test_an_old_driver_runs_no_cuda_13() -> None:
    old = next(image for image in catalog.node_images() if image.driver[0] < 580 and image.ami_type == GPU.ami_type)
    release = f"{old.kubernetes_version}.1-{old.release}"
    stack = replace(roomy(release_version=release), kubernetes_version=old.kubernetes_version)
    errors = [each for each in found(stack, ON_GPU) if each.setting.startswith("embeddings.")]
    assert [each.code for each in errors if each.severity == "error"] == ["DRIVER_CUDA"]
    assert errors[0].setting == "embeddings.minilm.pool"
    assert errors[0].message.startswith("CUDA 13.0 of Embedder 0.1.0 needs driver 580 or newer, and ")
    assert node_images.version(old.driver) in errors[0].message
    # On CPUs there is no driver to be too old.
    assert [each for each in found(stack, ON_CPUS) if each.setting.startswith("embeddings.")] == []


def test_a_gpu_that_pytorch_has_no_kernels_for() -> None:
    stack = roomy(instance_types=("p3.2xlarge",))
    errors = [each for each in found(stack, ON_GPU) if each.setting == "embeddings.minilm.pool"]
    assert ("RUNTIME_GPU", "error") in [(each.code, each.severity) for each in errors]
    assert any("Embedder 0.1.0 has no code for the V100" in each.message for each in errors)


def test_its_pods_take_gpus_of_the_pool() -> None:
    (problem,) = found(STACK, ON_GPU)
    assert str(problem).startswith(
        "cluster.gpuPools.l4.desiredSize: 2 nodes of g6.2xlarge don't hold 2 of chat, 2 of minilm: 4 are needed"
    )
    (problem,) = found(roomy(), ON_GPU, replicas=3)
    assert problem.code == "POOL_TOO_SMALL"
    assert problem.severity == "error"


def test_a_pool_with_nothing_else_is_used() -> None:
    stack = replace(STACK, gpu_pools={**STACK.gpu_pools, "spare": replace(GPU, name="spare")})
    assert [each.code for each in found(stack, ON_CPUS)] == ["POOL_UNUSED"]
    assert found(stack, ON_GPU, pool="spare") == []


def test_its_image_takes_disk() -> None:
    (problem,) = found(roomy(disk_gb=69), ON_GPU)
    assert problem.code == "DISK_IMAGES"
    assert "20 GB of images" in problem.message


def test_one_replica_stops_with_its_node() -> None:
    (problem,) = found(STACK, ON_CPUS, replicas=1)
    assert str(problem) == (
        "embeddings.minilm.replicas: 1 replica has no disruption budget, which would block node upgrades, and stops in"
        " each of those, until another runs; nearest valid value: 2 [ROLLOUT_ONE_REPLICA]"
    )
    (accepted,) = found(STACK, ON_CPUS, replicas=1, allow={"ROLLOUT_ONE_REPLICA": "it may"})
    assert accepted.message.endswith("; accepted: it may")


def test_what_is_accepted_must_be_there() -> None:
    (problem,) = found(STACK, ON_CPUS, allow={"POOL_UNUSED": "why not"})
    assert (problem.code, problem.setting) == ("ALLOW_UNUSED", "embeddings.minilm.allow.POOL_UNUSED")


def test_the_api_waits_as_long_as_the_service() -> None:
    (problem,) = found(STACK, ON_CPUS, timeout_seconds=301)
    assert str(problem).startswith(
        "apiGateway.timeoutSeconds: 300 s is less than the 301 s of embeddings.minilm.timeoutSeconds"
    )


def test_the_release_is_that_of_its_dockerfile() -> None:
    folder = Path(__file__).parents[3] / "images" / "embedder"
    base = re.search(r"nvidia/cuda:(\d+)\.(\d+)", (folder / "Dockerfile").read_text())
    assert base is not None
    assert RELEASE.cuda == (int(base[1]), int(base[2]))
    # What else is known of it was read in this one.
    assert "torch==2.11.0" in (folder / "requirements.in").read_text().splitlines()
