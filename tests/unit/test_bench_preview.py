"""What the benchmark of previews counts and writes, and the program that it evaluates."""

import json
from typing import Any

import pytest

from local import bench_preview, evaluation
from local.engine import Outcome

EVALUATION: list[dict[str, Any]] = [
    {"services": 1, "resources": 180, "seconds": 0.75, "processor_seconds": 0.75, "import_seconds": 2.5},
    {"services": 25, "resources": 324, "seconds": 1.23, "processor_seconds": 1.23, "import_seconds": 2.5},
    {"services": 50, "resources": 474, "seconds": 1.73, "processor_seconds": 1.73, "import_seconds": 2.5},
    {"services": 100, "resources": 774, "seconds": 2.72, "processor_seconds": 2.72, "import_seconds": 2.5},
]
RESULTS: dict[str, Any] = {
    "measured": "2026-11-26",
    "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 8, "linux": "6.1"},
    "load": 0.4,
    "runs": 3,
    "terraform_version": "1.11.4",
    "terraform_resources": 164,
    "resources": 204,
    "aws_resources": 164,
    "kubernetes_resources": 15,
    "command_seconds": 20.5,
    "engine_seconds": 12.5,
    "terraform_seconds": 7.5,
    "evaluation": EVALUATION,
}


def test_the_page_states_the_ratio_in_both_directions() -> None:
    page = bench_preview.page(RESULTS)
    assert "On 2026-11-26, 2 cores of a processor, 8 GiB, Linux 6.1, load 0.4 at the end." in page
    assert "| `make preview STACK=prod`, tools built | 20.5 s | 60 s |" in page
    assert "164 AWS resources, 15 Kubernetes ones, 25 components and providers | 12.5 s |" in page
    assert "| `terraform plan`, Terraform 1.11.4: 164 AWS resources | 7.5 s |" in page
    assert "0.60 times as fast, 1.67 times as long | at least 0.7 times as fast |" in page
    assert (
        "100 model services, 774 resources | 2.72 s, of the processor 2.72 s; before it the SDKs' import, 2.5 s | 3 s |"
        in page
    )
    assert "20.0, 20.0, 19.8 ms | alike: linear |" in page


def test_the_page_says_where_there_is_no_terraform() -> None:
    without = {**RESULTS, "terraform_version": None, "terraform_seconds": None}
    assert "not measured: no `terraform` on PATH" in bench_preview.page(without)


def test_resources_are_counted_by_what_makes_them() -> None:
    urn = "urn:pulumi:prod::llm-serving::"
    outcome = Outcome(
        steps=[
            {"op": "create", "urn": f"{urn}llm-serving:index:Network$aws:ec2/vpc:Vpc::network-vpc"},
            {"op": "create", "urn": f"{urn}kubernetes:core/v1:Namespace::llm-serving"},
            {"op": "create", "urn": f"{urn}llm-serving:index:Network::network"},
            {"op": "create", "urn": f"{urn}pulumi:providers:aws::aws"},
        ]
    )
    outcome.changes.update({"create": 4})
    assert bench_preview.counted(outcome) == {"resources": 4, "aws_resources": 1, "kubernetes_resources": 1}


@pytest.mark.parametrize("services", [1, 100])
def test_the_evaluated_stack_has_as_many_services_and_nodes_for_them(services: int) -> None:
    configuration = evaluation.configuration(services)
    assert len(json.loads(configuration["llm-serving:models"])) == services
    (pool,) = json.loads(configuration["llm-serving:cluster"])["gpuPools"].values()
    assert pool["desiredSize"] == pool["maxSize"] == 4 * services
