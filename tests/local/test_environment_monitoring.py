"""The environment's own Prometheus, after some traffic: every query of every dashboard and every rule has an answer.

A query that is never empty in a unit test may still read a metric that nothing serves, a label that nobody sets, or a
target that isn't scraped. Only the real operator, scraping the real pods, shows that.
"""

import time
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from llm_serving.observability import promql, queries
from local import monitoring
from local.monitoring import Monitored
from tests.environment_harness import run, wait
from tests.environment_load import EMBEDDINGS, MODEL, client, stream

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

NOT_HERE = {
    "kube_pod_status_unschedulable": "there is one only while a pod cannot be scheduled",
}
"""Series that the local environment has none of, and why."""

RATE = "2m"
"""The range of rates: the local scrape interval is 5 s, and the traffic below is over in less."""


@cache
def prometheus() -> Monitored:
    return monitoring.find()


def ask(path: str, **parameters: str) -> Any:
    """What Prometheus answers."""
    answer = httpx.get(f"{prometheus().url}/api/v1/{path}", params=parameters, timeout=30, trust_env=False)
    body = answer.json()
    assert body["status"] == "success", body
    return body["data"]


def values(expression: str) -> list[Any]:
    return ask("query", query=expression)["result"]


def empty(expressions: dict[str, str]) -> list[str]:
    """The names of those that have no answer."""
    return [name for name, expression in expressions.items() if not values(expression)]


def serve_some_traffic() -> None:
    """Whole and streamed answers, from the model and from the cache, and vectors, over more than two scrapes."""
    api = client()
    for turn in range(4):
        question = f"What is {time.time_ns()}?"  # never asked before
        assert api.ask(MODEL, question).cache == "miss"
        assert api.ask(MODEL, question).cache == "hit"
        assert list(stream(api, f"Count to {turn + 3}.", 16))
        assert len(api.embed(EMBEDDINGS, [question, "What else?"])) == 2


@pytest.fixture(scope="module", autouse=True)
def traffic() -> None:
    serve_some_traffic()
    seen = (
        f'sum(rate(llm_gateway_time_to_first_token_seconds_count{{model="{MODEL}"}}[{RATE}])) > 0'
        f' and sum(rate(llm_embedder_batch_inputs_count{{model="{EMBEDDINGS}"}}[{RATE}])) > 0'
    )
    for _ in range(8):
        if values(seen):
            return
        serve_some_traffic()
    pytest.fail("Prometheus does not see the gateway's requests")


def test_every_target_is_scraped() -> None:
    def down() -> list[str]:
        targets = ask("targets", state="active")["activeTargets"]
        return [f"{each['scrapePool']}: {each['lastError']}" for each in targets if each["health"] != "up"]

    wait(f"every target is up: {down()}", lambda: not down(), seconds=60)
    jobs = {each["metric"]["job"] for each in values("up")}
    assert jobs >= {"llm-gateway", MODEL, EMBEDDINGS, "dcgm-exporter", "kube-state-metrics"}


def test_every_query_of_every_dashboard_has_an_answer() -> None:
    asked = {
        f"{query.dashboard} / {query.panel} / {query.ref}": query.resolved(rate=RATE, span="10m")
        for document in prometheus().dashboards.values()
        for query in queries(document)
        if not set(promql.series(query.resolved(rate=RATE, span="10m"))) & set(NOT_HERE)
    }
    assert len(asked) > 40
    # What is recorded from what is recorded takes an evaluation each.
    wait(f"an answer to {empty(asked)}", lambda: not empty(asked), seconds=90)


def test_every_rule_is_evaluated_and_all_that_it_reads_is_there() -> None:
    wait("every rule is evaluated", lambda: {rule["health"] for rule in rules()} == {"ok"})
    assert {rule["type"] for rule in rules()} == {"recording", "alerting"}
    read = {name: name for rule in rules() for name in promql.series(rule["query"]) if name not in NOT_HERE}
    wait(f"all that rules read: {empty(read)}", lambda: not empty(read), seconds=90)


def rules() -> list[dict[str, Any]]:
    return [rule for group in ask("rules")["groups"] for rule in group["rules"]]


def test_nothing_that_is_left_out_is_there_after_all() -> None:
    assert [name for name in NOT_HERE if values(name)] == []


def test_dashboards_are_drawn(tmp_path: Path) -> None:
    text = run("dashboards", "--minutes", "5", "--folder", str(tmp_path))
    assert "refused" in text
    assert (tmp_path / "index.html").is_file()
    drawn = sorted(path.name for path in tmp_path.glob("*/*.png"))
    assert len(drawn) > 30
