"""Reads the command line and the environment as text-generation-launcher does, and refuses what it refuses.

A typo in a stack's arguments must stop the pod here as it would on a GPU node, with the same words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_runtime.tgi.options import FALSE_WORDS, OPTIONS, InvalidValueError, Option

_BY_FLAG = {option.flag: option for option in OPTIONS}
DEFAULT_TOTAL_TOKENS = 4096
"""Context that is made where no limit is given; the real one takes what fits the GPU."""
DEFAULT_SLOTS = 4
"""Requests generated at once on a machine of few cores; the real one goes by the GPU's memory."""


class UsageError(Exception):
    """A command line that clap refuses: the message and exit status 2."""


class ArgumentValidationError(Exception):
    """Values that the launcher refuses together: its message and exit status 1."""

    def __str__(self) -> str:
        # The launcher's main returns its error, which Rust prints in its debug form.
        return f'Error: ArgumentValidation("{self.args[0]}")'


@dataclass(frozen=True)
class Arguments:
    """What of the launcher's options has a meaning here; the rest is checked and then of no effect."""

    model_id: str
    hostname: str
    port: int
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_top_n_tokens: int
    max_input_tokens: int
    max_total_tokens: int
    max_batch_total_tokens: int
    max_batch_size: int
    max_client_batch_size: int
    validation_workers: int
    payload_limit: int
    graceful_termination_timeout: int
    disable_grammar_support: bool
    json_output: bool
    api_key: str | None
    adapters: Mapping[str, str]
    """Folders of LoRA adapters by the name that requests give."""


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Arguments:
    """The arguments of a launch. An argument wins over its environment variable, and that over the default.

    Raises UsageError for what clap refuses, ArgumentValidationError for what the launcher itself does.
    """
    values: dict[str, Any] = {option.name: _from_environment(option, environment) for option in OPTIONS}
    values.update(_from_command_line(arguments))
    return _checked(values)


def _from_environment(option: Option, environment: Mapping[str, str]) -> object:
    text = environment.get(option.variable)
    # `--env` is the one option that clap doesn't read from the environment.
    if text is None or option.name == "env":
        return False if option.parse is None else option.default
    if option.parse is None:
        return text.lower() not in FALSE_WORDS
    value = _value(option, text)
    return [value] if option.several else value


def _from_command_line(arguments: Sequence[str]) -> dict[str, object]:
    given: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        flag, equals, attached = word.partition("=")
        option = _BY_FLAG.get(flag)
        if option is None:
            raise UsageError(_message(f"unexpected argument '{flag}' found"))
        if option.name in given and not option.several:
            raise UsageError(_message(f"the argument '{option.usage}' cannot be used multiple times"))
        if option.parse is None:
            if equals:
                problem = f"unexpected value '{attached}' for '{option.flag}' found; no more were expected"
                raise UsageError(_message(problem))
            given[option.name] = True
            continue
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UsageError(_message(f"a value is required for '{option.usage}' but none was supplied"))
            attached = rest.pop(0)
        value = _value(option, attached)
        given[option.name] = [*given.get(option.name, []), value] if option.several else value
    return given


def _value(option: Option, text: str) -> object:
    assert option.parse is not None
    if option.choices and text not in option.choices:
        raise UsageError(
            _message(f"invalid value '{text}' for '{option.usage}'\n  [possible values: {', '.join(option.choices)}]")
        )
    try:
        return option.parse(text)
    except InvalidValueError as error:
        raise UsageError(_message(f"invalid value '{text}' for '{option.usage}': {error}")) from None


def _message(problem: str) -> str:
    # clap shows the usage where the words are wrong, not where a value is.
    about_value = problem.startswith(("invalid value", "a value is"))
    usage = "" if about_value else "Usage: text-generation-launcher [OPTIONS]\n\n"
    return f"error: {problem}\n\n{usage}For more information, try '--help'."


def _checked(values: dict[str, Any]) -> Arguments:
    max_input = _max_input_tokens(values)
    max_total: int | None = values["max_total_tokens"]
    if max_input is not None and max_total is not None and max_input >= max_total:
        raise ArgumentValidationError(f"`max_input_tokens`({max_input}) must be < `max_total_tokens`({max_total})")
    if values["validation_workers"] == 0:
        raise ArgumentValidationError("`validation_workers` must be > 0")
    _check_shards(values["sharded"], values["num_shard"], values["quantize"])
    batch_total: int | None = values["max_batch_total_tokens"]
    if batch_total is not None and max_total is not None and max_total > batch_total:
        raise ArgumentValidationError(
            f"`max_total_tokens` must be <= `max_batch_total_tokens`. Given: {max_total} and {batch_total}"
        )
    if values["ngrok"]:
        for name in ("ngrok_authtoken", "ngrok_edge"):
            if values[name] is None:
                raise ArgumentValidationError(f"`{name.replace('_', '-')}` must be set when using ngrok tunneling")
    total = max_total or max(DEFAULT_TOTAL_TOKENS, (max_input or 0) + 1)
    known = {name: values[name] for name in Arguments.__dataclass_fields__ if name in values}
    known.update(
        max_total_tokens=total,
        max_input_tokens=max_input if max_input is not None else total - 1,
        max_batch_total_tokens=batch_total or max(DEFAULT_TOTAL_TOKENS, total),
        max_batch_size=values["max_batch_size"] or DEFAULT_SLOTS,
        adapters=_adapters(values["lora_adapters"]),
    )
    return Arguments(**known)


def _adapters(text: str | None) -> dict[str, str]:
    folders: dict[str, str] = {}
    for adapter in text.split(",") if text else ():
        name, equals, folder = adapter.strip().partition("=")
        if not equals:
            raise ArgumentValidationError(f"{adapter}: the local runtime loads no adapter from the hub")
        if "=" in folder:
            raise ArgumentValidationError(f"Invalid LoRA adapter format: {adapter}")
        folders[name] = folder
    return folders


def _max_input_tokens(values: Mapping[str, Any]) -> int | None:
    current: int | None = values["max_input_tokens"]
    legacy: int | None = values["max_input_length"]
    if current is not None and legacy is not None:
        raise ArgumentValidationError(
            f"Both `max_input_tokens` ({current}) and `max_input_length` ({legacy}) are set. Please define only"
            " `max_input_tokens` as `max_input_length is deprecated for naming consistency."
        )
    return legacy if current is None else current


def _check_shards(sharded: bool | None, num_shard: int | None, quantize: str | None) -> None:
    if sharded and num_shard is not None and num_shard <= 1:
        raise ArgumentValidationError("`sharded` is true but `num_shard` <= 1")
    if num_shard is not None and num_shard < 1:
        raise ArgumentValidationError("`num_shard` cannot be < 1")
    if num_shard is not None and num_shard > 1 and quantize == "exl2":
        raise ArgumentValidationError("Sharding is currently not supported with `exl2` quantization")
