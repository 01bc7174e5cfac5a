"""Asks the environment's model a question the way a client would: through the API Gateway, with an API key."""

import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from local.errors import LocalError

MAX_TOKENS = 96
_CHAT_PATH = "/v1/chat/completions"
PATIENCE_S = 90
"""How long an environment may take until its load balancer and its gateway have found their targets."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    seconds: float
    cache: str
    """`hit`, `miss` or `bypass`, as the gateway says in `x-cache`."""


@dataclass(frozen=True)
class Client:
    """A client of the deployed API."""

    url: str
    key: str

    @classmethod
    def of(cls, outputs: Mapping[str, Any]) -> "Client":
        """The client for a stack's outputs. Raises LocalError where the stack isn't deployed, or has no keys."""
        if "apiGatewayUrl" not in outputs:
            raise LocalError("the stack has no API Gateway yet", "run make up")
        if not outputs["apiKeys"]:
            raise LocalError(
                f"the API at {outputs['apiGatewayUrl']} takes tokens of an issuer, and this asks with a key",
                "send a token with curl: docs/identity.md",
            )
        return cls(outputs["apiGatewayUrl"].rstrip("/"), next(iter(outputs["apiKeys"].values())))

    def ask(self, model: str, prompt: str, *, fresh: bool = False) -> Answer:
        """Asks one question at temperature 0. `fresh` makes the model answer, not the cache.

        Raises LocalError where no whole answer comes back.
        """
        begun = time.monotonic()
        response = self._post(self._body(model, prompt), fresh=fresh)
        if response.status_code != 200:
            problem = f"the API answered {response.status_code} {response.text[:300].strip()}"
            raise LocalError(problem, "make status shows what is unwell")
        text = response.json()["choices"][0]["message"]["content"].strip()
        return Answer(text, time.monotonic() - begun, response.headers.get("x-cache", "unknown"))

    def stream(self, model: str, prompt: str) -> Generator[str]:
        """Asks one question and yields the answer's pieces as they arrive."""
        body = {**self._body(model, prompt), "stream": True}
        with httpx.stream("POST", self._chat, json=body, headers=self._headers, timeout=120) as response:
            if response.status_code != 200:
                raise LocalError(f"the API answered {response.status_code} {response.read().decode()[:300]}")
            for line in response.iter_lines():
                data = line.removeprefix("data:").strip()
                if line.startswith("data:") and data != "[DONE]":
                    for choice in json.loads(data)["choices"]:
                        yield choice["delta"].get("content") or ""

    def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """Returns the vector of each text. Raises LocalError where there are none."""
        response = self._post({"model": model, "input": list(texts)}, path="/v1/embeddings")
        if response.status_code != 200:
            problem = f"the API answered {response.status_code} {response.text[:300].strip()}"
            raise LocalError(problem, "make status shows what is unwell")
        return [each["embedding"] for each in response.json()["data"]]

    def wait(self, model: str, seconds: float = PATIENCE_S) -> None:
        """Waits until the model answers through the API. Raises LocalError with the last answer after `seconds`.

        Load balancer, gateway and model each take their time after a start or a fault, and Pulumi, which changes
        nothing then, doesn't wait for them.
        """
        body = {**self._body(model, "Hi"), "max_tokens": 1}
        headers = {**self._headers, "cache-control": "no-cache"}
        deadline = time.monotonic() + seconds
        while True:
            try:
                response = httpx.post(self._chat, json=body, headers=headers, timeout=30)
                problem = f"{response.status_code} {response.text[:200].strip()}"
                if response.status_code == 200:
                    return
            except httpx.HTTPError as error:
                problem = str(error) or type(error).__name__
            if time.monotonic() > deadline:
                raise LocalError(f"the API at {self.url} answers: {problem}", "make status shows what is unwell")
            time.sleep(0.5)

    @property
    def _chat(self) -> str:
        return self.url + _CHAT_PATH

    @property
    def _headers(self) -> dict[str, str]:
        return {"x-api-key": self.key}

    @staticmethod
    def _body(model: str, prompt: str) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        return {"model": model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS}

    def _post(self, body: dict[str, Any], *, fresh: bool = False, path: str = _CHAT_PATH) -> httpx.Response:
        headers = {**self._headers, **({"cache-control": "no-cache"} if fresh else {})}
        try:
            return httpx.post(self.url + path, json=body, headers=headers, timeout=120)
        except httpx.HTTPError as error:
            raise LocalError(
                f"no answer from {self.url}: {error or type(error).__name__}", "make status shows what is unwell"
            ) from None
