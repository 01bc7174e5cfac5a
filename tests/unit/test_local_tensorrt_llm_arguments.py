"""The local TensorRT-LLM accepts what trtllm-serve 1.2.1 accepts, and refuses the rest in its words."""

from pathlib import Path

import pytest
from local_runtime.generation import DEFAULT_SLOTS
from local_runtime.tensorrt_llm.arguments import ConfigurationError, parse
from local_runtime.tensorrt_llm.server import slots

STACK_ARGUMENTS = [
    *("serve", "/models/smollm2-135m", "--host", "0.0.0.0", "--port", "8080", "--backend", "pytorch"),
    *("--tp_size", "2", "--max_batch_size", "16", "--max_num_tokens", "8192", "--max_seq_len", "2048"),
    *("--kv_cache_free_gpu_memory_fraction", "0.85"),
]


def configuration(tmp_path: Path, text: str) -> str:
    path = tmp_path / "extra.yaml"
    path.write_text(text)
    return str(path)


def test_arguments_of_a_stack() -> None:
    known = parse(STACK_ARGUMENTS)

    assert (known.host, known.port, known.name) == ("0.0.0.0", 8080, "/models/smollm2-135m")
    assert (known.engine.tensor_parallel_size, known.engine.max_seq_len, slots(known.engine)) == (2, 2048, 16)
    assert known.engine.kv_cache_config.free_gpu_memory_fraction == 0.85
    assert not known.engine.return_perf_metrics


def test_defaults_are_trtllm_serves(tmp_path: Path) -> None:
    known = parse([str(tmp_path)])

    assert (known.host, known.port) == ("localhost", 8000)
    assert known.name == tmp_path.name  # the folder's name is the model's
    assert (known.engine.backend, known.engine.max_num_tokens, slots(known.engine)) == ("pytorch", 8192, DEFAULT_SLOTS)


def test_the_file_wins_over_the_command_line(tmp_path: Path) -> None:
    extra = configuration(
        tmp_path, "max_seq_len: 512\nreturn_perf_metrics: true\nkv_cache_config:\n  max_tokens: 1024\n"
    )

    for option in ("--config", "--extra_llm_api_options"):
        known = parse(["m", "--max_seq_len", "2048", option, extra])
        assert (known.engine.max_seq_len, known.engine.kv_cache_config.max_tokens) == (512, 1024)
        assert known.engine.return_perf_metrics


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m", "--foo", "1"], "Usage: trtllm-serve serve [OPTIONS] MODEL"),
        (["m", "--foo", "1"], "Error: No such option"),
        (["m", "--max-seq-len", "1"], "--max-seq-len"),
        (["serve"], "Error: Missing argument 'MODEL'."),
        (["m", "n"], "Error: Got unexpected extra argument (n)"),
        (["--port", "1", "m"], "Error: No such option"),
        (["m", "--port", "x"], "Error: Invalid value for '--port': 'x' is not a valid integer."),
        (
            ["m", "--backend", "vllm"],
            "Invalid value for '--backend': 'vllm' is not one of 'pytorch', 'tensorrt'",
        ),
        (["m", "--tp_size"], "Error: Option '--tp_size' requires an argument."),
    ],
)
def test_click_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)

    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["serve", "--help"])

    assert caught.value.code == 0
    assert "--kv_cache_free_gpu_memory_fraction" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo: 1\n", "1 validation error for TorchLlmArgs\nfoo\n  Extra inputs are not permitted"),
        ("max_batch_size: 0\n", "max_batch_size\n  Input should be greater than 0"),
        ("kv_cache_config:\n  free_gpu_memory_fraction: 1.5\n", "Input should be less than or equal to 1"),
        ("a: [\n", "yaml.ParserError: "),
        ("- a\n", "must be a mapping of the engine's arguments"),
    ],
)
def test_the_configuration_refuses(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(["m", "--config", configuration(tmp_path, text)])

    assert message in str(caught.value)


def test_what_needs_other_servers_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="not served by the local runtime: --server_role"):
        parse(["m", "--server_role", "context"])
    with pytest.raises(ConfigurationError, match="FileNotFoundError"):
        parse(["m", "--config", "/missing.yaml"])
