"""What the benchmark of pushing a model measures, and what it writes."""

from pathlib import Path

from llm_serving.registry.inspection import inspect
from local import bench_models
from local.bench_models import Run


def test_the_model_is_one_that_a_push_takes(tmp_path: Path) -> None:
    size = bench_models.write_model(tmp_path / "model", 1_000_000)
    files = inspect(tmp_path / "model")
    assert len(files) == bench_models.SHARDS + 2
    assert sum(file.size for file in files) == size
    assert 1_000_000 < size < 1_001_000


def test_the_page_has_both_programs_and_the_limits() -> None:
    push = [Run(10, 200.4, 4, 20), Run(30, 199, 5, 22), Run(12.5, 150, 6, 21)]
    aws = [Run(10, 114, 4, 20), Run(10, 114, 4, 20), Run(10, 114, 4, 20)]
    results = {
        "measured": "2026-11-26",
        "machine": {"cpu": "a processor", "cores": 2, "memory_gib": 8, "linux": "6.1"},
        "awscli": "1.2.3",
        "load": 1.5,
        "bytes": 5_000_000_000,
        "rounds": 3,
        "push": bench_models.summary(push, 5_000_000_000),
        "aws": bench_models.summary(aws, 5_000_000_000),
        "rate_percent": bench_models.rate_percent(push, aws),
    }
    page = bench_models.page(results)
    assert "same 5.00 GB" in page
    assert "| `llm-serving models push` | 12.5 s (10, 30, 12.5), 400.0 MB/s |  |" in page
    assert "| rate of the push, median of the rounds | 80 % of the other's | 90 % at least |" in page
    assert "| processor time of the push | 5 s, and 21 s of the server |  |" in page
    assert "| memory of the push, at most | 200 MiB | 300 MiB |" in page
    assert max(map(len, page.splitlines())) <= 120


def test_the_rate_compares_what_met_the_same_load() -> None:
    ours = [Run(10, 1, 1, 1), Run(40, 1, 1, 1), Run(11, 1, 1, 1)]
    theirs = [Run(9, 1, 1, 1), Run(40, 1, 1, 1), Run(9.9, 1, 1, 1)]
    assert bench_models.rate_percent(ours, theirs) == 90
    assert bench_models.rate_percent(theirs, ours) == 111
