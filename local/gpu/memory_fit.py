"""Compares what the planner says of GPU memory with what PyTorch allocates for models of random weights.

PYTHONPATH=components python -m local.gpu.memory_fit RESULT.json

Needs PyTorch, transformers and rich, and of this project only files: no Pulumi, no network, no checkpoint. Exit status
1 where weights or cache differ by more than `TOLERANCE`, or what should fit does not.
"""

import argparse
import importlib
import math
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_serving.capacity import catalog, kv_cache, weights
from llm_serving.capacity.catalog import InstanceType
from llm_serving.capacity.fit import GIB, MIB, OVERHEAD_GIB, fit
from llm_serving.capacity.model_config import parse
from llm_serving.capacity.model_shape import ModelShape
from llm_serving.capacity.placement import Placement
from local.console import console, errors
from local.gpu.device import Device
from local.gpu.results import Limit, Report
from local.gpu.shapes import SHAPES, tiny

UTILIZATION = 0.9
PROMPTS = (2048, 4096)
PREFILL = (2048, 8192)
"""Tokens of one pass: vLLM's default on most GPUs, and on those of 70 GiB and more. Only the first must fit: for the
other transformers' layers hold more at once than vLLM's, which compute several steps in one kernel."""
SAMPLED = 256
"""Sequences whose next token one pass computes, as in vLLM's profiling run (its default max_num_seqs)."""
BLOCK = 16
"""Tokens of one block of vLLM's cache."""
GROUP = 128
"""Weights of one group of AWQ, and one side of a block of fp8's."""
FULL = ("Llama-3.1-8B", "gemma-2-9b", "DeepSeek-V2-Lite", "Qwen2.5-32B")
"""Models beside which the cache is filled up."""
QUANTIZED: Mapping[str, tuple[str, ...]] = {
    "Qwen2.5-7B": ("fp8", "fp8_per_block", "awq"),
    "Llama-3.1-8B": ("fp8", "fp8_per_block", "awq"),
    "gpt-oss-20b": ("mxfp4",),
    "Qwen3-30B-A3B": ("fp8", "fp8_per_block", "awq"),
}
_DEFAULT_INSTANCE = "p5.4xlarge"


def _since(after: int | None, before: int | None) -> int | None:
    return None if after is None or before is None else after - before


def _tensor_bytes(tensors: Iterator[Any]) -> int:
    return sum({each.data_ptr() or id(each): each.nbytes for each in tensors}.values())


def build(device: Device, config: Mapping[str, Any], where: str | None = None) -> Any:
    """Return a model in bf16, with random weights where `where` can hold any."""
    transformers: Any = importlib.import_module("transformers")
    initialization: Any = importlib.import_module("transformers.initialization")
    torch = device.torch
    where = where or device.name
    with torch.device(where), initialization.no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(**config), dtype=torch.bfloat16
        )
    model.tie_weights()  # part of the initialization that was skipped
    model.requires_grad_(requires_grad=False)
    if where != "meta":
        # Whatever lay in memory may be no number at all.
        for weight in model.parameters():
            weight.normal_(0, 0.02)
    return model.eval()


def measure_weights(device: Device, report: Report, shape: ModelShape, config: Mapping[str, Any]) -> Any:
    """Build a model and compare its size; returns it."""
    device.clear()
    requested, allocated = device.requested(), device.allocated()
    model = build(device, config)
    device.clear()
    tensors = _tensor_bytes(each for group in (model.parameters(), model.buffers()) for each in group)
    measured = _since(device.requested(), requested)
    predicted = weights.weight_bytes(shape)
    report.add(shape.name, "weights in bf16", predicted, tensors if measured is None else measured)
    given, note = _since(device.allocated(), allocated), "PyTorch's allocator rounds up"
    report.add(shape.name, "the same as allocated", predicted, given, limit=None, note=note)
    return model


def _pass(device: Device, model: Any, tokens: int, cache: Any, last: int = 1) -> Any:
    torch = device.torch
    ids = torch.randint(0, model.config.vocab_size, (1, tokens), device=device.name)
    with torch.inference_mode():
        return model(input_ids=ids, past_key_values=cache, use_cache=cache is not None, logits_to_keep=last)


def measure_cache(
    device: Device, report: Report, shape: ModelShape, model: Any, prompts: tuple[int, int], *, windowed: bool = False
) -> None:
    """Run two prompts and compare what a token of the longer one adds to the cache.

    :param windowed: Let transformers drop what layers with a sliding window don't look back to.
    """
    transformers: Any = importlib.import_module("transformers")

    def held(tokens: int) -> tuple[int, int | None]:
        device.clear()
        before = device.requested()
        cache = transformers.DynamicCache(config=model.config) if windowed else transformers.DynamicCache()
        outputs = _pass(device, model, tokens, cache)
        del outputs
        device.clear()
        parts = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        return _tensor_bytes(iter(parts)), _since(device.requested(), before)

    held(prompts[1])  # so that the workspaces of the libraries are there already
    (few_bytes, few), (many_bytes, many) = held(prompts[0]), held(prompts[1])
    predicted = kv_cache.bytes_per_token(shape, 1, 2)
    grown = prompts[1] - prompts[0]
    if windowed:
        what = f"cache of {prompts[1]} tokens"
        note = "windows cut by transformers; the planner counts them as full"
        report.add(shape.name, what, predicted * prompts[1], many_bytes, limit=None, note=note)
        return
    report.add(shape.name, "cache of a token", predicted, (many_bytes - few_bytes) / grown, note="its tensors")
    total = _since(many, few)
    if total is not None:
        report.add(shape.name, "cache of a token", predicted, total / grown, note="memory that stays after the pass")


def pool_tensors(device: Device, shape: ModelShape, tokens: int) -> list[Any]:
    """Allocate a cache of so many tokens as vLLM lays it out, in whole blocks."""
    blocks, torch, latent = tokens // BLOCK, device.torch, shape.latent_attention
    if latent is not None:
        size = (blocks, BLOCK, latent.kv_lora_rank + latent.rope_head_dim)
    else:
        size = (2, blocks, BLOCK, shape.kv_heads, shape.head_dim)
    return [torch.empty(size, dtype=torch.bfloat16, device=device.name) for _ in range(shape.layers)]


def fill(device: Device, report: Report, placement: Placement, model: Any, prefill: tuple[int, ...]) -> None:
    """Allocate all of the cache that is said to fit beside a model, then run the largest passes beside both."""
    shape = placement.model
    fitted = fit(placement)
    device.clear()
    before = device.requested()
    pool = pool_tensors(device, shape, fitted.kv_pool_tokens)
    measured = _since(device.requested(), before)
    kept = _tensor_bytes(iter(pool)) if measured is None else measured
    token = kv_cache.placement_bytes_per_token(placement)
    what = f"pool of {fitted.kv_pool_tokens} tokens"
    report.add(shape.name, what, fitted.kv_pool_tokens * token, kept, note="vLLM's layout")
    weight = _tensor_bytes(model.parameters())
    for tokens in prefill:
        device.clear()
        start = device.allocated()
        outputs = _pass(device, model, tokens, None, SAMPLED)
        # vLLM samples in float32.
        logits = outputs.logits.float()
        peak, used = _since(device.peak(), start), device.used()
        del outputs, logits
        name = f"with {tokens} tokens in a pass"
        must: Limit | None = "at least measured" if tokens == prefill[0] else None
        report.add(shape.name, f"activations {name}", None, peak, limit=None, note="transformers' kernels, not vLLM's")
        rest = None if used is None else used - weight - kept
        note = "CUDA context, activations, rounding; no CUDA graphs"
        report.add(shape.name, f"overhead {name}", OVERHEAD_GIB * GIB, rest, limit=must, note=note)
        in_use, usable = f"GPU in use {name}", fitted.per_gpu.usable * GIB
        report.add(shape.name, in_use, usable, used, limit=must, note=f"{UTILIZATION:g} of the catalog's memory")
        seen = UTILIZATION * (device.total() or 0)
        report.add(shape.name, in_use, seen, used, limit=must, note=f"{UTILIZATION:g} of what CUDA sees, vLLM's limit")
    del pool


def _packed(torch: Any, method: str, size: tuple[int, ...]) -> list[tuple[tuple[int, ...], Any]]:
    """Sizes and types of the tensors that a quantized matrix becomes: `size` is experts, if any, then two sides."""
    *experts, rows, columns = size
    if method == "awq":
        groups = rows // GROUP
        return [
            ((*experts, rows, columns // 8), torch.int32),
            ((*experts, groups, columns // 8), torch.int32),
            ((*experts, groups, columns), torch.float16),
        ]
    if method == "mxfp4":
        return [
            ((*experts, rows, columns // 2), torch.uint8),
            ((*experts, rows, math.ceil(columns / 32)), torch.uint8),
        ]
    blocks = (math.ceil(rows / GROUP), math.ceil(columns / GROUP)) if method == "fp8_per_block" else ()
    return [(size, torch.float8_e4m3fn), ((*experts, *blocks), torch.float32)]


def measure_quantized(device: Device, report: Report, shape: ModelShape, skeleton: Any, method: str) -> None:
    """Allocate a model's weights as a quantized checkpoint has them: matrices packed, all else in bf16.

    :param skeleton: The model without memory.
    """
    torch = device.torch
    linear = {
        id(module.weight)
        for name, module in skeleton.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head") and method != "mxfp4"
    }
    device.clear()
    before = device.requested()
    tensors: list[Any] = []
    for name, weight in skeleton.named_parameters():
        experts = ".experts." in name and weight.dim() == 3
        if id(weight) in linear or experts:
            # A linear layer's matrix has outputs first, AWQ's packed one inputs; for the others it's the same.
            turned = weight.transpose(-1, -2) if method == "awq" else weight
            parts = _packed(torch, method, tuple(turned.shape))
        else:
            parts = [(tuple(weight.shape), torch.bfloat16)]
        tensors += [torch.empty(size, dtype=dtype, device=device.name) for size, dtype in parts]
    measured = _since(device.requested(), before)
    kept = sum(each.nbytes for each in tensors) if measured is None else measured
    report.add(shape.name, f"weights in {method}", weights.weight_bytes(shape, method), kept)


def instance_of(device: Device) -> InstanceType:
    """Return the smallest instance type of the catalog with the device's GPU."""
    words = str(device.torch.cuda.get_device_name()).split() if device.is_cuda else list[str]()
    found = [each for each in catalog.instances().values() if each.gpus and each.gpu.name in words]
    return min(found, key=lambda each: each.gpus, default=catalog.instance(_DEFAULT_INSTANCE))


def machine(device: Device) -> dict[str, Any]:
    """Say what this runs on."""
    torch, described = device.torch, dict[str, Any]()
    if device.is_cuda:
        described["gpu"] = torch.cuda.get_device_name()
        described |= _from_driver()
    transformers: Any = importlib.import_module("transformers")
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda, "transformers": transformers.__version__}
    return {**described, "device": device.name, **versions}


def _from_driver() -> dict[str, Any]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    keys = ("driver_version", "memory.total", "memory.reserved", "memory.used")
    query = [program, f"--query-gpu={','.join(keys)}", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    lines = answer.stdout.strip().splitlines()
    if answer.returncode or not lines:
        return {}
    units = {key: f"{key}_mib" if key.startswith("memory") else key for key in keys}
    return dict(zip(units.values(), (each.strip() for each in lines[0].split(",")), strict=False))


class Check:
    """One run over all shapes."""

    def __init__(self, device: Device, report: Report, *, small: bool) -> None:
        self._device = device
        self._report = report
        self._small = small
        instance = instance_of(device)
        # A CPU has no memory to fill: a card of 6 GiB stands for the real one, and nothing writes to most of it.
        self._instance = instance if device.is_cuda else replace(instance, gpu_memory_mib=6144)
        self._prompts = (128, 256) if small else PROMPTS
        self._prefill = (128,) if small else PREFILL

    def gpu(self) -> None:
        """Compare the catalog's row of this GPU."""
        total = self._device.total()
        name, seen = self._instance.gpu.name, self._instance.gpu_memory_mib * MIB
        self._report.add(name, "memory that CUDA sees", seen, total, note="the catalog's row of the GPU")
        self._device.torch.zeros(1, device=self._device.name)
        what = "CUDA context, in use before any model"
        self._report.add(name, what, None, self._device.used(), limit=None)

    def shape(self, name: str, config: Mapping[str, Any]) -> None:
        """Compare everything for one shape; what fails becomes a row."""
        shape = parse(config, name)
        total = self._device.total()
        if total is not None and weights.weight_bytes(shape) > 0.85 * total:
            self._report.add(name, "weights in bf16", None, 0, limit=None, note="left out: this GPU is too small")
        else:
            self._attempt(name, "unquantized", lambda: self._unquantized(shape, config))
        # Nothing of a failed attempt may stay, its traceback's variables included.
        self._device.clear()
        for method in QUANTIZED.get(name, ()):
            self._attempt(name, f"weights in {method}", lambda method=method: self._quantized(shape, config, method))
            self._device.clear()

    def _unquantized(self, shape: ModelShape, config: Mapping[str, Any]) -> None:
        device, report = self._device, self._report
        model = measure_weights(device, report, shape, config)
        if device.name == "meta":
            return
        self._attempt(shape.name, "cache", lambda: measure_cache(device, report, shape, model, self._prompts))
        if shape.sliding_window is not None:
            run = lambda: measure_cache(device, report, shape, model, self._prompts, windowed=True)  # noqa: E731
            self._attempt(shape.name, "cache with windows", run)
        if shape.name in FULL:
            placement = Placement(
                shape, catalog.runtime("vllm"), self._instance, gpus=1, gpu_memory_utilization=UTILIZATION
            )
            self._attempt(shape.name, "fill", lambda: fill(device, report, placement, model, self._prefill))

    def _quantized(self, shape: ModelShape, config: Mapping[str, Any], method: str) -> None:
        skeleton = build(self._device, config, "meta")
        measure_quantized(self._device, self._report, shape, skeleton, method)

    def _attempt(self, shape: str, what: str, run: Callable[[], None]) -> None:
        begun = time.monotonic()
        try:
            run()
        except Exception as error:  # noqa: BLE001 - whatever fails for one shape, the others are measured
            errors.print(traceback.format_exc(), markup=False)
            self._report.fail(shape, what, f"{type(error).__name__}: {error}"[:300])
        console.print(f"{shape}: {what} took {time.monotonic() - begun:.1f} s", markup=False)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.gpu.memory_fit", description=__doc__)
    parser.add_argument("result", type=Path, help="JSON file to write")
    parser.add_argument("--device", choices=("cuda", "cpu", "meta"), default="cuda", help="meta: weights only")
    parser.add_argument("--tiny", action="store_true", help="scaled-down models, for a CPU")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="only this one; may be repeated")
    given = parser.parse_args(arguments)
    if given.device == "cpu" and not given.tiny:
        parser.error("a CPU needs --tiny")
    return given


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table and return the exit status."""
    given = _arguments(arguments)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    device = Device(given.device)
    report = Report(given.result, machine(device))
    check = Check(device, report, small=given.tiny)
    check.gpu()
    for name in given.shape or SHAPES:
        config = SHAPES[name]
        check.shape(name, tiny(config) if given.tiny else config)
    console.print(report.table())
    failed = [row for row in report.rows if not row.holds]
    console.print(f"{len(report.rows)} rows, {len(failed)} of them off")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
