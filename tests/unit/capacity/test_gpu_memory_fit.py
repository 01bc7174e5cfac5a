"""The models of the GPU check are read as the catalog has them, and are as large as counting by hand says."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from llm_serving.capacity import catalog, kv_cache, weights
from llm_serving.capacity.model_config import parse
from local.gpu import memory_fit, report
from local.gpu.memory_fit import FULL, QUANTIZED
from local.gpu.results import Report, Row
from local.gpu.shapes import SHAPES, tiny


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_and_its_tiny_one_are_read(name: str) -> None:
    whole, small = parse(SHAPES[name], name), parse(tiny(SHAPES[name]), name)

    assert weights.parameters(small).total < 50e6 < weights.parameters(whole).total
    for kind in ("family", "heads", "kv_heads", "tied_embeddings", "attention_bias"):
        assert getattr(small, kind) == getattr(whole, kind)
    for part in ("experts", "latent_attention", "sliding_window"):
        assert (getattr(small, part) is None) == (getattr(whole, part) is None)


@pytest.mark.parametrize("name", [name for name in SHAPES if name in catalog.models()])
def test_a_model_of_the_catalog_has_the_same_shape_there(name: str) -> None:
    read, known = parse(SHAPES[name], name), catalog.model(name)

    for kind in ("family", "layers", "hidden", "heads", "kv_heads", "head_dim", "intermediate", "vocabulary", "context",
                 "tied_embeddings", "sliding_window", "experts", "latent_attention", "attention_bias"):  # fmt: skip
        assert getattr(read, kind) == getattr(known, kind), kind


def test_weights_counted_by_hand() -> None:
    llama = parse(SHAPES["Llama-3.1-8B"], "Llama-3.1-8B")
    # q and o, k and v, three matrices of the feed-forward part, two norms
    layer = 2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14336 + 2 * 4096
    assert weights.parameters(llama).total == 32 * layer + 2 * 128256 * 4096 + 4096 == 8_030_261_248

    qwen = parse(SHAPES["Qwen2.5-0.5B"], "Qwen2.5-0.5B")
    # the same, and biases of q, k and v; the output layer is the embedding
    layer = 2 * 896 * 896 + 2 * 896 * 128 + (896 + 2 * 128) + 3 * 896 * 4864 + 2 * 896
    assert weights.parameters(qwen).total == 24 * layer + 151936 * 896 + 896 == 494_032_768


def test_caches_counted_by_hand() -> None:
    def cached(name: str) -> float:
        return kv_cache.bytes_per_token(parse(SHAPES[name], name), 1, 2)

    assert cached("Llama-2-7B") == 32 * 2 * 32 * 128 * 2
    assert cached("gemma-2-9b") == 42 * 2 * 8 * 256 * 2
    assert cached("DeepSeek-V2-Lite") == 27 * (512 + 64) * 2


def test_the_models_of_a_part_of_the_check_are_among_the_shapes() -> None:
    assert {*FULL, *QUANTIZED} <= set(SHAPES)


def test_rows_tell_what_is_off(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    report = Report(path, {"gpu": "none"})
    report.add("m", "near", 101, 100)
    report.add("m", "far", 103, 100)
    report.add("m", "enough", 150, 100, limit="at least measured")
    report.add("m", "too little", 99.9, 100, limit="at least measured")
    report.add("m", "only told", 1, 100, limit=None)
    report.add("m", "without a GPU", 1, None)
    report.fail("m", "broken", "OutOfMemoryError")

    assert report.rows[0] == Row("m", "near", 101, 100, 1, "near")
    assert [row.what for row in report.rows if not row.holds] == ["far", "too little", "broken"]
    assert json.loads(path.read_text())["rows"][1]["difference_percent"] == 3
    assert report.table().row_count == 6


def test_a_cpu_takes_tiny_models_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        memory_fit.main(["result.json", "--device", "cpu"])
    assert "--tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("gpu", "machine"),
    [
        ("h100", "NVIDIA H100 80GB HBM3, driver 580.159.04, 81559 MiB"),
        ("h200", "NVIDIA H200, driver 580.159.04, 143771 MiB"),
    ],
)
def test_the_page_is_what_the_measurements_say(gpu: str, machine: str) -> None:
    (source,) = (path for path in report.sources() if path.stem == f"memory_fit_{gpu}")
    content = json.loads(source.read_text(encoding="utf-8"))

    assert source.with_suffix(".md").read_text(encoding="utf-8") == report.page(content)
    assert machine in report.page(content)


def test_the_page_tells_what_does_not_hold() -> None:
    machine = dict.fromkeys(("gpu", "driver_version", "memory.total_mib", "torch", "cuda", "transformers"), "1")
    rows = [
        Row("m", "weights in bf16", 1 << 30, 1 << 29, 100, "near", holds=False),
        Row("m", "cache of a token", 1024, 1024, -0.0, "near"),
        Row("m", "cache of a token", 1024, 1024, -0.0, "near", note="again"),
        Row("m", "only told", 1024, 1024, 0),
        Row("m", "fill", holds=False, note="OutOfMemoryError"),
    ]

    text = report.page({"machine": machine, "tolerance_percent": 2.0, "rows": [asdict(row) for row in rows]})

    assert "Of 5 rows 2 did not hold" in text
    assert text.splitlines()[-3:] == [
        "| m | weights in bf16, **off** | 1.000 GiB | 0.500 GiB | +100.00 % |",
        "| m | cache of a token | 1 KiB | 1 KiB | +0.00 % |",
        "| m | fill, **OutOfMemoryError** |  |  |  |",
    ]
