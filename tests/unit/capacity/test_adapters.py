"""What adapters take of a GPU: exact bytes from a model's shape, and the ranks that vLLM makes room for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving.capacity import adapters, catalog
from llm_serving.capacity.fit import findings, fit
from tests.unit.capacity.test_fit import placed

LLAMA = catalog.model("Llama-3.1-8B")
OF_RANK_1 = 32 * ((4096 + 4096) + 2 * (4096 + 1024) + (4096 + 4096) + 3 * (4096 + 14336)) * 2
"""Bytes: of 32 layers, query, key, value, output, and three matrices of the feed-forward part."""


@given(st.lists(st.integers(1, 512), min_size=1, max_size=8))
def test_vllm_makes_room_for_the_highest_rank(ranks: list[int]) -> None:
    allowed = adapters.lora_rank(ranks)
    assert allowed in adapters.LORA_RANKS
    assert allowed >= max(ranks)
    assert not [less for less in adapters.LORA_RANKS if max(ranks) <= less < allowed]


def test_a_rank_that_vllm_has_no_room_for() -> None:
    with pytest.raises(ValueError, match="513 is above 512, the highest rank that vLLM serves"):
        adapters.lora_rank([8, 513])


@pytest.mark.parametrize(
    ("runtime", "ranks", "held"), [("tgi", (4, 16), 20), ("vllm", (4, 16), 32), ("vllm", (4,), 8), ("vllm", (), 0)]
)
def test_bytes(runtime: str, ranks: tuple[int, ...], held: int) -> None:
    assert adapters.per_gpu_bytes(LLAMA, runtime, ranks) == held * OF_RANK_1


@pytest.mark.parametrize("name", ["Qwen3-30B-A3B", "DeepSeek-R1"])
def test_experts_count(name: str) -> None:
    shape = catalog.model(name)
    experts = shape.experts
    assert experts is not None
    fewer = replace(shape, experts=replace(experts, count=experts.count - 1))
    one = (shape.layers - experts.dense_layers) * 3 * (shape.hidden + experts.intermediate) * 2
    ranks = (1,)
    assert adapters.per_gpu_bytes(shape, "tgi", ranks) - adapters.per_gpu_bytes(fewer, "tgi", ranks) == one


def test_they_leave_the_cache_less() -> None:
    plain = placed("Llama-3.1-8B", "g6.2xlarge", "vllm")
    adapted = replace(plain, adapter_ranks=(64, 64))
    lost = fit(plain).per_gpu.kv_cache - fit(adapted).per_gpu.kv_cache
    assert lost == pytest.approx(2 * 64 * OF_RANK_1 / (1 << 30))
    full = replace(plain, adapter_ranks=(512,) * 8)
    (message,) = [each.message for each in findings(full, fit(full)) if each.code == "FIT_WEIGHTS"]
    assert "GiB for weights and 8 adapters" in message
