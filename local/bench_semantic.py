"""Measures the semantic cache: right and false hits by threshold, with and without the guard, and what a lookup costs.

PYTHONPATH=images/embedder:images/http-service:images/llm-gateway python -m local.bench_semantic

The pairs of questions are in bench/semantic_pairs.tsv: paraphrases, which should be hits, and near misses, where the
answers differ by a number, a name, a negation, a unit or a direction. The vectors are the real model's.
"""

import csv
import json
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from embedder import onnx_model
from embedder.cpus import computes_bfloat16
from embedder.model import Tokenizer, Vectors, read_shape
from embedder.onnx_backend import OnnxBackend
from llm_gateway import semantic_guard
from llm_gateway.config import DEFAULT_THRESHOLD
from llm_gateway.vector_index import Entry, Vector, VectorIndex
from matplotlib.figure import Figure
from rich.table import Table

from local import machine, verify_embedder
from local.console import console
from local.paths import ROOT

RESULTS = ROOT / "bench"
PAIRS = RESULTS / "semantic_pairs.tsv"
NAME = "semantic_cache"
THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.88, 0.90, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
MOST_FALSE = 0.01
"""Share of the near misses that may be hits at the default threshold."""
ENTRIES = 100_000
SMALL = 2_000
"""Most entries of a partition, by default."""
PROMPT_TOKENS = 64
RUNS = 101
"""Lookups of which the median counts."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, how alike their vectors are, and whether the guard refuses them."""

    kind: str
    similarity: float
    refused: bool


def run() -> None:
    """Measures everything, and writes bench/semantic_cache.json, .md and .png."""
    with console.status("measuring: the semantic cache"):
        folder = verify_embedder.model_folder()
        model = _Model(folder)
        found = pairs(model)
        results: dict[str, Any] = {
            "measured": datetime.now(UTC).date().isoformat(),
            "machine": machine.described(),
            "load": round(os.getloadavg()[0], 1),
            "default_threshold": DEFAULT_THRESHOLD,
            "paraphrases": sum(pair.kind == "paraphrase" for pair in found),
            "near_misses": {kind: sum(pair.kind == kind for pair in found) for kind in _kinds(found)},
            "by_threshold": [rates(found, threshold) for threshold in THRESHOLDS],
            "false_by_kind": {kind: _false(found, kind) for kind in _kinds(found)},
            **embed_costs(model),
            **index_costs(),
        }
    (RESULTS / f"{NAME}.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / f"{NAME}.md").write_text(page(results))
    _plot(results, RESULTS / f"{NAME}.png")
    table = Table("threshold", "hits", "false hits", "hits, guarded", "false hits, guarded", box=None)
    for row in results["by_threshold"]:
        table.add_row(f"{row['threshold']:.2f}", *_percents(row))
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}/")


class _Model:
    """The embedder's model on one core, as the CPU image runs it."""

    def __init__(self, folder: Path) -> None:
        graph = verify_embedder.FOLDER / "bench-graph"
        onnx_model.write(folder, graph)
        self._tokenizer = Tokenizer(graph, read_shape(graph).max_tokens)
        self.backend = OnnxBackend(graph, threads=1)
        self.exact = OnnxBackend(graph, threads=1, bfloat16=False)
        """The same in 32 bits, which is what it is where the processor has no bfloat16."""

    def embed(self, texts: Sequence[str]) -> Mapping[str, Vector]:
        return dict(zip(texts, self._vectors(self.backend, texts), strict=True))

    def _vectors(self, backend: OnnxBackend, texts: Sequence[str]) -> Vectors:
        return backend.embed(self._tokenizer.encode(texts))

    def least_cosine(self, texts: Sequence[str]) -> float:
        """The least cosine of a text's vector and the one in 32 bits."""
        both = [self._vectors(backend, texts) for backend in (self.backend, self.exact)]
        return float((both[0] * both[1]).sum(1).min())

    def milliseconds(self, backend: OnnxBackend, tokens: int) -> float:
        """The median time of a prompt with this many tokens, from text to vector."""
        text = " ".join(["cloud"] * (tokens - 2))  # a word of one token; a first and a last token are added
        if len(self._tokenizer.encode([text])[0]) != tokens:
            raise AssertionError
        return _median_ms(lambda: self._vectors(backend, [text]))


def embed_costs(model: _Model) -> dict[str, Any]:
    """Time of a vector as this processor does it, and in 32 bits, and how alike the two are for all the questions."""
    return {
        "bfloat16": computes_bfloat16(),
        "embed_ms": model.milliseconds(model.backend, PROMPT_TOKENS),
        "embed_float32_ms": model.milliseconds(model.exact, PROMPT_TOKENS),
        "least_cosine": round(model.least_cosine(_questions(_rows())), 6),
    }


def _rows() -> list[dict[str, str]]:
    with PAIRS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _questions(rows: Sequence[Mapping[str, str]]) -> list[str]:
    return sorted({row[side] for row in rows for side in ("first", "second")})


def pairs(model: _Model) -> list[Pair]:
    """The labelled pairs, with the real model's similarity."""
    rows = _rows()
    vectors = model.embed(_questions(rows))
    return [
        Pair(
            row["kind"],
            float(vectors[row["first"]] @ vectors[row["second"]]),
            bool(semantic_guard.refusal(row["first"], row["second"])),
        )
        for row in rows
    ]


def rates(found: Sequence[Pair], threshold: float) -> dict[str, float]:
    """Shares of the paraphrases that are hits, and of the near misses, which should not be; with and without guard."""
    wanted = [pair for pair in found if pair.kind == "paraphrase"]
    unwanted = [pair for pair in found if pair.kind != "paraphrase"]

    def share(of: Sequence[Pair], *, guarded: bool) -> float:
        hits = sum(pair.similarity >= threshold and not (guarded and pair.refused) for pair in of)
        return round(hits / len(of), 4)

    return {
        "threshold": threshold,
        "hits": share(wanted, guarded=False),
        "false_hits": share(unwanted, guarded=False),
        "hits_guarded": share(wanted, guarded=True),
        "false_hits_guarded": share(unwanted, guarded=True),
    }


def _kinds(found: Sequence[Pair]) -> list[str]:
    return sorted({pair.kind for pair in found} - {"paraphrase"})


def _false(found: Sequence[Pair], kind: str) -> list[int]:
    """Near misses of one kind at the default threshold that would be hits, without the guard and with it."""
    hits = [pair for pair in found if pair.kind == kind and pair.similarity >= DEFAULT_THRESHOLD]
    return [len(hits), sum(not pair.refused for pair in hits)]


def index_costs() -> dict[str, float]:
    """Time of a search among 100,000 entries of 384 numbers, in one partition and in small ones, and their memory."""
    search_one_ms, memory = _search_costs(1, ENTRIES)
    search_small_ms, _ = _search_costs(ENTRIES // SMALL, SMALL)
    return {
        "search_one_partition_ms": search_one_ms,
        "search_small_partition_ms": search_small_ms,
        "memory_mib": round(memory),
    }


def _search_costs(partitions: int, size: int) -> tuple[float, float]:
    """Milliseconds of a search in one of as many partitions as there are, and memory of the index in MiB."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((ENTRIES, 384), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    before = _resident_mib()
    index = VectorIndex(ENTRIES, size)
    for number, vector in enumerate(vectors):
        index.add(Entry(f"k{number}", f"p{number % partitions}", f"question {number}", vector), 1e12)
    memory = _resident_mib() - before
    return _median_ms(lambda: index.search("p0", vectors[0], 0.95)), memory


def _median_ms(compute: Callable[[], object]) -> float:
    def once() -> float:
        begun = time.perf_counter()
        compute()
        return (time.perf_counter() - begun) * 1000

    return round(statistics.median(once() for _ in range(RUNS)), 3)


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def page(results: Mapping[str, Any]) -> str:
    """The measurements as a page."""
    kinds: Mapping[str, int] = results["near_misses"]
    rows = "\n".join(f"| {row['threshold']:.2f} | {' | '.join(_percents(row))} |" for row in results["by_threshold"])
    false = "\n".join(
        f"| {kind} | {kinds[kind]} | {before} | {after} |" for kind, (before, after) in results["false_by_kind"].items()
    )
    return f"""# The semantic cache, measured

On {results["measured"]}, {machine.sentence(results["machine"])}, at a load of {results["load"]} from other work.
Written by `make bench`. The pairs are in `semantic_pairs.tsv`: {results["paraphrases"]} paraphrases and
{sum(kinds.values())} near misses, with the vectors of all-MiniLM-L6-v2. They were written for this project, and the
guard's words with them at hand: other questions will do worse, which is what shadow mode is there to tell.

Hits are paraphrases that get the known answer; false hits are near misses that do.

| threshold | hits | false hits | hits, with the guard | false hits, with the guard |
|---|---|---|---|---|
{rows}

![Hits and false hits by threshold](semantic_cache.png)

The default threshold is {results["default_threshold"]}. At it, of the near misses by kind:

| kind | pairs | false hits | with the guard |
|---|---|---|---|
{false}

## What a lookup costs

Medians of {RUNS}; on one core, but for the product of a matrix, which takes what there is.

| measure | value |
|---|---|
| the vector of a prompt of {PROMPT_TOKENS} tokens, from its text | {results["embed_ms"]} ms |
| the same in 32 bits, as where a processor has no bfloat16 | {results["embed_float32_ms"]} ms |
| a search among {ENTRIES:,} entries in one partition | {results["search_one_partition_ms"]} ms |
| a search in a partition of {SMALL:,} of {ENTRIES:,} entries | {results["search_small_partition_ms"]} ms |
| memory of {ENTRIES:,} entries of 384 numbers in one partition, and their texts | {results["memory_mib"]} MiB |

This processor {"computes" if results["bfloat16"] else "does not compute"} in bfloat16. The vectors of all the questions
above and those in 32 bits have a cosine of {results["least_cosine"]} at least.
"""


def _percents(row: Mapping[str, float]) -> list[str]:
    return [f"{row[name] * 100:.1f} %" for name in ("hits", "false_hits", "hits_guarded", "false_hits_guarded")]


def _plot(results: Mapping[str, Any], path: Path) -> None:
    figure: Any = Figure(figsize=(8, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    at = [row["threshold"] for row in results["by_threshold"]]
    for name, label, style in (
        ("hits", "hits", "C0--"), ("hits_guarded", "hits, with the guard", "C0-"),
        ("false_hits", "false hits", "C3--"), ("false_hits_guarded", "false hits, with the guard", "C3-"),
    ):  # fmt: skip
        axes.plot(at, [row[name] * 100 for row in results["by_threshold"]], style, label=label)
    axes.axvline(results["default_threshold"], color="0.6", linewidth=1)
    axes.set_xlabel("threshold (cosine)")
    axes.set_ylabel("% of the pairs")
    axes.set_ylim(0, 100)
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    run()
