import threading
from typing import Any

from local.cluster.api import Api
from local.cluster.controller.target_groups import TargetGroups, difference, wanted_targets

BINDING: dict[str, Any] = {
    "metadata": {"name": "gateway", "namespace": "llm-serving", "generation": 3},
    "spec": {"targetGroupARN": "arn:tg", "targetType": "ip", "serviceRef": {"name": "gateway", "port": 80}},
}
SERVICE: dict[str, Any] = {
    "metadata": {"name": "gateway", "namespace": "llm-serving"},
    "spec": {"ports": [{"name": "metrics", "port": 9090}, {"name": "http", "port": 80}]},
}


def endpoint(address: str, **conditions: bool) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions}


def endpoints(*items: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "gateway-abc",
            "namespace": "llm-serving",
            "labels": {"kubernetes.io/service-name": "gateway"},
        },
        "ports": [{"name": "metrics", "port": 9091}, {"name": "http", "port": 8080}],
        "endpoints": list(items),
    }


def test_ready_pods_are_targets_at_the_target_port() -> None:
    found = endpoints(
        endpoint("10.244.11.2", ready=True),
        endpoint("10.244.11.3", ready=False),
        endpoint("10.244.11.4", ready=False, serving=True, terminating=True),
        endpoint("10.244.11.5"),
    )
    expected = {("10.244.11.2", 8080), ("10.244.11.5", 8080)}
    assert wanted_targets(BINDING, SERVICE, [found]) == expected
    by_name = {**BINDING, "spec": {**BINDING["spec"], "serviceRef": {"name": "gateway", "port": "http"}}}
    assert wanted_targets(by_name, SERVICE, [found]) == expected


def test_no_targets_without_service_port_or_endpoints() -> None:
    found = endpoints(endpoint("10.244.11.2", ready=True))
    assert wanted_targets(BINDING, None, [found]) == set()
    assert wanted_targets(BINDING, {"spec": {"ports": [{"port": 81}]}}, [found]) == set()
    assert wanted_targets(BINDING, SERVICE, [{**found, "endpoints": None}]) == set()


def test_unnamed_port() -> None:
    service = {"spec": {"ports": [{"port": 80}]}}
    found = {**endpoints(endpoint("10.244.11.2", ready=True)), "ports": [{"name": "", "port": 8000}]}
    assert wanted_targets(BINDING, service, [found]) == {("10.244.11.2", 8000)}


def test_difference() -> None:
    more, fewer = difference({("a", 1), ("b", 1)}, {("b", 1), ("d", 1), ("c", 1)})
    assert more == [{"Id": "c", "Port": 1}, {"Id": "d", "Port": 1}]
    assert fewer == [{"Id": "a", "Port": 1}]


class FakeApi:
    """Lists what it is given, and never answers a watch."""

    def __init__(self, objects: dict[str, list[dict[str, Any]]]) -> None:
        self.objects = objects
        self.merged: list[tuple[str, Any]] = []

    def get(self, path: str) -> dict[str, Any]:
        return {"metadata": {"resourceVersion": "1"}, "items": self.objects[path.rpartition("/")[2]]}

    def watch(self, path: str, version: str) -> Any:
        threading.Event().wait(60)
        yield from ()

    def merge(self, path: str, body: Any) -> None:
        self.merged.append((path, body))


class FakeElb:
    def __init__(self, targets: set[tuple[str, int]]) -> None:
        self.targets = targets

    def describe_target_health(self, **asked: str) -> dict[str, Any]:
        assert asked == {"TargetGroupArn": "arn:tg"}
        found = [{"Target": {"Id": address, "Port": port}} for address, port in self.targets]
        return {"TargetHealthDescriptions": found}

    def register_targets(self, **asked: Any) -> None:
        self.targets |= {(item["Id"], item["Port"]) for item in asked["Targets"]}

    def deregister_targets(self, **asked: Any) -> None:
        self.targets -= {(item["Id"], item["Port"]) for item in asked["Targets"]}


def test_target_group_follows_the_endpoints_and_the_binding_says_so() -> None:
    objects = {
        "targetgroupbindings": [BINDING],
        "services": [SERVICE],
        "endpointslices": [endpoints(endpoint("10.244.11.2", ready=True), endpoint("10.244.11.3", ready=False))],
    }
    fake: Any = FakeApi(objects)
    elb = FakeElb({("10.244.11.9", 8080)})
    api: Api = fake
    controller = TargetGroups(api, {"elbv2": elb}.__getitem__, threading.Event())
    for _ in range(3):
        controller.step()
        if fake.merged:
            break
    assert elb.targets == {("10.244.11.2", 8080)}
    root = "/apis/elbv2.k8s.aws/v1beta1"
    assert fake.merged[0] == (
        f"{root}/namespaces/llm-serving/targetgroupbindings/gateway/status", {"status": {"observedGeneration": 3}},
    )  # fmt: skip
