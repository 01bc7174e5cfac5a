"""Clients of the deployed API that ask all the time, and remember what came back."""

import itertools
import json
import math
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from local.asking import Client
from tests.environment_harness import outputs, wait

MODEL = "smollm2-135m"
EMBEDDINGS = "all-minilm-l6-v2"
SILENCE_S = 40
"""How long a client waits for the next piece: with many clients on a small machine the first takes some seconds."""


@dataclass
class Record:
    """What the clients got."""

    whole: int = 0
    """Streams that came to their `[DONE]`."""
    failures: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """When each request began that failed, and why."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, begun: float, failure: str | None) -> None:
        """Counts one request."""
        with self.lock:
            if failure is None:
                self.whole += 1
            else:
                self.failures.append((begun, failure))

    def failures_begun(self, *, after: float = -math.inf) -> list[str]:
        """Why requests failed that began after a point in time."""
        return [why for begun, why in self.failures if begun >= after]

    def more(self, requests: int) -> None:
        """Waits until so many more requests have come back whole."""
        goal = self.whole + requests
        wait(f"{requests} more answers", lambda: self.whole >= goal, seconds=120)


def client() -> Client:
    """The client of the deployed API."""
    return Client.of(outputs())


def stream(api: Client, prompt: str, tokens: int, **parameters: float) -> Generator[tuple[float, str]]:
    """The events' data of one streamed chat, never from the cache, each with the time at which it arrived."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
        "stream": True,
        **parameters,
    }
    headers = {"x-api-key": api.key, "cache-control": "no-cache"}
    url = f"{api.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=SILENCE_S, trust_env=False) as response:
        assert response.status_code == 200, f"{response.status_code} {response.read().decode()[:200]}"
        for line in response.iter_lines():
            if line.startswith("data:"):
                yield time.monotonic(), line.removeprefix("data:").strip()


def failure(api: Client, prompt: str, tokens: int) -> str | None:
    """Why one streamed chat did not come back whole; None where it did."""
    try:
        data = [piece for _, piece in stream(api, prompt, tokens)]
    except (httpx.HTTPError, AssertionError) as error:
        return f"{type(error).__name__}: {error}"
    if not data or data[-1] != "[DONE]":
        return f"ends with {data[-1:]}"
    chunks = [json.loads(piece) for piece in data[:-1]]
    reasons = [choice.get("finish_reason") for chunk in chunks for choice in chunk["choices"]]
    return None if any(reasons) else f"no finish reason in {data[-2]}"


@contextmanager
def load(clients: int = 10, tokens: int = 12) -> Generator[Record]:
    """Has so many clients ask all the time while the block runs."""
    record, over, numbers, api = Record(), threading.Event(), itertools.count(), client()

    def ask() -> None:
        while not over.is_set():
            begun = time.monotonic()
            record.note(begun, failure(api, f"Tell me something about the number {next(numbers)}.", tokens))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield record
    finally:
        over.set()
        for thread in threads:
            thread.join()
