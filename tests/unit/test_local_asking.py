"""What the local commands ask the API with: a key, where it takes keys."""

from types import SimpleNamespace
from typing import Any

import pytest

from local import cli, environment
from local.asking import Client
from local.console import Stages
from local.engine import Outcome
from local.errors import LocalError

URL = "http://127.0.0.1:4566/restapis/a1/llm/_user_request_"
TOKENS: dict[str, Any] = {
    "apiGatewayUrl": URL,
    "apiKeys": {},
    "modelBucketName": "models",
    "cacheEndpoint": "10.89.0.2:6379",
    "clusterName": "llm",
}


def test_a_stacks_key_is_taken() -> None:
    assert Client.of({"apiGatewayUrl": f"{URL}/", "apiKeys": {"demo": "value"}}) == Client(URL, "value")


@pytest.mark.parametrize(
    ("outputs", "problem"),
    [(dict[str, Any](), "the stack has no API Gateway yet"), (TOKENS, f"the API at {URL} takes tokens")],
)
def test_without_a_key_nothing_is_asked(outputs: dict[str, Any], problem: str) -> None:
    with pytest.raises(LocalError, match=problem):
        Client.of(outputs)


def test_up_ends_well_where_callers_show_tokens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine: Any = SimpleNamespace(outputs=lambda: TOKENS)
    monkeypatch.setattr(environment, "up", lambda: environment.Result(Outcome(), Stages(), engine))
    cli.up()
    said = capsys.readouterr().out
    assert URL in said
    assert said.endswith("the API takes tokens of an issuer, so nothing is asked: docs/identity.md\n")
