"""Every option of text-generation-launcher 3.3.7: its name, kind of value, default and environment variable.

Source: `launcher/src/main.rs` of huggingface/text-generation-inference at v3.3.7. The real launcher's short options are
left out: it declares `-p` twice, so nobody can rely on them.
"""

from collections.abc import Callable
from dataclasses import dataclass

UNSIGNED_64 = 2**64 - 1
UNSIGNED_32 = 2**32 - 1
UNSIGNED_16 = 2**16 - 1
FALSE_WORDS = ("", "0", "f", "false", "n", "no", "off")
"""What an environment variable of a flag must hold for it to be off, in clap's reading."""

QUANTIZE = ("awq", "compressed-tensors", "eetq", "exl2", "gptq", "marlin", "bitsandbytes", "bitsandbytes-nf4", "bitsandbytes-fp4", "fp8")  # fmt: skip  # noqa: E501


class InvalidValueError(ValueError):
    """A value that isn't of its option's kind; the message is Rust's own."""


@dataclass(frozen=True)
class Option:
    """One option of the launcher."""

    name: str
    parse: Callable[[str], object] | None
    """Reads the value; None for a flag, which has none."""
    default: object = None
    choices: tuple[str, ...] = ()
    several: bool = False
    """Whether it may be given more than once, its values then being a list."""

    @property
    def flag(self) -> str:
        """As it is written on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def usage(self) -> str:
        """As clap names it in messages."""
        return self.flag if self.parse is None else f"{self.flag} <{self.variable}>"

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return self.name.upper()


def unsigned(limit: int) -> Callable[[str], int]:
    """Reads a whole number from 0 to `limit` as Rust does."""

    def parse(text: str) -> int:
        digits = text.removeprefix("+")
        if not text:
            raise InvalidValueError("cannot parse integer from empty string")
        if not (digits.isascii() and digits.isdecimal()):
            raise InvalidValueError("invalid digit found in string")
        if int(digits) > limit:
            if limit == UNSIGNED_16:
                raise InvalidValueError(f"{digits} is not in 0..={limit}")
            raise InvalidValueError("number too large to fit in target type")
        return int(digits)

    return parse


def decimal(text: str) -> float:
    """Reads a floating-point number as Rust does."""
    try:
        return float(text)
    except ValueError:
        raise InvalidValueError("invalid float literal") from None


def _numbers(text: str) -> list[int]:
    read = unsigned(UNSIGNED_64)
    return [read(part) for part in text.split(",")]


def _choice(text: str) -> str:
    return text


def _boolean(text: str) -> bool:
    return text == "true"


_size = unsigned(UNSIGNED_64)
_u32 = unsigned(UNSIGNED_32)
_port = unsigned(UNSIGNED_16)

OPTIONS = (
    Option("model_id", str, "bigscience/bloom-560m"),
    Option("revision", str),
    Option("validation_workers", _size, 2),
    Option("sharded", _boolean, choices=("true", "false")),
    Option("num_shard", _size),
    Option("quantize", _choice, choices=QUANTIZE),
    Option("speculate", _size),
    Option("dtype", _choice, choices=("float16", "bfloat16")),
    Option("kv_cache_dtype", _choice, choices=("fp8_e4m3fn", "fp8_e5m2")),
    Option("trust_remote_code", None),
    Option("max_concurrent_requests", _size, 128),
    Option("max_best_of", _size, 2),
    Option("max_stop_sequences", _size, 4),
    Option("max_top_n_tokens", _u32, 5),
    Option("max_input_tokens", _size),
    Option("max_input_length", _size),
    Option("max_total_tokens", _size),
    Option("waiting_served_ratio", decimal, 0.3),
    Option("max_batch_prefill_tokens", _u32),
    Option("max_batch_total_tokens", _u32),
    Option("max_waiting_tokens", _size, 20),
    Option("max_batch_size", _size),
    Option("cuda_graphs", _numbers),
    Option("hostname", str, "0.0.0.0"),  # noqa: S104  the launcher's own default; a pod's own network namespace
    Option("port", _port, 3000),
    Option("prometheus_port", _port, 9000),
    Option("shard_uds_path", str, "/tmp/text-generation-server"),  # noqa: S108  the launcher's own default; not used
    Option("master_addr", str, "localhost"),
    Option("master_port", _size, 29500),
    Option("huggingface_hub_cache", str),
    Option("weights_cache_override", str),
    Option("disable_custom_kernels", None),
    Option("cuda_memory_fraction", decimal, 1.0),
    Option("rope_scaling", _choice, choices=("linear", "dynamic")),
    Option("rope_factor", decimal),
    Option("json_output", None),
    Option("otlp_endpoint", str),
    Option("otlp_service_name", str, "text-generation-inference.router"),
    Option("cors_allow_origin", str, several=True),
    Option("api_key", str),
    Option("watermark_gamma", decimal),
    Option("watermark_delta", decimal),
    Option("ngrok", None),
    Option("ngrok_authtoken", str),
    Option("ngrok_edge", str),
    Option("tokenizer_config_path", str),
    Option("disable_grammar_support", None),
    Option("env", None),
    Option("max_client_batch_size", _size, 4),
    Option("lora_adapters", str),
    Option("usage_stats", _choice, "on", choices=("on", "off", "no-stack")),
    Option("payload_limit", _size, 2_000_000),
    Option("enable_prefill_logprobs", None),
    Option("graceful_termination_timeout", _size, 90),
)
"""In the launcher's order."""
