import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local.addresses import ECR_HOST
from local.cluster import network, node, node_files, pki, registries
from local.cluster.controller import drain, node_groups
from local.cluster.controller.groups import NodeGroup, from_description
from local.cluster.controller.node_groups import Member, NodeGroups, removal_order
from local.cluster.node_spec import NodeSpec, address, free_index, kubelet_labels, node_name, pod_network
from local.errors import LocalError
from local.processes import start_time


def spec(index: int = 11, **changes: Any) -> NodeSpec:
    name = node_name(address(index))
    return NodeSpec(name, index, "system", "m7i.large", "us-east-1a", **changes)


def test_names_and_addresses() -> None:
    assert address(11) == "10.89.0.11"
    assert pod_network(11) == "10.244.11.0/24"
    assert node_name(address(11)) == "ip-10-89-0-11.ec2.internal"
    assert spec(instance_id="i-0abc").provider_id == "aws:///us-east-1a/i-0abc"
    assert len(spec().instance_id) == len("i-0123456789abcdef0")
    assert network.mac("10.89.0.1") == "02:00:0a:59:00:01"


def test_index_goes_up_and_wraps() -> None:
    assert free_index([]) == 11
    assert free_index([11, 14]) == 15
    assert free_index([12, 60]) == 11
    with pytest.raises(LocalError):
        free_index(range(11, 61))


def test_node_is_found_again(tmp_path: Path) -> None:
    saved = spec(labels={"a": "b"}, taints=({"key": "k", "effect": "NoSchedule"},), gpus=1)
    saved.save(tmp_path)
    assert NodeSpec.load(tmp_path) == saved
    assert NodeSpec.load(tmp_path / "missing") is None


def test_kubelet_sets_only_labels_that_it_may() -> None:
    labels = {
        "llm-serving/pool": "l4",
        "eks.amazonaws.com/nodegroup": "l4",
        "node.kubernetes.io/instance-type": "g6.xlarge",
        "topology.kubernetes.io/zone": "us-east-1a",
        "node-role.kubernetes.io/gpu": "",
        "kubernetes.io/role": "x",
        "k8s.io/x": "y",
    }
    assert kubelet_labels(labels) == (
        "eks.amazonaws.com/nodegroup=l4,llm-serving/pool=l4,"
        "node.kubernetes.io/instance-type=g6.xlarge,topology.kubernetes.io/zone=us-east-1a"
    )


def test_kubelet_configuration() -> None:
    taints = ({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"},)
    serving = pki.Pair(Path("/pki/s.crt"), Path("/pki/s.key"))
    config = node_files.kubelet(spec(taints=taints), authority=Path("/pki/ca.crt"), serving=serving)
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authentication"]["x509"] == {"clientCAFile": "/pki/ca.crt"}
    assert config["authorization"] == {"mode": "Webhook"}
    assert config["registerWithTaints"] == list(taints)
    assert config["cgroupRoot"] == "/llm-ip-10-89-0-11.ec2.internal"
    assert config["clusterDNS"] == ["10.96.0.10"]
    assert config["address"] == "10.89.0.11"


def test_every_registry_is_sent_to_the_local_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registries, "port", {"registry": 5000}.__getitem__)
    node_files.write_registries(tmp_path)
    mirror = f"http://10.89.0.1:5000/v2/{ECR_HOST}"
    assert (tmp_path / "etc/certs.d" / ECR_HOST / "hosts.toml").read_text() == (
        f'server = "{mirror}"\n[host."{mirror}"]\ncapabilities = ["pull", "resolve"]\noverride_path = true\n'
    )
    assert {path.name for path in (tmp_path / "etc/certs.d").iterdir()} == set(registries.HOSTS)


def test_routes_lead_to_all_other_nodes() -> None:
    lines = node_files.routes(12).splitlines()
    assert len(lines) == 49
    assert "route add 10.244.11.0/24 via 10.89.0.11" in lines
    assert not any("10.244.12.0" in line for line in lines)


def test_owner_runs_while_a_process_of_it_does(tmp_path: Path) -> None:
    import os  # noqa: PLC0415

    me, begun = os.getpid(), start_time(os.getpid())
    assert network.Owner(tmp_path, me, begun).runs
    killed = network.Owner(tmp_path, me, 1)
    assert not killed.runs
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "etcd.json").write_text(f'{{"pid": {me}, "started": {begun}}}')
    assert killed.runs
    (tmp_path / "run" / "etcd.json").write_text("{")
    assert not killed.runs


def test_second_checkout_is_refused_while_the_first_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []

    def run(*command: str) -> str:
        commands.append(command)
        return "[]"

    monkeypatch.setattr(network, "MACHINE", tmp_path / "machine")
    monkeypatch.setattr(network, "run", run)
    monkeypatch.setattr(network, "STATE", tmp_path / "first")
    network.ensure()
    assert ("ip", "address", "replace", "10.89.0.1/24", "dev", "llm0") in commands
    assert ("ip", "address", "replace", "10.89.0.3/32", "dev", "llm0") in commands
    assert ("ip", "address", "replace", "169.254.170.23/32", "dev", "llm0") in commands
    monkeypatch.setattr(network, "STATE", tmp_path / "second")
    assert not network.is_ours()
    with pytest.raises(LocalError, match="another checkout") as refused:
        network.ensure()
    assert str(tmp_path / "first") in refused.value.problem
    monkeypatch.setattr(network.Owner, "runs", False)
    network.ensure()
    holder = network.owner()
    assert holder is not None
    assert holder.state == tmp_path / "second"
    network.remove()
    assert network.owner() is None


def test_foreign_network_in_the_range_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(*command: str) -> str:
        return '[{"dst": "10.89.0.0/24", "dev": "podman1"}]' if "route" in command else "[]"

    monkeypatch.setattr(network, "MACHINE", tmp_path / "machine")
    monkeypatch.setattr(network, "run", run)
    with pytest.raises(LocalError, match="in use by the interface podman1"):
        network.ensure()


def test_removal_order() -> None:
    def member(index: int | None, name: str = "", *, cordoned: bool = False) -> Member:
        real = None if index is None else spec(index)
        return Member(real.name if real else name, "system", cordoned, real)

    old, new, busy, simulated = member(11), member(13), member(14), member(None, "k")
    cordoned = member(12, cordoned=True)
    order = removal_order([old, busy, new, cordoned, simulated], {busy.name: 2, cordoned.name: 5})
    assert order == [cordoned, simulated, new, old, busy]


def test_daemon_set_static_and_finished_pods_are_not_drained() -> None:
    def pod(owner: str = "ReplicaSet", phase: str = "Running", **annotations: str) -> dict[str, Any]:
        metadata = {"ownerReferences": [{"kind": owner}], "annotations": annotations or None}
        return {"metadata": metadata, "status": {"phase": phase}}

    assert drain.is_evictable(pod())
    assert not drain.is_evictable(pod("DaemonSet"))
    assert not drain.is_evictable(pod("Node"))
    assert not drain.is_evictable(pod(phase="Succeeded"))
    assert not drain.is_evictable(pod(**{"kubernetes.io/config.mirror": "x"}))
    assert drain.is_evictable({"metadata": {"name": "bare"}, "status": {"phase": "Pending"}})


class Machine:
    """Stands for `node`'s functions and for the API: nodes that are Ready as soon as they are started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.specs: dict[str, NodeSpec] = {}
        self.running: set[str] = set()
        self.objects: dict[str, dict[str, Any]] = {}
        self.forgotten: list[str] = []
        for name in ("start", "stop", "remove", "is_running"):
            monkeypatch.setattr(node, name, getattr(self, name))
        monkeypatch.setattr(node, "specs", lambda: list(self.specs.values()))

    def start(self, spec: NodeSpec) -> None:
        self.specs[spec.name] = spec
        self.running.add(spec.name)
        ready = {"conditions": [{"type": "Ready", "status": "True"}], "capacity": {"cpu": "2"}}
        self.objects[spec.name] = {"metadata": {"name": spec.name, "labels": dict(spec.labels)}, "status": ready}

    def stop(self, spec: NodeSpec) -> None:
        self.running.discard(spec.name)

    def remove(self, spec: NodeSpec) -> None:
        self.stop(spec)
        self.specs.pop(spec.name, None)

    def is_running(self, name: str) -> bool:
        return name in self.running

    def list(self, path: str, **query: str) -> "list[dict[str, Any]]":
        return list(self.objects.values()) if path == "/api/v1/nodes" else []

    def find(self, path: str) -> dict[str, Any] | None:
        return self.objects.get(path.rpartition("/")[2])

    def get(self, path: str) -> dict[str, Any]:
        return {"gitVersion": "v1.36.3"}

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self.objects[body["metadata"]["name"]] = body
        return body

    def merge(self, path: str, body: dict[str, Any]) -> None:
        name = path.removeprefix("/api/v1/nodes/").removesuffix("/status")
        for part, content in body.items():
            self.objects[name].setdefault(part, {}).update(content)

    def delete(self, path: str, **options: int) -> None:
        self.objects.pop(path.rpartition("/")[2], None)


def group(desired: int, name: str = "l4") -> NodeGroup:
    sizes = {"desiredSize": desired, "minSize": 0, "maxSize": 9}
    described = {"clusterName": "c", "nodegroupName": name, "instanceTypes": ["g6.xlarge"], "scalingConfig": sizes}
    return from_description(described, ("us-east-1a", "us-east-1b"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("LLM_SERVING_REAL_NODES", "2")
    return Machine(monkeypatch)


def reconciler(machine: Machine, groups: list[NodeGroup]) -> NodeGroups:
    api: Any = machine
    return NodeGroups(api, lambda: groups, threading.Event())


def test_one_node_for_each_instance_real_ones_first(machine: Machine) -> None:
    groups = [group(3)]
    nodes = reconciler(machine, groups)
    nodes.step()
    assert sorted(machine.specs) == ["ip-10-89-0-11.ec2.internal", "ip-10-89-0-12.ec2.internal"]
    assert {spec.zone for spec in machine.specs.values()} == {"us-east-1a", "us-east-1b"}
    assert "ip-10-90-0-1.ec2.internal" in machine.objects
    nodes.step()
    assert len(machine.objects) == 3
    assert machine.objects["ip-10-89-0-11.ec2.internal"]["status"]["capacity"] == {"nvidia.com/gpu": "1"}


def test_surplus_is_drained_and_ended(machine: Machine) -> None:
    groups = [group(3)]
    nodes = reconciler(machine, groups)
    nodes.step()
    groups[:] = [group(1)]
    nodes.step()
    nodes.wait(5)
    assert list(machine.objects) == ["ip-10-89-0-11.ec2.internal"]
    assert list(machine.specs) == ["ip-10-89-0-11.ec2.internal"]


def test_lost_node_is_replaced_at_once_and_buried_when_not_ready(machine: Machine) -> None:
    nodes = reconciler(machine, [group(1)])
    nodes.step()
    machine.running.clear()
    nodes.step()
    assert machine.running == {"ip-10-89-0-12.ec2.internal"}
    assert "ip-10-89-0-11.ec2.internal" in machine.objects
    machine.objects["ip-10-89-0-11.ec2.internal"]["status"]["conditions"] = []
    nodes.step()
    assert list(machine.objects) == ["ip-10-89-0-12.ec2.internal"]
    assert list(machine.specs) == ["ip-10-89-0-12.ec2.internal"]


def test_nodes_of_a_stopped_environment_start_again(machine: Machine) -> None:
    stopped = spec(11)
    machine.specs[stopped.name] = replace(stopped, group="l4")
    reconciler(machine, [group(1)]).step()
    assert machine.running == {stopped.name}


def test_nodes_outlive_a_short_absence_of_their_group(machine: Machine) -> None:
    groups = [group(1)]
    nodes = reconciler(machine, groups)
    nodes.step()
    groups.clear()
    for _ in range(node_groups.MISSING_LOOKS - 1):
        nodes.step()
    assert len(machine.running) == 1
    nodes.step()
    nodes.wait(5)
    assert not machine.running
    assert not machine.objects


@pytest.mark.parametrize("setting", ["many", "-1", "51"])
def test_bad_number_of_real_nodes(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SERVING_REAL_NODES", setting)
    with pytest.raises(LocalError, match="LLM_SERVING_REAL_NODES"):
        node_groups.real_nodes()
