"""What an API key uses and may use, in the running environment: two gateway pods that count as one."""

import itertools
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.environment_harness import apply, committed_again, kubectl, wait
from tests.environment_load import MODEL, client

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

LIMIT = 5
NAMESPACE = "llm-serving"


@pytest.fixture
def limited(environment: str) -> Iterator[None]:
    """Each key may make few requests a minute; the committed settings again afterwards."""
    try:
        apply({"gateway": {"keyRequestsPerMinute": LIMIT}})
        yield
    finally:
        committed_again()
        wait("no pod limits any more", lambda: all(not is_limited() for _ in range(8)), seconds=240)


def post(request_id: str = "", **fields: Any) -> httpx.Response:
    """Asks the model something, and not the cache."""
    api, number = client(), secrets.randbelow(10**9)
    question = {"role": "user", "content": f"Say a word about {number}."}
    body = {"model": MODEL, "messages": [question], "max_tokens": 5, "temperature": 0, **fields}
    headers = {"x-api-key": api.key, "cache-control": "no-store", "x-request-id": request_id or secrets.token_hex(8)}
    return httpx.post(f"{api.url}/v1/chat/completions", json=body, headers=headers, timeout=120, trust_env=False)


def is_limited() -> bool:
    return "x-ratelimit-limit-requests" in post().headers


def logged(run: str) -> dict[str, dict[str, Any]]:
    """What the gateway's pods have logged of the requests whose ids begin with `run`."""
    text = kubectl("logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=llm-gateway", "--tail=-1")
    lines = [json.loads(line) for line in text.splitlines() if run in line]
    return {line["request_id"]: line for line in lines if line["message"] == "request"}


def test_usage_by_key_is_what_was_sent() -> None:
    client().wait(MODEL)
    run, messages = secrets.token_hex(6), [{"role": "user", "content": "Count to three."}]
    usage = post(f"{run}-whole", messages=messages).json()["usage"]
    asked = post(f"{run}-asked", messages=messages, stream=True, stream_options={"include_usage": True}).text
    plain = post(f"{run}-plain", messages=messages, stream=True).text
    assert '"usage":{' in asked.replace(" ", "")
    assert '"usage":{' not in plain.replace(" ", "")
    wait("all are logged", lambda: len(logged(run)) == 3)
    counts = {"prompt_tokens": usage["prompt_tokens"], "completion_tokens": usage["completion_tokens"]}
    for line in logged(run).values():
        assert {name: line[name] for name in counts} == counts, line
    (tenant,) = {line["tenant"] for line in logged(run).values()}
    assert len(tenant) == 32
    assert client().key not in json.dumps(logged(run))


@pytest.mark.usefixtures("limited")
def test_a_key_is_limited_over_both_pods_and_told_when_it_may_go_on() -> None:
    client().wait(MODEL)
    # A pod sees its new configuration when its kubelet does, up to a minute and a half later.
    wait("both pods refuse", lambda: all(post().status_code == 429 for _ in range(8)), seconds=240)
    run = secrets.token_hex(6)
    # The minute slides: where an old request leaves it, one more is let through.
    answers = [post(f"{run}-{number}") for number in range(12)]
    assert [answer.status_code for answer in answers].count(200) <= LIMIT
    answer = next(each for number in range(LIMIT + 1) if (each := post(f"{run}-last-{number}")).status_code == 429)
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert answer.json()["error"]["message"].startswith(f"Rate limit reached for this API key: {LIMIT} requests per")
    assert answer.headers["x-ratelimit-limit-requests"] == str(LIMIT)
    time.sleep(int(answer.headers["retry-after"]))
    assert post().status_code == 200
    for turn in itertools.count():
        if post().status_code == 429:
            break
        assert turn < 2 * LIMIT
