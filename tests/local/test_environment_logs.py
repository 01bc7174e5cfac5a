"""What containers write, in the emulated CloudWatch: from every node, as the metric filters and queries read it.

Shipped by a stand-in of the add-on's Fluent Bit, with the role that `Logging` makes, under the emulator's IAM.
"""

import json
import re
import secrets
from functools import cache
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config

from llm_serving import _log_shipping
from local import cloud
from local.addresses import REGION
from tests.environment_harness import items, kubectl, log_events, outputs, wait
from tests.environment_load import MODEL, client
from tests.unit.observability.filter_patterns import matches, named_fields

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]

RUN = secrets.token_hex(6)
"""What the ids of this module's requests begin with."""
PROMPT = f"canary-prompt-{secrets.token_hex(6)}: name one colour."
NAMESPACE = _log_shipping.NAMESPACE
SECONDS = 60
"""How long a line may take: the shipper looks every 5 s."""


@cache
def group() -> str:
    return f"/aws/containerinsights/{outputs()['clusterName']}/application"


def post(name: str, **fields: Any) -> httpx.Response:
    """Asks the model, and not the cache; the request's id ends with `name`."""
    api = client()
    body = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 5, **fields}
    headers = {"x-api-key": api.key, "cache-control": "no-store", "x-request-id": f"{RUN}-{name}"}
    return httpx.post(f"{api.url}/v1/chat/completions", json=body, headers=headers, timeout=120, trust_env=False)


def shipped() -> dict[str, list[dict[str, Any]]]:
    """The events of this module's requests, by the requests' ids: the message's fields, and its stream's name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in cloud.client("logs").filter_log_events(logGroupName=group())["events"]:
        if RUN in event["message"]:
            message = json.loads(event["message"])
            if message["log_processed"]["message"] == "request":
                name = message["log_processed"]["request_id"].removeprefix(f"{RUN}-")
                found.setdefault(name, []).append({**message, "log_stream": event["logStreamName"]})
    return found


@pytest.fixture(scope="module", autouse=True)
def requests(environment: str) -> None:
    """Requests of each kind, and the line of each in CloudWatch."""
    client().wait(MODEL)
    assert post("whole").status_code == 200
    assert post("stream", stream=True).text.rstrip().endswith("[DONE]")
    assert post("unknown", model="no-such-model").status_code == 404
    wait("every request's line is shipped", lambda: set(shipped()) >= {"whole", "stream", "unknown"}, seconds=SECONDS)


def test_every_node_has_a_shipper() -> None:
    def nodes() -> tuple[list[str], list[str]]:
        pods = items("pods", "-n", NAMESPACE, "--field-selector=status.phase=Running")
        there = [node["metadata"]["name"] for node in items("nodes")]
        return sorted(pod["spec"]["nodeName"] for pod in pods), sorted(there)

    wait("a shipper on every node", lambda: len(set(map(tuple, nodes()))) == 1, seconds=SECONDS)


def test_an_event_says_which_container_wrote_it() -> None:
    (event,) = shipped()["whole"]
    pod = json.loads(kubectl("get", "pod", "-n", "llm-serving", event["kubernetes"]["pod_name"], "-o", "json"))
    ids = {each["name"]: each["containerID"].rpartition("/")[2] for each in pod["status"]["containerStatuses"]}
    node = pod["spec"]["nodeName"]
    assert event["kubernetes"] == {
        "pod_name": pod["metadata"]["name"],
        "namespace_name": "llm-serving",
        "pod_id": pod["metadata"]["uid"],
        "host": node,
        "container_name": "gateway",
        "docker_id": ids["gateway"],
    }
    file = f"{pod['metadata']['name']}_llm-serving_gateway-{ids['gateway']}.log"
    assert event["log_stream"] == f"{node}-application.var.log.containers.{file}"
    assert event["stream"] == "stdout"
    assert json.loads(event["log"]) == event["log_processed"]
    assert event["log_processed"]["status"] == 200
    assert event["log_processed"]["model"] == MODEL


def test_the_stack_s_metric_filters_count_what_they_say() -> None:
    found = cloud.client("logs").describe_metric_filters(logGroupName=group())["metricFilters"]
    patterns = {each["metricTransformations"][0]["metricName"]: each["filterPattern"] for each in found}
    assert len(patterns) == 3

    def counted(name: str) -> set[str]:
        return {metric for metric, pattern in patterns.items() for event in shipped()[name] if matches(pattern, event)}

    assert counted("whole") == counted("stream") == set()
    assert counted("unknown") == {"GatewayErrors"}


def test_the_stack_s_queries_read_fields_that_are_there() -> None:
    definitions = cloud.client("logs").describe_query_definitions()["queryDefinitions"]
    texts = [each["queryString"] for each in definitions if each["logGroupNames"] == [group()]]
    assert len(texts) == 3
    events = [event for found in shipped().values() for event in found]
    there = {f"log_processed.{name}" for event in events for name in event["log_processed"]}
    assert {name for text in texts for name in named_fields(text)} <= there
    logger = re.compile(r'log_processed\.logger = "([^"]+)"')
    assert {logger.findall(text)[0] for text in texts} == {event["log_processed"]["logger"] for event in events}


def test_no_prompt_and_no_key_is_in_any_log_group() -> None:
    found = log_events()
    assert RUN in json.dumps(found[group()])
    secret = [PROMPT.partition(":")[0], *outputs()["apiKeys"].values()]
    assert not [name for name, events in found.items() for each in secret if each in json.dumps(events)]


def test_the_shippers_role_writes_into_its_groups_and_nothing_else() -> None:
    eks, sts = cloud.client("eks"), cloud.client("sts")
    cluster = outputs()["clusterName"]
    (found,) = eks.list_pod_identity_associations(clusterName=cluster, namespace=NAMESPACE)["associations"]
    identifier = {"clusterName": cluster, "associationId": found["associationId"]}
    association = eks.describe_pod_identity_association(**identifier)["association"]
    assert association["serviceAccount"] == _log_shipping.SERVICE_ACCOUNT
    given = sts.assume_role(RoleArn=association["roleArn"], RoleSessionName="test")["Credentials"]
    session: Any = boto3.Session(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"], REGION)
    direct = Config(proxies={})
    logs = session.client("logs", endpoint_url=cloud.url(), config=direct)
    s3 = session.client("s3", endpoint_url=cloud.url(), config=direct)
    others = [name for name in log_events() if not name.startswith("/aws/containerinsights/")]
    assert others
    refused: list[tuple[Any, dict[str, str]]] = [
        (logs.create_log_group, {"logGroupName": "made-by-a-shipper"}),
        (logs.delete_log_group, {"logGroupName": group()}),
        (logs.filter_log_events, {"logGroupName": group()}),
        *((logs.create_log_stream, {"logGroupName": name, "logStreamName": "made-by-a-shipper"}) for name in others),
        (s3.list_buckets, {}),
    ]
    for call, asked in refused:
        with pytest.raises(logs.exceptions.ClientError) as error:
            call(**asked)
        failure: Any = error.value
        assert failure.response["Error"]["Code"] in {"AccessDenied", "AccessDeniedException"}, asked


def test_a_shipper_that_starts_again_ships_nothing_twice() -> None:
    kubectl("rollout", "restart", "-n", NAMESPACE, "daemonset/fluent-bit")
    kubectl("rollout", "status", "-n", NAMESPACE, "daemonset/fluent-bit", "--timeout=60s")
    assert post("later").status_code == 200
    wait("the next request's line is shipped", lambda: "later" in shipped(), seconds=SECONDS)
    assert {name: len(events) for name, events in shipped().items()} == dict.fromkeys(shipped(), 1)
