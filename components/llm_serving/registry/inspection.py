"""Looks a model's folder over before it is pushed: what a runtime would stumble over hours later, all of it at once."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from llm_serving.capacity import model_config
from llm_serving.registry import adapter, gguf_header, safetensors_header
from llm_serving.registry.errors import InvalidModelError
from llm_serving.registry.manifest import named
from llm_serving.registry.names import MANIFEST
from llm_serving.registry.safetensors_header import HeaderError

CONFIG = "config.json"
MOST_KEY_BYTES = 900
"""Of a file's path: S3's limit for a key is 1024, and the revision's folder is a part of that."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "tekken.json", "vocab.json", "vocab.txt")
"""Files of which one is enough for a runtime to make a tokenizer from."""
_LARGE_FILE_POINTER = b"version https://git-lfs"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.(?P<kind>safetensors|gguf)")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file that is to be pushed."""

    path: str
    """Relative to the folder, with forward slashes."""
    location: Path
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970: a file that is written to while it is pushed is not what was inspected."""


def inspect(directory: Path) -> list[LocalFile]:
    """The files of a model's or an adapter's folder, hidden ones left out, in the order of their names.

    Raises InvalidModelError with everything that would keep a runtime from loading them.
    """
    if not directory.is_dir():
        raise InvalidModelError([f"{directory}: is no folder"])
    found = list(_files(directory))
    # Hidden files are a working copy's own: caches, version control. A manifest is another push's.
    files = [file for file in found if not _is_hidden(file.path) and file.path != MANIFEST]
    problems = [f"{directory / file.path}: {problem}" for file in files for problem in _unusable(file)]
    problems = problems or [f"{directory / path}: {problem}" for path, problem in _problems(files)]
    if problems:
        raise InvalidModelError(problems)
    return files


def summary(directory: Path) -> Mapping[str, Any]:
    """What a model's config.json says, for people who choose hardware; less of it where it is of no language model.

    Of a LoRA adapter, what its own configuration says.
    """
    if (of_adapter := adapter.summary(directory)) is not None:
        return of_adapter
    try:
        config = json.loads((directory / CONFIG).read_bytes())
    except OSError:
        return {}
    known = {key: config[key] for key in ("model_type", "architectures") if key in config}
    try:
        shape = model_config.read(directory)
    except model_config.ModelConfigError:
        return known
    return {
        **known,
        "layers": shape.layers,
        "hidden": shape.hidden,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "vocabulary": shape.vocabulary,
        "context": shape.context,
        "dtype": shape.dtype,
        "quantization": shape.quantization.method if shape.quantization else None,
    }


def _files(directory: Path) -> Iterator[LocalFile]:
    for location in sorted(directory.rglob("*")):
        if location.is_symlink() and not location.exists():
            yield LocalFile(location.relative_to(directory).as_posix(), location, -1, 0)
        elif location.is_file():
            status = location.stat()
            yield LocalFile(location.relative_to(directory).as_posix(), location, status.st_size, status.st_mtime_ns)


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in path.split("/"))


def _unusable(file: LocalFile) -> Iterator[str]:
    if file.size < 0:
        yield "is a link to nothing; download the model again"
    elif not os.access(file.location, os.R_OK):
        yield "may not be read: change its permissions"
    elif len(file.path.encode(errors="surrogateescape")) > MOST_KEY_BYTES or not file.path.isprintable():
        yield f"has a name that S3 can't keep: rename it, to at most {MOST_KEY_BYTES} bytes of printable text"
    elif file.size < 1024 and file.location.read_bytes().startswith(_LARGE_FILE_POINTER):
        yield "is a Git LFS pointer, not the file itself: run `git lfs pull`"


def _problems(files: list[LocalFile]) -> Iterator[tuple[str, str]]:
    paths = [file.path for file in files]
    by_kind = {kind: [file for file in files if file.path.endswith(kind)] for kind in (".safetensors", ".gguf")}
    tensors: dict[str, list[str]] = {}
    keys: set[str] = set()
    for file in by_kind[".safetensors"]:
        try:
            tensors[file.path] = safetensors_header.tensors(file.location)
        except HeaderError as error:
            yield file.path, str(error)
    for file in by_kind[".gguf"]:
        try:
            keys |= gguf_header.keys(file.location)
        except HeaderError as error:
            keys.add(gguf_header.TOKENIZER)  # nobody knows: the broken header is problem enough
            yield file.path, str(error)
    configuration = next((file.location for file in files if file.path == adapter.CONFIG), None)
    if configuration is not None:
        yield from adapter.problems(configuration, paths, tensors.get(adapter.WEIGHTS))
        return
    if not any(by_kind.values()):
        yield "", _no_weights(paths)
    yield from _missing_shards(paths)
    for file in files:
        if file.path.endswith(".safetensors.index.json"):
            yield from ((file.path, problem) for problem in _index(file, tensors, paths))
    yield from _config(files, needed=bool(by_kind[".safetensors"]) or not by_kind[".gguf"])
    has_tokenizer = any(name in TOKENIZERS or name.endswith(".tiktoken") for name in paths)
    if not has_tokenizer and gguf_header.TOKENIZER not in keys:
        yield "", f"has no tokenizer: add one of {', '.join(TOKENIZERS)} from where the model is from"


def _no_weights(paths: list[str]) -> str:
    pickles = [path for path in paths if path.endswith(_PICKLES)]
    if pickles:
        return (
            f"has no weights but {named(pickles)}, which may run code when they are loaded: convert them to safetensors"
        )
    return "has no weights: no *.safetensors and no *.gguf"


def _missing_shards(paths: list[str]) -> Iterator[tuple[str, str]]:
    """Of files that say how many there are, all must be there."""
    shards = [found for path in paths if (found := _SHARD.fullmatch(path))]
    series = {(found["stem"], found["count"], found["kind"]) for found in shards}
    for stem, count, kind in sorted(series):
        if int(count) > len(paths) + 1000:
            yield f"{stem}-*-of-{count}.{kind}", f"{count} shards are said to be there and {len(paths)} files are"
            continue
        wanted = [f"{stem}-{number:05}-of-{count}.{kind}" for number in range(1, int(count) + 1)]
        if missing := sorted(set(wanted) - set(paths)):
            yield f"{stem}-*-of-{count}.{kind}", f"shards are missing: {named(missing)}"


def _index(file: LocalFile, tensors: Mapping[str, list[str]], paths: list[str]) -> Iterator[str]:
    """What an index promises must be in the shards that it names."""
    try:
        known: Any = json.loads(file.location.read_bytes())["weight_map"]
        weight_map = {str(name): str(shard) for name, shard in known.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        yield "is no index of safetensors: it has no `weight_map`"
        return
    shards = sorted(set(weight_map.values()))
    folder = file.path.rpartition("/")[0]
    located = {shard: f"{folder}/{shard}" if folder else shard for shard in shards}
    if missing := [shard for shard in shards if located[shard] not in paths]:
        yield f"names shards that are not there: {named(missing)}"
    held = {shard: set(tensors[located[shard]]) for shard in shards if located[shard] in tensors}
    absent = sorted(name for name, shard in weight_map.items() if shard in held and name not in held[shard])
    if absent:
        yield f"names tensors that their shards don't have: {named(absent)}"


def _config(files: list[LocalFile], *, needed: bool) -> Iterator[tuple[str, str]]:
    found = {file.path: file for file in files if file.path in (CONFIG, "tokenizer.json")}
    if needed and CONFIG not in found:
        yield "", f"has no {CONFIG}: add the one from where the model is from"
    for path, file in found.items():
        try:
            known = json.loads(file.location.read_bytes())
        except (ValueError, RecursionError):
            yield path, "is no JSON: copy it again"
            continue
        if not isinstance(known, dict):
            yield path, "is no JSON object: copy it again"
        elif path == CONFIG and not {"model_type", "architectures"} & cast("dict[str, Any]", known).keys():
            yield path, "has neither `model_type` nor `architectures`, so no runtime knows what the model is"
