"""Reads trtllm-serve's command line and configuration file as TensorRT-LLM does, and refuses what it refuses.

A typo in a stack's arguments must stop the pod here as it would on a GPU node, with the same words: click's for the
command line, pydantic's for the file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import yaml
from pydantic import ValidationError

from local_runtime.tensorrt_llm.options import TorchLlmArgs

_LOG_LEVELS = ("internal_error", "error", "warning", "info", "verbose", "debug", "trace")
_REASONING_PARSERS = ("deepseek-r1", "nano-v3", "qwen3")
_TOOL_PARSERS = ("deepseek_v3", "deepseek_v31", "deepseek_v32", "glm4", "kimi_k2", "qwen3", "qwen3_coder")


class ConfigurationError(Exception):
    """A configuration that TensorRT-LLM refuses: the last lines of what it prints, and exit status 1."""


@dataclass(frozen=True)
class Arguments:
    """What serves, and the engine's arguments after the configuration file had its say."""

    host: str
    port: int
    engine: TorchLlmArgs

    @property
    def name(self) -> str:
        """The model's name: the last part of its folder's path, whatever a request calls it."""
        model = Path(self.engine.model)
        return model.name if model.is_dir() else self.engine.model


class _BackendChoice(click.Choice[str]):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert("tensorrt" if value == "trt" else value, param, ctx)


class _DefaultGroup(click.Group):
    """trtllm-serve's commands, of which `serve` need not be named."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "serve", self.commands["serve"], args
        return super().resolve_command(ctx, args)


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option("--tokenizer", type=str),
    click.option("--custom_tokenizer", type=str),
    click.option("--host", type=str, default="localhost", help="Hostname of the server."),
    click.option("--port", type=int, default=8000, help="Port of the server."),
    click.option("--backend", type=_BackendChoice(["pytorch", "tensorrt", "_autodeploy"]), default="pytorch"),
    click.option("--custom_module_dirs", type=click.Path(exists=True), multiple=True),
    click.option("--log_level", type=click.Choice(_LOG_LEVELS), default="info"),
    click.option("--max_beam_width", type=int, default=1),
    click.option("--max_batch_size", type=int, default=2048),
    click.option("--max_num_tokens", type=int, default=8192),
    click.option("--max_seq_len", type=int),
    click.option("--tensor_parallel_size", "--tp_size", type=int, default=1),
    click.option("--pipeline_parallel_size", "--pp_size", type=int, default=1),
    click.option("--context_parallel_size", "--cp_size", type=int, default=1),
    click.option("--moe_expert_parallel_size", "--ep_size", type=int),
    click.option("--moe_cluster_parallel_size", "--cluster_size", type=int),
    click.option("--gpus_per_node", type=int),
    click.option("--free_gpu_memory_fraction", "--kv_cache_free_gpu_memory_fraction", type=float, default=0.9),
    click.option("--num_postprocess_workers", type=int, default=0),
    click.option("--trust_remote_code", is_flag=True),
    click.option("--revision", type=str),
    click.option("--config", "--extra_llm_api_options", "extra_llm_api_options", type=str),
    click.option("--reasoning_parser", type=click.Choice(_REASONING_PARSERS)),
    click.option("--tool_parser", type=click.Choice(_TOOL_PARSERS)),
    click.option("--metadata_server_config_file", type=str),
    click.option("--server_role", type=str),
    click.option("--fail_fast_on_attention_window_too_large", is_flag=True),
    click.option("--otlp_traces_endpoint", type=str),
    click.option("--disagg_cluster_uri", type=str),
    click.option("--enable_chunked_prefill", is_flag=True),
    click.option("--media_io_kwargs", type=str),
    click.option("--chat_template", type=str),
)
"""Of `trtllm-serve serve`; source: `tensorrt_llm/commands/serve.py` of NVIDIA/TensorRT-LLM."""
_UNSERVED = ("metadata_server_config_file", "server_role", "disagg_cluster_uri", "chat_template")


def parse(arguments: Sequence[str]) -> Arguments:
    """The arguments of a launch.

    Prints to standard error and raises SystemExit with status 2 for what click refuses, as click does, or 0 for
    --help. Raises ConfigurationError for what the engine's arguments or their file have that TensorRT-LLM refuses.
    """
    found: list[dict[str, Any]] = []

    def serve(**values: Any) -> None:
        """Running an OpenAI API compatible server.

        MODEL: model name | HF checkpoint path | TensorRT engine path
        """
        found.append(values)

    command: Any = serve
    for option in reversed(_OPTIONS):
        command = option(command)
    command = click.command("serve")(click.argument("model", type=str)(command))
    group = _DefaultGroup(commands={"serve": command})
    try:
        group.main(args=list(arguments), prog_name="trtllm-serve", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        raise SystemExit(error.exit_code) from None
    if not found:  # it was asked for its help
        raise SystemExit(0)
    return _arguments(found[0])


def _arguments(values: dict[str, Any]) -> Arguments:
    if unserved := [f"--{name}" for name in _UNSERVED if values[name]]:
        raise ConfigurationError(f"not served by the local runtime: {', '.join(unserved)}")
    known = {name: value for name, value in values.items() if name in TorchLlmArgs.model_fields and value is not None}
    known["kv_cache_config"] = {"free_gpu_memory_fraction": values["free_gpu_memory_fraction"]}
    known.update(_file(values["extra_llm_api_options"]))
    try:
        engine = TorchLlmArgs(**known)
    except ValidationError as error:
        raise ConfigurationError(f"pydantic_core._pydantic_core.ValidationError: {error}") from None
    return Arguments(values["host"], values["port"], engine)


def _file(path: str | None) -> dict[str, Any]:
    """The configuration file, which wins over the command line."""
    if path is None:
        return {}
    try:
        content: Any = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise ConfigurationError(f"{type(error).__name__}: {error}") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"yaml.{type(error).__name__}: {error}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must be a mapping of the engine's arguments and is {content!r}")
    return cast("dict[str, Any]", content)
