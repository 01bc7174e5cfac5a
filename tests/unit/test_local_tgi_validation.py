"""Requests are refused as the real router refuses them."""

from typing import Any

import pytest
from local_runtime.tgi.arguments import parse
from local_runtime.tgi.errors import RequestShapeError, ValidationError
from local_runtime.tgi.validation import Request, read_request, sampling, token_limit

LIMITS = parse(["--max-input-tokens", "1024", "--max-total-tokens", "2048"], {})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0}, "`temperature` must be strictly positive"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 3}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"typical_p": 0}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"stop": ["a"] * 5}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        ({"truncate": 1025}, "`truncate` must be strictly positive and less than 1024. Given: 1025"),
        ({"best_of": 2}, "`best_of` != 1 is not allowed for this endpoint"),
        ({"grammar": {"type": "regex", "value": "a+"}}, "grammar is not supported"),
        ({"grammar": {"type": "json", "value": {}}}, "grammar is not valid: Grammar must have a 'properties' field"),
    ],
)
def test_refused_parameters(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        sampling(Request("Hello", parameters), LIMITS)

    assert str(caught.value) == f"Input validation error: {message}"
    assert caught.value.body()["error_type"] == "validation"


def test_empty_inputs() -> None:
    with pytest.raises(ValidationError, match="`inputs` cannot be empty"):
        sampling(Request("", {}), LIMITS)


def test_greedy_unless_sampling_is_asked_for() -> None:
    assert sampling(Request("Hello", {}), LIMITS).temperature == 0
    assert sampling(Request("Hello", {"do_sample": True}), LIMITS).temperature == 1
    assert sampling(Request("Hello", {"top_p": 0.9}), LIMITS).temperature == 1
    assert sampling(Request("Hello", {"temperature": 0.3}), LIMITS).temperature == 0.3


@pytest.mark.parametrize(
    ("input_length", "asked", "limit"),
    [
        (10, 20, 20),
        (1024, 1024, 1024),
        (39, None, 1024),  # with 1024 more its input would be longer than inputs may be
        (10, 1500, 1024),
        (1024, None, 1024),
    ],
)
def test_token_limit(input_length: int, asked: int | None, limit: int) -> None:
    assert token_limit(input_length, asked, LIMITS) == limit


def test_token_limit_with_room_for_another_chunk() -> None:
    roomy = parse(["--max-input-tokens", "4000", "--max-total-tokens", "4096"], {})

    assert token_limit(10, 1500, roomy) == 1500
    assert token_limit(96, None, roomy) == 4000


@pytest.mark.parametrize(
    ("input_length", "asked", "message"),
    [
        (
            1025,
            1024,
            "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 1025 `inputs` tokens and 1024 `max_new_tokens`",
        ),
        (1025, 10, "`inputs` must have less than 1024 tokens. Given: 1025"),
        (
            3000,
            None,
            "`inputs` tokens + `max_new_tokens` must be <= 2048. Given: 3000 `inputs` tokens and 0 `max_new_tokens`",
        ),
    ],
)
def test_inputs_that_are_too_long(input_length: int, asked: int | None, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        token_limit(input_length, asked, LIMITS)

    assert str(caught.value) == f"Input validation error: {message}"


@pytest.mark.parametrize(
    ("body", "part"),
    [
        ([], "expected struct"),
        ({}, "missing field `inputs`"),
        ({"inputs": 1}, "inputs: invalid type, expected a string"),
        ({"inputs": "a", "parameters": []}, "expected struct GenerateParameters"),
        ({"inputs": "a", "parameters": {"max_new_tokens": "5"}}, "parameters.max_new_tokens: invalid type"),
        ({"inputs": "a", "parameters": {"max_new_tokens": -5}}, "integer `-5`, expected an unsigned integer"),
        ({"inputs": "a", "parameters": {"temperature": True}}, "parameters.temperature: invalid type, expected float"),
        ({"inputs": "a", "parameters": {"do_sample": None}}, "parameters.do_sample: invalid type"),
    ],
)
def test_bodies_of_another_shape(body: Any, part: str) -> None:
    with pytest.raises(RequestShapeError) as caught:
        read_request(body)

    assert str(caught.value).startswith("Failed to deserialize the JSON body into the target type: ")
    assert part in str(caught.value)


def test_unknown_and_null_parameters_are_ignored() -> None:
    asked = read_request({"inputs": "a", "parameters": {"unknown": 1, "max_new_tokens": None, "top_k": None}})

    assert sampling(asked, LIMITS).top_k == 0
