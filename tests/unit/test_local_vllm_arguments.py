"""The local vLLM accepts what `vllm serve` 0.33.0 accepts, and refuses the rest in its words."""

from pathlib import Path

import pytest
from local_runtime.vllm import environment, options, storage
from local_runtime.vllm.arguments import ConfigurationError, parse

STACK_ARGUMENTS = [
    *("/models/smollm2-135m", "--served-model-name", "smollm2-135m", "tiny", "--host", "0.0.0.0", "--port", "8080"),
    *("--tensor-parallel-size", "1", "--max-model-len", "2048", "--max-num-seqs", "16", "--dtype", "bfloat16"),
    *("--gpu-memory-utilization", "0.9", "--kv-cache-dtype", "fp8", "--shutdown-timeout", "100"),
    *("--disable-access-log-for-endpoints", "/health,/metrics", "--no-enable-prefix-caching"),
]


def test_arguments_of_a_stack() -> None:
    known = parse(STACK_ARGUMENTS)

    assert (known.model, known.names) == ("/models/smollm2-135m", ("smollm2-135m", "tiny"))
    assert (known.host, known.port, known.max_model_len, known.slots) == ("0.0.0.0", 8080, 2048, 16)
    assert known.shutdown_timeout == 100


def test_defaults_are_vllms() -> None:
    known = parse([])

    assert (known.model, known.names) == ("Qwen/Qwen3-0.6B", ("Qwen/Qwen3-0.6B",))
    assert (known.host, known.port, known.max_model_len, known.shutdown_timeout) == (None, 8000, None, 0)
    assert known.log_stats


def test_other_ways_to_write_the_same() -> None:
    known = parse(["--tensor_parallel_size=2", "--model", "m", "--max_model_len", "25.6k", "-tp", "1"])

    assert (known.model, known.max_model_len) == ("m", 25_600)
    assert parse(["m", "--max-model-len", "1K"]).max_model_len == 1024
    assert parse(["m", "--max-model-len", "auto"]).max_model_len is None
    assert parse(["m", "--compilation-config.mode", "3", "--compilation-config.level=2"]).model == "m"


def test_the_kv_cache_in_blocks() -> None:
    assert parse(["m", "--num-gpu-blocks-override", "256"]).kv_tokens == 4096
    assert parse(["m", "--num-gpu-blocks-override", "64", "--block-size", "32"]).kv_tokens == 2048


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["m", "--foo", "1"], "vllm: error: unrecognized arguments: --foo"),
        (["m", "stray"], "vllm: error: unrecognized arguments: stray"),
        (["m", "--engine", "echo"], "vllm: error: unrecognized arguments: --engine echo"),
        (["m", "--task", "embed"], "Hint: --task is not a vllm serve option."),
        (["m", "--port", "x"], "vllm serve: error: argument --port: invalid int value: 'x'"),
        (["m", "--max-model-len", "x"], "argument --max-model-len: invalid human_readable_int_or_auto value: 'x'"),
        (["m", "--max-model-len", "1.5K"], "Decimals are not allowed with binary suffixes like K. Did you mean"),
        (["m", "--dtype", "int8"], "argument --dtype: invalid choice: 'int8' (choose from"),
        (["m", "--enforce-eager=yes"], "argument --enforce-eager/--no-enforce-eager: ignored explicit argument 'yes'"),
        (["m", "--port"], "argument --port: expected one argument"),
        (["m", "--compilation-config", "{"], "argument --compilation-config/-cc: invalid loads value: '{'"),
    ],
)
def test_argparse_refuses(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)

    assert caught.value.code == 2
    written = capsys.readouterr().err
    assert message in written
    assert written.startswith("usage: vllm")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu-memory-utilization", "1.5"], "gpu_memory_utilization\n  Input should be less than or equal to 1"),
        (["--gpu-memory-utilization", "0"], "gpu_memory_utilization\n  Input should be greater than 0"),
        (["--max-num-seqs", "0"], "for SchedulerConfig\nmax_num_seqs\n  Input should be greater than or equal to 1"),
        (["--tensor-parallel-size", "0"], "for ParallelConfig\ntensor_parallel_size\n"),
        (["--quantization", "bitsandbytes"], "Unknown quantization method: bitsandbytes. Must be one of ['awq', "),
        (["--load-format", "s3"], "Load format `s3` is not supported"),
        (["--max-num-batched-tokens", "8", "--max-num-seqs", "9"], "(8) must be greater than or equal to max_num_seqs"),
        (
            ["--max-num-batched-tokens", "1K", "--max-model-len", "2K", "--no-enable-chunked-prefill"],
            "max_num_batched_tokens (1024) is smaller than max_model_len (2048).",
        ),
        (["--enable-auto-tool-choice"], "--enable-auto-tool-choice requires --tool-call-parser"),
        (["--lora-modules", "a=/a"], "LoRA is not enabled. Use --enable-lora to enable LoRA."),
        (["--enable-lora", "--lora-modules", '{"name": "a", "path": "/a"}'], "which isn't NAME=PATH"),
        (["--uds", "/s", "--grpc"], "not served by the local runtime: --grpc, --uds"),
    ],
)
def test_the_configuration_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(["m", *arguments])

    assert message in str(caught.value)


def test_weights_in_s3_need_a_load_format_that_streams_them() -> None:
    with pytest.raises(ConfigurationError, match="'load_format' must be 'modelexpress', 'runai_streamer' or"):
        parse(["s3://weights/tiny/1", "--load-format", "safetensors"])
    for load_format in ("auto", "runai_streamer"):
        assert parse(["s3://weights/tiny/1", "--load-format", load_format]).model == "s3://weights/tiny/1"


def test_where_downloads_are_kept() -> None:
    assert storage.cache_folder({"VLLM_CACHE_ROOT": "/cache", "HOME": "/root"}) == Path("/cache")
    assert storage.cache_folder({"XDG_CACHE_HOME": "/x", "HOME": "/root"}) == Path("/x/vllm")
    assert storage.cache_folder({"HOME": "/root"}) == Path("/root/.cache/vllm")


def test_unknown_variables_are_found() -> None:
    given = {"VLLM_LOGGING_LEVEL": "INFO", "VLLM_LOGING_LEVEL": "INFO", "HF_HUB_OFFLINE": "1", "VLLM_CACHE_ROOT": "/"}

    assert environment.unknown(given) == ["VLLM_LOGING_LEVEL"]


@pytest.mark.parametrize(
    ("port", "message"),
    [("tcp://10.96.0.7:8000", "VLLM_PORT 'tcp://10.96.0.7:8000' appears to be a URI."), ("x", "must be a valid int")],
)
def test_the_variable_that_a_service_named_vllm_sets(port: str, message: str) -> None:
    with pytest.raises(environment.EnvironmentRefusedError, match=message):
        environment.check({"VLLM_PORT": port})
    environment.check({"VLLM_PORT": "29500"})


def test_every_option_is_there_once() -> None:
    kinds = (options.SWITCHES, options.FLAGS, options.INTEGERS, options.SIZES, options.DECIMALS, options.TEXTS)
    names = [name for kind in (*kinds, options.LISTS, options.DOCUMENTS, options.CHOICES) for name in kind]

    assert len(names) == len(set(names)) == 314


def test_adapters_by_name() -> None:
    words = [
        "--enable-lora",
        "--lora-modules",
        "a=/models/a",
        "b=/models/b",
        "--max-lora-rank",
        "64",
        "--max-loras",
        "2",
    ]
    known = parse(["m", *words])

    assert known.adapters == {"a": "/models/a", "b": "/models/b"}
    assert known.max_lora_rank == 64
    assert (parse(["m"]).adapters, parse(["m"]).max_lora_rank) == ({}, 16)
