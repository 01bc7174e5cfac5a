"""What makes a folder a LoRA adapter, as PEFT writes one, and what a runtime would stumble over in it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_PAIR = ("lora_A", "lora_B")
_REFUSED = {
    "modules_to_save": "has whole modules beside its low-rank ones (`modules_to_save`), which no runtime here loads",
    "use_dora": "is a DoRA adapter (`use_dora`), which no runtime here serves",
}
"""Settings that change the answers and that vLLM refuses (lora/peft_helper.py in its wheel)."""


def summary(directory: Path) -> Mapping[str, Any] | None:
    """What a folder's adapter_config.json says, for people who serve it; None where it has none."""
    try:
        known = _read(directory / CONFIG)
    except OSError:
        return None
    return {
        "peft_type": known.get("peft_type"),
        "base_model": known.get("base_model_name_or_path"),
        "rank": rank(known),
        "alpha": known.get("lora_alpha"),
        "target_modules": known.get("target_modules"),
    }


def rank(config: Mapping[str, Any]) -> int:
    """The highest rank of an adapter's matrices, which `rank_pattern` may set for some of them; 0 where it has none."""
    of_some = cast("object", config.get("rank_pattern"))
    ranks = [config.get("r"), *(cast("dict[str, Any]", of_some).values() if isinstance(of_some, dict) else ())]
    return max((each for each in ranks if isinstance(each, int)), default=0)


def problems(config: Path, paths: Sequence[str], tensors: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """What a runtime would not load of an adapter, each with the file that it is about.

    `paths` are the folder's files, `tensors` the names in its weights; None where they can't be read.
    """
    if WEIGHTS not in paths:
        pickled = "adapter_model.bin" in paths
        yield (
            "",
            (
                f"has no {WEIGHTS} but adapter_model.bin, which may run code when it is loaded: save it as safetensors"
                if pickled
                else f"is a LoRA adapter without {WEIGHTS}: add it from where the adapter is from"
            ),
        )
    elif tensors is not None:
        yield from ((WEIGHTS, problem) for problem in _unpaired(tensors))
    try:
        known = _read(config)
    except (ValueError, RecursionError):
        yield CONFIG, "is no JSON object: copy it again"
        return
    if known.get("peft_type") != "LORA":
        yield CONFIG, f"says `peft_type` {known.get('peft_type')!r}, and runtimes serve LORA only"
    if not _is_rank(known.get("r")):
        yield CONFIG, f"says `r` {known.get('r')!r}, and a rank is a whole number from 1"
    if not known.get("target_modules"):
        yield CONFIG, "has no `target_modules`, so no runtime knows what it changes"
    yield from ((CONFIG, f"{problem}: train it without, or merge it into the model") for problem in _features(known))


def _features(config: Mapping[str, Any]) -> Iterator[str]:
    return (problem for name, problem in _REFUSED.items() if config.get(name))


def _unpaired(tensors: Sequence[str]) -> Iterator[str]:
    halves = {name: [part for part in _PAIR if f".{part}." in f".{name}."] for name in tensors}
    if not any(halves.values()):
        yield "has no tensors of an adapter: their names have lora_A or lora_B in them"
    for name, parts in halves.items():
        for part in parts:
            other = name.replace(part, _PAIR[1 - _PAIR.index(part)])
            if other not in halves:
                yield f"has {name} without {other}: save the adapter again"


def _is_rank(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _read(path: Path) -> dict[str, Any]:
    """Reads a JSON object; raises ValueError for anything else."""
    known: object = json.loads(path.read_bytes())
    if not isinstance(known, dict):
        raise ValueError("no JSON object")  # noqa: TRY004  wrong is what a file holds, as where it is no JSON
    return cast("dict[str, Any]", known)
