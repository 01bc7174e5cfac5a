"""`llm-serving catalog list`: what the checks know, and therefore can say."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from cli import options as _options
from cli import output
from cli.inputs import UNKNOWN, Problems
from llm_serving import _checks
from llm_serving.capacity import catalog, node_images, weights
from llm_serving.capacity.cost import UNKNOWN as UNKNOWN_PRICE
from llm_serving.capacity.cost import usd

Rows = list[dict[str, Any]]
EXAMPLES = ("catalog list", "catalog list models", "catalog refresh --region us-east-1")
REFUSED: dict[str, Any] = {}
"""What the answer for a program holds besides findings where the question is wrong."""


def _instances() -> Rows:
    return [
        {
            "name": each.name,
            "gpu": each.gpu.name,
            "gpus": each.gpus,
            "gpu_memory_mib": each.gpu_memory_mib,
            "vcpus": each.vcpus,
            "memory_gib": each.memory_gib,
            "architecture": each.architecture,
            "usd_per_hour": each.usd_per_hour,
        }
        for each in catalog.instances().values()
    ]


def _gpus() -> Rows:
    return [
        {
            "name": each.name,
            "compute_capability": _version(each.compute_capability),
            "cuda_memory_mib": each.cuda_memory_mib,
            "bandwidth_gb_s": each.bandwidth_gb_s,
            "tflops_16bit": each.tflops_16bit,
            "nvlink": each.nvlink,
        }
        for each in catalog.gpus().values()
    ]


def _models() -> Rows:
    return [
        {
            "name": each.name,
            "family": each.family,
            "parameters": weights.parameters(each).total,
            "layers": each.layers,
            "heads": each.heads,
            "kv_heads": each.kv_heads,
            "context": each.context,
            "quantization": each.quantization.method if each.quantization else None,
        }
        for each in catalog.models().values()
    ]


def _runtimes() -> Rows:
    return [
        {
            "name": each.name,
            "version": each.version,
            "image": each.image,
            "cuda": _version(each.cuda),
            "capabilities": " ".join(_version(capability) for capability in each.capabilities),
            "memory_fraction": each.memory_fraction,
        }
        for each in catalog.runtimes().values()
    ]


def _node_images() -> Rows:
    return [
        {
            "ami_type": each.ami_type,
            "release": each.release,
            "kubernetes_version": each.kubernetes_version,
            "driver": node_images.version(each.driver),
            "has_device_plugin": each.has_device_plugin,
        }
        for each in catalog.node_images()
    ]


def _cuda() -> Rows:
    return [
        {
            "version": _version(each.version),
            "native_driver": node_images.version(each.native_driver),
            "minimum_driver": each.minimum_driver,
        }
        for each in catalog.cuda_releases().values()
    ]


def _kubernetes() -> Rows:
    return [
        {
            "version": each.version,
            "standard_support_ends": each.standard_support_ends,
            "extended_support_ends": each.extended_support_ends,
        }
        for each in catalog.kubernetes_releases().values()
    ]


def _version(numbers: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in numbers)


KINDS: Mapping[str, Callable[[], Rows]] = {
    "instances": _instances,
    "gpus": _gpus,
    "models": _models,
    "runtimes": _runtimes,
    "node-images": _node_images,
    "cuda": _cuda,
    "kubernetes": _kubernetes,
}
"""The parts of the catalog by name."""


def options(name: str, summary: str) -> argparse.ArgumentParser:
    """What the command takes."""
    parser = _options.parser(name, summary, EXAMPLES)
    parser.add_argument(
        "action", choices=("list", "refresh"), help="refresh rewrites the instance types from what EC2 says"
    )
    parser.add_argument("kind", nargs="?", help=f"what to list: {', '.join(KINDS)}; default: all")
    parser.add_argument("--region", default="us-east-1", help="whose instance types to ask for; default: us-east-1")
    return parser


def run(given: argparse.Namespace) -> int:
    """List or refresh; raises InputError for a part that there is not, and where AWS can't be asked."""
    if given.action == "refresh":
        from cli import catalog_refresh  # noqa: PLC0415

        return catalog_refresh.run(given.region, _options.today(), as_json=given.as_json)
    problems = Problems()
    if given.kind is not None and given.kind not in KINDS:
        near = _checks.nearest(given.kind, KINDS)
        problems.add(
            UNKNOWN, "KIND", f"{given.kind!r} is not one of {', '.join(KINDS)}; nearest valid value: {near}", (near,)
        )
    problems.stop()
    chosen = {name: rows() for name, rows in KINDS.items() if given.kind in (None, name)}
    if given.as_json:
        output.emit_json(chosen)
        return 0
    for name, rows in chosen.items():
        _print(name, rows)
    return 0


def _print(name: str, rows: Rows) -> None:
    from rich.table import Table  # noqa: PLC0415  a program's answer does without

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=name, title_justify="left")
    for column in rows[0]:
        numbers = all(row[column] is None or type(row[column]) in (int, float) for row in rows)
        table.add_column(column, justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(column, value) for column, value in row.items()))
    console = output.console()
    console.print(table)
    console.print()


def _cell(column: str, value: Any) -> str:
    if column == "usd_per_hour":
        return usd(value)
    if value is None:
        return UNKNOWN_PRICE if column.endswith("ends") else ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)
