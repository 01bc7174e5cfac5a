"""The local TGI accepts what text-generation-launcher 3.3.7 accepts, and refuses the rest in its words."""

import pytest
from local_runtime.tgi.arguments import ArgumentValidationError, UsageError, parse
from local_runtime.tgi.options import OPTIONS

STACK_ARGUMENTS = [
    *("--model-id", "/models/smollm2-135m", "--hostname", "0.0.0.0", "--port", "8080", "--num-shard", "1"),
    *("--max-input-tokens", "1024", "--max-total-tokens", "2048", "--max-concurrent-requests", "64"),
    *("--usage-stats", "off", "--json-output"),
]


def test_arguments_of_the_stack() -> None:
    known = parse(STACK_ARGUMENTS, {})

    assert (known.model_id, known.hostname, known.port) == ("/models/smollm2-135m", "0.0.0.0", 8080)
    assert (known.max_input_tokens, known.max_total_tokens, known.max_concurrent_requests) == (1024, 2048, 64)
    assert known.json_output
    assert known.graceful_termination_timeout == 90
    assert known.payload_limit == 2_000_000


def test_defaults_are_the_launchers() -> None:
    known = parse([], {})

    assert (known.hostname, known.port, known.max_concurrent_requests) == ("0.0.0.0", 3000, 128)
    assert (known.max_best_of, known.max_stop_sequences, known.max_top_n_tokens) == (2, 4, 5)
    assert (known.max_input_tokens, known.max_total_tokens) == (4095, 4096)


def test_an_argument_wins_over_its_variable_and_that_over_the_default() -> None:
    environment = {"PORT": "80", "MAX_CONCURRENT_REQUESTS": "7", "JSON_OUTPUT": "true", "HOSTNAME": "pod-1"}

    known = parse(["--port=8080"], environment)

    assert known.port == 8080
    assert known.max_concurrent_requests == 7
    assert known.json_output
    assert known.hostname == "pod-1"


@pytest.mark.parametrize("word", ["", "0", "false", "No", "off"])
def test_a_flags_variable_can_be_off(word: str) -> None:
    assert not parse([], {"JSON_OUTPUT": word}).json_output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--foo", "1"], "error: unexpected argument '--foo' found\n\nUsage: text-generation-launcher [OPTIONS]"),
        (["--foo=1"], "error: unexpected argument '--foo' found"),
        (["stray"], "error: unexpected argument 'stray' found"),
        (["--engine", "echo"], "error: unexpected argument '--engine' found"),
        (["--port", "x"], "error: invalid value 'x' for '--port <PORT>': invalid digit found in string"),
        (["--port", "70000"], "error: invalid value '70000' for '--port <PORT>': 70000 is not in 0..=65535"),
        (["--port", "-1"], "error: invalid value '-1' for '--port <PORT>': invalid digit found in string"),
        (["--num-shard="], "'--num-shard <NUM_SHARD>': cannot parse integer from empty string"),
        (["--port"], "error: a value is required for '--port <PORT>' but none was supplied\n\nFor more"),
        (["--port", "--json-output"], "error: a value is required for '--port <PORT>' but none was supplied"),
        (["--port", "1", "--port", "2"], "error: the argument '--port <PORT>' cannot be used multiple times"),
        (["--json-output=1"], "error: unexpected value '1' for '--json-output' found; no more were expected"),
        (
            ["--dtype", "int8"],
            "error: invalid value 'int8' for '--dtype <DTYPE>'\n  [possible values: float16, bfloat16]",
        ),
        (["--cuda-memory-fraction", "half"], "invalid float literal"),
        (["--max-batch-total-tokens", "4294967296"], "number too large to fit in target type"),
    ],
)
def test_clap_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments, {})

    assert message in str(caught.value)
    assert str(caught.value).endswith("For more information, try '--help'.")


def test_a_variable_is_checked_as_its_argument() -> None:
    with pytest.raises(UsageError, match=r"invalid value 'tcp://10.96.0.7:8080' for '--port <PORT>'"):
        parse([], {"PORT": "tcp://10.96.0.7:8080"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--max-input-tokens", "2048", "--max-total-tokens", "2048"],
            'Error: ArgumentValidation("`max_input_tokens`(2048) must be < `max_total_tokens`(2048)")',
        ),
        (["--max-input-tokens", "1", "--max-input-length", "1"], "Both `max_input_tokens` (1) and"),
        (["--validation-workers", "0"], "`validation_workers` must be > 0"),
        (["--num-shard", "0"], "`num_shard` cannot be < 1"),
        (["--sharded", "true", "--num-shard", "1"], "`sharded` is true but `num_shard` <= 1"),
        (["--num-shard", "2", "--quantize", "exl2"], "Sharding is currently not supported with `exl2` quantization"),
        (
            ["--max-total-tokens", "20", "--max-batch-total-tokens", "10"],
            "`max_total_tokens` must be <= `max_batch_total_tokens`. Given: 20 and 10",
        ),
        (["--ngrok"], "`ngrok-authtoken` must be set when using ngrok tunneling"),
    ],
)
def test_the_launcher_refuses(arguments: list[str], message: str) -> None:
    with pytest.raises(ArgumentValidationError) as caught:
        parse(arguments, {})

    assert message in str(caught.value)


def test_the_legacy_input_limit_and_batch_limits() -> None:
    known = parse(["--max-input-length", "10", "--max-total-tokens", "20", "--max-batch-size", "2"], {})

    assert (known.max_input_tokens, known.max_batch_size, known.max_batch_total_tokens) == (10, 2, 4096)


def test_every_option_of_the_launcher_is_known() -> None:
    assert len(OPTIONS) == 54
    assert len({option.flag for option in OPTIONS}) == 54
    assert next(option for option in OPTIONS if option.name == "cors_allow_origin").several


def test_an_option_that_takes_several_values() -> None:
    parse(["--cors-allow-origin", "a", "--cors-allow-origin", "b"], {})


def test_adapters_by_name() -> None:
    assert parse([], {"LORA_ADAPTERS": "a=/models/a,b=/models/b"}).adapters == {"a": "/models/a", "b": "/models/b"}
    assert parse([], {}).adapters == {}
    for words, problem in (("a=b=c", "Invalid LoRA adapter format: a=b=c"), ("o/a", "loads no adapter from the hub")):
        with pytest.raises(ArgumentValidationError, match=problem):
            parse([], {"LORA_ADAPTERS": words})
