"""Prefix affinity in the running environment: two gateway pods choose the same pod of a model, by the cluster's DNS."""

import re
import secrets
from collections.abc import Mapping

import httpx
import pytest

from tests.environment_harness import kubectl, ready_pods, settle, wait
from tests.environment_load import MODEL, client

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NAMESPACE = "llm-serving"
HANDBOOK = "You answer questions about the handbook of a shop that sells bicycles. " * 16
REQUESTS = 16


def ask(http: httpx.Client, system: str) -> int:
    """The status of a short answer, which no cache has."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": secrets.token_hex(4)}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 1}
    api = client()
    headers = {"x-api-key": api.key, "cache-control": "no-store"}
    return http.post(f"{api.url}/v1/chat/completions", json=body, headers=headers).status_code


def answered() -> dict[str, float]:
    """How many requests each pod of the model has answered, by the runtime's own count."""
    return {pod: _count(pod) for pod in ready_pods(MODEL)}


def _count(pod: str) -> float:
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics")
    return sum(float(value) for value in re.findall(r"^tgi_request_success(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE))


def grown(before: Mapping[str, float]) -> dict[str, float]:
    """What has been answered since, by those pods that have."""
    return {pod: count - before.get(pod, 0) for pod, count in answered().items() if count > before.get(pod, 0)}


def test_requests_that_begin_alike_go_to_one_pod_and_lose_nothing_when_it_goes() -> None:
    settle()
    client().wait(MODEL)
    with httpx.Client(timeout=60, trust_env=False) as http:

        def all_at_one() -> str | None:
            before = answered()
            assert {ask(http, HANDBOOK) for _ in range(REQUESTS)} == {200}
            after = grown(before)
            return next(iter(after)) if list(after.values()) == [REQUESTS] else None

        # Until each gateway pod has looked them up, which its first request makes it do.
        own = wait("one pod answers all", all_at_one, seconds=60) or ""
        before = answered()
        assert {ask(http, f"{number} {HANDBOOK}") for number in range(REQUESTS)} == {200}
        assert len(grown(before)) == 2, "other prefixes have other pods"
        kubectl("delete", "pod", "-n", NAMESPACE, own, "--wait=false")
        assert {ask(http, HANDBOOK) for _ in range(4 * REQUESTS)} == {200}
        assert own not in ready_pods(MODEL)
        settle()
        assert wait("another pod answers all", all_at_one, seconds=60) != own
