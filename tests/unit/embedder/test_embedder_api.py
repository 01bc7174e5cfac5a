"""`/v1/embeddings` as OpenAI's clients know it: what goes in, what comes out, what is refused and how."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.embedder_harness import CAT, CLS, HIDDEN, MAX_TOKENS, MODEL, SEP, WORDS, embedder_for

LONG = "cat " * 15
"""One token more than the model reads, the special ones included."""


async def test_a_text_becomes_a_vector(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        status, headers, answer = await client.embed("the cat")

    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    assert answer["object"] == "list"
    assert answer["model"] == MODEL
    assert answer["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    (only,) = answer["data"]
    assert (only["object"], only["index"], len(only["embedding"])) == ("embedding", 0, HIDDEN)
    assert only["embedding"][:5] == [4, CLS, WORDS.index("the"), CAT, SEP]


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("cat", [[CLS, CAT, SEP]]),
        (["cat", "a cat"], [[CLS, CAT, SEP], [CLS, 5, CAT, SEP]]),
        ([CAT], [[CLS, CAT, SEP]]),
        ([[CAT], [CLS, CAT, SEP]], [[CLS, CAT, SEP], [CLS, CAT, SEP]]),
        ([[CAT], "a"], [[CLS, CAT, SEP], [CLS, 5, SEP]]),
        (" ", [[CLS, SEP]]),
    ],
)
async def test_texts_and_token_ids_in_every_form(tmp_path: Path, value: object, ids: list[list[int]]) -> None:
    async with embedder_for(tmp_path) as client:
        status, _, answer = await client.embed(value)

    assert status == 200
    assert client.backend.batches == [ids]
    assert [each["index"] for each in answer["data"]] == list(range(len(ids)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))


async def test_base64_is_the_same_numbers(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        _, _, plain = await client.embed(["cat", "dog"])
        _, _, packed = await client.embed(["cat", "dog"], encoding_format="base64")

    for one, other in zip(plain["data"], packed["data"], strict=True):
        numbers = np.frombuffer(base64.b64decode(other["embedding"]), "<f4")
        assert numbers.tolist() == one["embedding"]


async def test_the_models_own_length_may_be_asked_for_and_other_fields_are_passed_over(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        status, _, _ = await client.embed("cat", dimensions=HIDDEN, user="me", encoding_format=None)

    assert status == 200


REFUSED: list[tuple[Any, int, str | None, str]] = [
    (b"{", 400, "invalid_json", "not valid JSON"),
    (b"[]", 400, "invalid_json", "must be a JSON object"),
    (b"", 400, "invalid_json", "not valid JSON"),
    ({"input": "cat"}, 400, None, "must name the model: tiny"),
    ({"model": 1, "input": "cat"}, 400, None, "must name the model: tiny"),
    ({"model": "gpt", "input": "cat"}, 404, "model_not_found", "'gpt' does not exist; available: tiny"),
    ({"model": MODEL}, 400, None, "'input' must be a text"),
    ({"model": MODEL, "input": None}, 400, None, "'input' must be a text"),
    ({"model": MODEL, "input": {}}, 400, None, "'input' must be a text"),
    ({"model": MODEL, "input": []}, 400, None, "and not empty"),
    ({"model": MODEL, "input": ""}, 400, None, "empty text (number 0)"),
    ({"model": MODEL, "input": ["cat", ""]}, 400, None, "empty text (number 1)"),
    ({"model": MODEL, "input": ["cat", 1]}, 400, None, "neither a text nor a list of token ids (number 1)"),
    ({"model": MODEL, "input": ["cat", None]}, 400, None, "neither a text nor"),
    ({"model": MODEL, "input": [1, "cat"]}, 400, None, "neither a text nor"),
    ({"model": MODEL, "input": [[1], []]}, 400, None, "neither a text nor"),
    ({"model": MODEL, "input": [True]}, 400, None, "neither a text nor"),
    ({"model": MODEL, "input": [[1.5]]}, 400, None, "neither a text nor"),
    ({"model": MODEL, "input": [-1]}, 400, None, "token id -1, and the model's go from 0 to 13"),
    ({"model": MODEL, "input": [[len(WORDS)]]}, 400, None, "token id 14"),
    ({"model": MODEL, "input": ["cat"] * 5}, 400, None, "has 5 inputs, and at most 4"),
    ({"model": MODEL, "input": "cat", "dimensions": 16}, 400, None, "'dimensions' must be 32 or left out"),
    ({"model": MODEL, "input": "cat", "dimensions": "32"}, 400, None, "'dimensions' must be 32"),
    ({"model": MODEL, "input": "cat", "dimensions": True}, 400, None, "'dimensions' must be 32"),
    ({"model": MODEL, "input": "cat", "encoding_format": "int8"}, 400, None, "must be 'float' or 'base64'"),
    ({"model": MODEL, "input": LONG}, 400, "context_length_exceeded", "is 16 tokens, and an input has 17"),
    ({"model": MODEL, "input": [[CAT] * 15]}, 400, "context_length_exceeded", "and an input has 17"),
    (b'{"model": "tiny", "input": "\\ud800"}', 400, "invalid_json", "not valid JSON"),
]


@pytest.mark.parametrize(("body", "status", "code", "message"), REFUSED)
async def test_what_cannot_be_answered_is_refused(
    tmp_path: Path, body: Any, status: int, code: str | None, message: str
) -> None:
    async with embedder_for(tmp_path, max_inputs=4) as client:
        found, _, answer = await client.post(body)

    error = answer["error"]
    assert (found, error["type"], error["code"]) == (status, "invalid_request_error", code)
    assert message in error["message"]
    assert client.backend.batches == []
    assert client.metric("llm_embedder_requests_total", endpoint="/v1/embeddings", code=str(status)) == 1


async def test_a_long_input_is_cut_where_that_is_wanted(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, truncate=True) as client:
        status, _, answer = await client.embed([LONG, "cat"])

    assert status == 200
    assert answer["usage"]["prompt_tokens"] == MAX_TOKENS + 3
    assert client.backend.batches[0][0] == [CLS, *[CAT] * 14, SEP]
    assert client.metric("llm_embedder_inputs_truncated_total") == 1


async def test_a_body_may_not_be_too_long(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, max_body_bytes=100) as client:
        status, _, answer = await client.embed("cat " * 30)
        assert (status, answer["error"]["code"]) == (413, "body_too_large")

        async def parts() -> Any:
            for _ in range(30):
                yield b" " * 10

        async with client.session.post(client.url + "/v1/embeddings", data=parts()) as response:
            assert response.status == 413


async def test_a_body_may_not_be_too_slow(tmp_path: Path) -> None:
    async with embedder_for(tmp_path, body_timeout_seconds=0.05) as client:

        async def parts() -> Any:
            yield b"{"
            await asyncio.sleep(0.3)
            yield b"}"

        async with client.session.post(client.url + "/v1/embeddings", data=parts()) as response:
            assert response.status == 408


async def test_the_model_is_listed(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client, client.session.get(client.url + "/v1/models") as response:
        (model,) = (await response.json())["data"]

    assert (model["id"], model["object"]) == (MODEL, "model")


async def test_what_is_not_there(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        async with client.session.get(client.url + "/v1/embeddings") as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST")
        status, text = await client.get("/v1/completions")

    assert status == 404
    assert "There is no GET /v1/completions here" in text


async def test_a_request_keeps_its_id_where_it_is_fit_for_a_header(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        _, kept, _ = await client.post({}, {"x-request-id": "abc-1"})
        _, replaced, _ = await client.post({}, {"x-request-id": "a b"})

    assert kept["x-request-id"] == "abc-1"
    assert len(replaced["x-request-id"]) == 32


async def test_health_and_metrics(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        await client.embed(["cat", "dog"])
        live, ready = await client.get("/health/live"), await client.get("/health/ready")
        _, metrics = await client.get("/metrics")

    assert (live, ready) == ((200, "ok\n"), (200, "ok\n"))
    assert 'llm_embedder_info{backend="fake",device="cpu",model="tiny"} 1.0' in metrics
    assert "llm_embedder_inputs_total 2.0" in metrics
    assert "llm_embedder_tokens_total 6.0" in metrics


async def test_while_it_drains_it_answers_and_is_not_ready(tmp_path: Path) -> None:
    async with embedder_for(tmp_path) as client:
        client.embedder.start_draining()
        status, headers, _ = await client.embed("cat")
        ready = await client.get("/health/ready")
        live = await client.get("/health/live")

    assert (status, headers["connection"]) == (200, "close")
    assert ready == (503, "draining\n")
    assert live[0] == 200
