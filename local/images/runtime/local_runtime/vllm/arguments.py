"""Reads the command line of `vllm serve` as vLLM's own parser does, and refuses what vLLM refuses.

A typo in a stack's arguments must stop the pod here as it would on a GPU node, with the same words.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import Field, ValidationError, create_model

from local_runtime.generation import DEFAULT_SLOTS, MAX_SLOTS
from local_runtime.vllm import VERSION, options
from local_runtime.vllm.nodes import DEFAULT_ADDRESS, DEFAULT_PORT, DEFAULT_TIMEOUT_SECONDS, Nodes

DEFAULT_MODEL = "Qwen/Qwen3-0.6B"
DEFAULT_LORA_RANK = 16
DEFAULT_BLOCK_SIZE = 16
"""Tokens of a block of the KV cache on a CUDA GPU."""
_OBJECT_STORES = ("s3://", "gs://", "az://")
_STREAMERS = ("modelexpress", "runai_streamer", "runai_streamer_sharded")
_SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

_CONFIGURATIONS = (
    create_model(
        "ModelConfig",
        max_model_len=(int | None, Field(default=None, ge=-1)),
        max_logprobs=(int, Field(default=20, ge=-1)),
    ),
    create_model(
        "CacheConfig",
        block_size=(int | None, Field(default=None, gt=0)),
        gpu_memory_utilization=(float, Field(default=0.92, gt=0, le=1)),
    ),
    create_model(
        "ParallelConfig",
        tensor_parallel_size=(int, Field(default=1, ge=1)),
        pipeline_parallel_size=(int, Field(default=1, ge=1)),
        data_parallel_size=(int, Field(default=1, ge=1)),
        nnodes=(int, Field(default=1, ge=1)),
        node_rank=(int, Field(default=0, ge=0)),
        distributed_timeout_seconds=(int | None, Field(default=None, ge=1)),
    ),
    create_model(
        "SchedulerConfig",
        max_num_batched_tokens=(int | None, Field(default=None, ge=1)),
        max_num_seqs=(int | None, Field(default=None, ge=1)),
        max_num_active_seqs=(int | None, Field(default=None, ge=1)),
        max_num_queued_reqs=(int | None, Field(default=None, ge=0)),
        max_num_queued_tokens=(int | None, Field(default=None, ge=0)),
        stream_interval=(int, Field(default=1, ge=1)),
    ),
)
"""The classes of `vllm/config` and their fields' limits, for the options that people set."""

_UNSERVED = ("chat_template", "config", "grpc", "ssl_certfile", "ssl_keyfile", "uds")
"""Options that change what clients get, or how, and that nothing here does."""


class ConfigurationError(Exception):
    """Values that vLLM's configuration refuses: the last lines of what it prints, and exit status 1."""


@dataclass(frozen=True)
class Arguments:
    """What of the options has a meaning here; the rest is checked and then of no effect."""

    model: str
    names: tuple[str, ...]
    """The names that requests may use; answers have the first."""
    host: str | None
    port: int
    max_model_len: int | None
    """None takes the model's own."""
    slots: int
    kv_tokens: int | None
    """Size of the KV cache where it is set."""
    max_num_queued_reqs: int | None
    max_num_queued_tokens: int | None
    shutdown_timeout: int
    api_keys: tuple[str, ...]
    response_role: str
    include_usage: bool
    cached_tokens_in_usage: bool
    log_stats: bool
    fail_on_unknown_environment: bool
    root_path: str
    adapters: Mapping[str, str]
    """Folders of LoRA adapters by the name that requests give."""
    max_lora_rank: int
    fingerprint: str | None
    nodes: Nodes
    headless: bool
    """Whether it only follows the first node, and serves nothing."""


def parse(arguments: Sequence[str]) -> Arguments:
    """The arguments of a launch, without the word `serve`.

    Prints to standard error and raises SystemExit with status 2 for what argparse refuses, as argparse does. Raises
    ConfigurationError for what vLLM's configuration does.
    """
    given = _parser().parse_args(["serve", *_prepared(arguments)])
    values = vars(given)
    _check_limits(values)
    _check_together(values)
    return _arguments(values)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments:") and re.search(r"(^|\s)--task(=|\s|$)", message):
            message += (
                "\n\nHint: --task is not a vllm serve option. For embedding, reranking, or reward models, use"
                " --runner pooling. To adapt a generative model for pooling, also use --convert embed, --convert"
                " classify, or --convert reward."
            )
        super().error(message)


def _parser() -> argparse.ArgumentParser:
    top = _Parser(prog="vllm", description="vLLM CLI")
    top.add_argument("-v", "--version", action="version", version=VERSION)
    commands = top.add_subparsers(dest="subparser")
    serve = commands.add_parser("serve", usage="vllm serve [model_tag] [options]")
    serve.add_argument("model_tag", nargs="?")
    kinds: list[tuple[Sequence[str], dict[str, Any]]] = [
        (options.SWITCHES, {"action": argparse.BooleanOptionalAction}),
        (options.FLAGS, {"action": "store_true"}),
        (options.INTEGERS, {"type": int}),
        (options.SIZES, {"type": human_readable_int}),
        (options.DECIMALS, {"type": float}),
        (options.TEXTS, {"type": str}),
        (options.LISTS, {"type": str, "nargs": "+"}),
        (options.DOCUMENTS, {"type": _named(json.loads, "loads")}),
        (["max-model-len"], {"type": human_readable_int_or_auto}),
        (["numa-bind-nodes", "cudagraph-capture-sizes"], {"type": int, "nargs": "+"}),
        (["hf-token"], {"type": str, "nargs": "?", "const": True}),
        (["middleware"], {"type": str, "action": "append"}),
        (["api-server-count/asc"], {"type": int}),
    ]
    for names, settings in kinds:
        for name in names:
            serve.add_argument(*_flags(name), **settings)
    for name, choices in options.CHOICES.items():
        serve.add_argument(*_flags(name), choices=choices, type=type(choices[0]))
    return top


def _flags(name: str) -> list[str]:
    long, *others = name.split("/")
    return [f"--{long}", *(f"--{other}" if len(other) > 4 else f"-{other}" for other in others)]


def _named(function: Callable[[str], Any], name: str) -> Callable[[str], Any]:
    # argparse names a kind of value by its function.
    def read(text: str) -> Any:
        return function(text)

    read.__name__ = name
    return read


def human_readable_int(text: str) -> int:
    """A whole number such as 25.6k, 25600 of it, or 1K, 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
    if match is None:
        return int(text)
    number, suffix = match.groups()
    if suffix.isupper() and "." in number:
        raise argparse.ArgumentTypeError(
            f"Decimals are not allowed with binary suffixes like {suffix}. Did you mean to use"
            f" {number}{suffix.lower()} instead?"
        )
    return int(float(number) * _SUFFIXES[suffix])


def human_readable_int_or_auto(text: str) -> int:
    """A whole number as above, or -1 or `auto`, both -1."""
    return -1 if text.strip().lower() in ("-1", "auto") else human_readable_int(text)


def _prepared(arguments: Sequence[str]) -> list[str]:
    """The words as argparse gets them: the model first, dashes for underscores, dotted keys as one JSON document."""
    words = list(arguments)
    for index, word in enumerate(words):
        if word == "--model" and index + 1 < len(words):
            words = [words[index + 1], *words[:index], *words[index + 2 :]]
            break
        if word.startswith("--model="):
            words = [word.removeprefix("--model="), *words[:index], *words[index + 1 :]]
            break
    prepared: list[str] = []
    documents: dict[str, dict[str, Any]] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            prepared.append(word)
            continue
        name, equals, value = word.partition("=")
        option, dot, key = name.partition(".")
        option = "--" + option[2:].replace("_", "-")
        if dot:
            documents.setdefault(option, {})[key] = value if equals else next(rest, "")
        else:
            prepared.append(option + equals + value)
    for option, document in documents.items():
        prepared += [option, json.dumps(document)]
    return prepared


def _check_limits(values: dict[str, Any]) -> None:
    for configuration in _CONFIGURATIONS:
        known = {name: values[name] for name in configuration.model_fields if values[name] is not None}
        try:
            configuration(**known)
        except ValidationError as error:
            raise ConfigurationError(f"pydantic_core._pydantic_core.ValidationError: {error}") from None


def _check_together(values: dict[str, Any]) -> None:
    if unserved := [f"--{name.replace('_', '-')}" for name in _UNSERVED if values[name]]:
        raise ConfigurationError(f"not served by the local runtime: {', '.join(unserved)}")
    _check_nodes(values)
    quantization: str | None = values["quantization"]
    if quantization is not None and quantization not in options.QUANTIZATION:
        raise ConfigurationError(
            f"ValueError: Unknown quantization method: {quantization}. Must be one of {list(options.QUANTIZATION)}."
        )
    load_format = values["load_format"] or "auto"
    model = _model(values)
    if load_format not in options.LOAD_FORMATS:
        raise ConfigurationError(f"ValueError: Load format `{load_format}` is not supported")
    if model.startswith(_OBJECT_STORES) and load_format not in ("auto", *_STREAMERS):
        raise ConfigurationError(
            "ValueError: To load a model from object storage (S3/GCS/Azure), 'load_format' must be 'modelexpress',"
            f" 'runai_streamer' or 'runai_streamer_sharded', but got '{load_format}'. Model: {model}"
        )
    batched, sequences = values["max_num_batched_tokens"], values["max_num_seqs"]
    length = values["max_model_len"]
    if batched is not None and length is not None and batched < length and values["enable_chunked_prefill"] is False:
        raise ConfigurationError(
            f"ValueError: max_num_batched_tokens ({batched}) is smaller than max_model_len ({length}). This effectively"
            " limits the maximum sequence length to max_num_batched_tokens and makes vLLM reject longer sequences."
            " Please increase max_num_batched_tokens or decrease max_model_len."
        )
    if batched is not None and sequences is not None and batched < sequences:
        raise ConfigurationError(
            f"ValueError: max_num_batched_tokens ({batched}) must be greater than or equal to max_num_seqs"
            f" ({sequences})."
        )
    if values["enable_auto_tool_choice"] and not values["tool_call_parser"]:
        raise ConfigurationError("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")


def _check_nodes(values: dict[str, Any]) -> None:
    nodes, rank = values["nnodes"] or 1, values["node_rank"] or 0
    if nodes > 1:
        size = (values["tensor_parallel_size"] or 1) * (values["pipeline_parallel_size"] or 1)
        if size % nodes:
            raise ConfigurationError(f"AssertionError: world_size={size} must be divisible by nnodes={nodes}.")
        if rank >= nodes:
            raise ConfigurationError(f"AssertionError: node_rank={rank} must be less than nnodes={nodes}.")
        if rank and not values["headless"]:
            raise ConfigurationError("AssertionError: collective_rpc should not be called on follower node")
    if values["headless"] and (nodes == 1 or not rank):
        raise ConfigurationError("not served by the local runtime: --headless on a replica's first node")


def _model(values: dict[str, Any]) -> str:
    return values["model_tag"] or values["model"] or DEFAULT_MODEL


def _adapters(values: dict[str, Any]) -> dict[str, str]:
    """The adapters' folders by name. Raises ConfigurationError where LoRA is off, or one is told of in another way."""
    adapters: dict[str, str] = {}
    for word in values["lora_modules"] or ():
        name, equals, path = word.partition("=")
        if not equals or "," in word:
            raise ConfigurationError(f"not served by the local runtime: --lora-modules {word}, which isn't NAME=PATH")
        adapters[name] = path
    if adapters and not values["enable_lora"]:
        raise ConfigurationError("RuntimeError: LoRA is not enabled. Use --enable-lora to enable LoRA.")
    return adapters


def _arguments(values: dict[str, Any]) -> Arguments:
    model = _model(values)
    length: int | None = values["max_model_len"]
    blocks: int | None = values["num_gpu_blocks_override"]
    slots = values["max_num_active_seqs"] or values["max_num_seqs"] or DEFAULT_SLOTS
    mode = values["fingerprint_mode"] or "full"
    return Arguments(
        model=model,
        names=tuple(values["served_model_name"] or [model]),
        host=values["host"],
        port=8000 if values["port"] is None else values["port"],
        max_model_len=None if length == -1 else length,
        slots=min(slots, MAX_SLOTS),
        kv_tokens=None if blocks is None else blocks * (values["block_size"] or DEFAULT_BLOCK_SIZE),
        max_num_queued_reqs=values["max_num_queued_reqs"],
        max_num_queued_tokens=values["max_num_queued_tokens"],
        shutdown_timeout=values["shutdown_timeout"] or 0,
        api_keys=tuple(values["api_key"] or ()),
        response_role=values["response_role"] or "assistant",
        include_usage=bool(values["enable_force_include_usage"]),
        cached_tokens_in_usage=bool(values["enable_prompt_tokens_details"]),
        log_stats=not values["disable_log_stats"],
        fail_on_unknown_environment=bool(values["fail_on_environ_validation"]),
        root_path=values["root_path"] or "",
        adapters=_adapters(values),
        max_lora_rank=values["max_lora_rank"] or DEFAULT_LORA_RANK,
        fingerprint={"none": None, "custom": values["fingerprint_value"]}.get(mode, f"vllm-{VERSION}-local"),
        nodes=Nodes(
            count=values["nnodes"] or 1,
            rank=values["node_rank"] or 0,
            address=values["master_addr"] or DEFAULT_ADDRESS,
            port=values["master_port"] or DEFAULT_PORT,
            timeout_seconds=values["distributed_timeout_seconds"] or DEFAULT_TIMEOUT_SECONDS,
        ),
        headless=values["headless"],
    )
