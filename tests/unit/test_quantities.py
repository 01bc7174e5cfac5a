"""CPU and memory as Kubernetes writes them back."""

import pytest

from llm_serving import _quantities


@pytest.mark.parametrize(("millicores", "text"), [(50, "50m"), (1000, "1"), (1500, "1500m"), (4000, "4")])
def test_cpu(millicores: int, text: str) -> None:
    assert _quantities.cpu(millicores) == text


@pytest.mark.parametrize(
    ("mib", "text"), [(512, "512Mi"), (1024, "1Gi"), (1536, "1536Mi"), (65_536, "64Gi"), (1_048_576, "1Ti")]
)
def test_memory(mib: int, text: str) -> None:
    assert _quantities.memory(mib) == text


def test_memory_is_limited_and_cpu_is_not() -> None:
    assert _quantities.resources(250, 2048) == {
        "requests": {"cpu": "250m", "memory": "2Gi"},
        "limits": {"memory": "2Gi"},
    }
