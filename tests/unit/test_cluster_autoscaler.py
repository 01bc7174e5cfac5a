from decimal import Decimal
from typing import Any

import pytest

from local.cluster.controller import scheduling
from local.cluster.controller.autoscaler import (
    IDLE_SECONDS,
    UNUSED_SECONDS,
    Idleness,
    Place,
    Template,
    is_usable,
    scale_down,
    scale_up,
)  # fmt: skip
from local.cluster.controller.groups import from_description
from local.cluster.controller.quantities import parse

GPU_TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


def pod(name: str = "p", *, gpus: int = 0, cpu: str = "100m", owner: str = "rs", **spec: Any) -> dict[str, Any]:
    requests = {"cpu": cpu, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
    return {
        "metadata": {"name": name, "namespace": "d", "ownerReferences": [{"kind": "ReplicaSet", "uid": owner}]},
        "spec": {"containers": [{"resources": {"requests": requests}}], **spec},
    }


def template(group: str, *, room: int = 3, coming: int = 0, gpus: int = 0, cpu: int = 2) -> Template:
    capacity = {"cpu": Decimal(cpu), "memory": Decimal(8 * 2**30), "pods": Decimal(110)}
    if gpus:
        capacity["nvidia.com/gpu"] = Decimal(gpus)
    taints = [GPU_TAINT] if gpus else []
    return Template(group, {"llm-serving/pool": group}, taints, capacity, room, coming)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250m", "0.25"),
        ("2", "2"),
        ("512Mi", str(512 * 2**20)),
        ("1.5Gi", str(3 * 2**29)),
        ("3k", "3000"),
        ("1e3", "1000"),
    ],
)
def test_quantities(text: str, value: str) -> None:
    assert parse(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "Mi", "ten", "1 Gi x"])
def test_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse(text)


def test_requests_take_the_larger_of_init_and_main_containers() -> None:
    item = {
        "spec": {
            "initContainers": [
                {"resources": {"requests": {"cpu": "1"}}},
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m", "memory": "1Mi"}}},
            ],
            "containers": [{"resources": {"requests": {"cpu": "200m"}, "limits": {"cpu": "2", "nvidia.com/gpu": 1}}}],
        }
    }
    assert scheduling.requests(item) == {
        "cpu": Decimal(1), "memory": Decimal(2**20), "nvidia.com/gpu": Decimal(1), "pods": Decimal(1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        ([], False),
        ([TOLERATION], True),
        ([{"operator": "Exists"}], True),
        ([{"key": "nvidia.com/gpu", "value": "present"}], True),
        ([{"key": "nvidia.com/gpu", "value": "other"}], False),
        ([{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}], False),
    ],
)
def test_tolerations(tolerations: list[dict[str, str]], expected: bool) -> None:
    assert scheduling.tolerates(pod(tolerations=tolerations), [GPU_TAINT]) is expected


def affinity(**expression: Any) -> dict[str, Any]:
    term = {"matchExpressions": [expression]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, True),
        ({"nodeSelector": {"pool": "l4"}}, True),
        ({"nodeSelector": {"pool": "h100"}}, False),
        ({"affinity": affinity(key="pool", operator="In", values=["a", "l4"])}, True),
        ({"affinity": affinity(key="pool", operator="NotIn", values=["l4"])}, False),
        ({"affinity": affinity(key="type", operator="DoesNotExist")}, True),
        ({"affinity": affinity(key="count", operator="Gt", values=["3"])}, True),
        ({"affinity": affinity(key="count", operator="Lt", values=["3"])}, False),
        ({"affinity": affinity(key="pool", operator="Gt", values=["3"])}, False),
    ],
)
def test_selects(spec: dict[str, Any], expected: bool) -> None:
    assert scheduling.selects(pod(**spec), {"pool": "l4", "count": "4"}) is expected


def test_gpu_pods_raise_the_gpu_group_and_others_the_system_group() -> None:
    templates = [template("l4", gpus=1), template("system")]
    pods = [pod(gpus=1, tolerations=[TOLERATION]), pod(gpus=1, tolerations=[TOLERATION]), pod()]
    assert scale_up(pods, [], templates) == {"l4": 2, "system": 1}


def test_pods_fill_nodes_that_are_there_or_coming_first() -> None:
    free = Place({}, [], {"cpu": Decimal(1), "pods": Decimal(9)})
    assert scale_up([pod(cpu="1")], [free], [template("system")]) == {}
    assert scale_up([pod(cpu="1"), pod(cpu="1"), pod(cpu="1")], [], [template("system", coming=1)]) == {"system": 1}


def test_one_node_takes_as_many_pods_as_fit() -> None:
    assert scale_up([pod(cpu="500m") for _ in range(5)], [], [template("system", cpu=2)]) == {"system": 2}


def test_no_more_than_the_maximum_and_nothing_for_what_never_fits() -> None:
    wants = [pod(gpus=1, tolerations=[TOLERATION]) for _ in range(5)]
    assert scale_up(wants, [], [template("l4", gpus=1, room=2)]) == {"l4": 2}
    assert scale_up([pod(cpu="64")], [], [template("system")]) == {}
    assert scale_up([pod(gpus=1)], [], [template("l4", gpus=1)]) == {}


def test_the_group_with_least_to_waste_is_raised() -> None:
    templates = [template("big", gpus=8), template("small", gpus=1)]
    assert scale_up([pod(gpus=1, tolerations=[TOLERATION])], [], templates) == {"small": 1}
    assert scale_up([pod(gpus=4, tolerations=[TOLERATION])], [], templates) == {"big": 1}


def test_pods_that_keep_apart_get_a_node_each() -> None:
    rule = [{"topologyKey": "kubernetes.io/hostname"}]
    spec: Any = {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": rule}}}
    assert scale_up([pod(**spec), pod(**spec)], [], [template("system")]) == {"system": 2}
    assert scale_up([pod(**spec), pod(owner="other", **spec)], [], [template("system")]) == {"system": 1}


def test_place_of_a_node_knows_what_is_free() -> None:
    item = {
        "metadata": {"name": "n", "labels": {"a": "b"}},
        "spec": {"taints": [GPU_TAINT]},
        "status": {"allocatable": {"cpu": "2", "pods": "10", "nvidia.com/gpu": "1"}},
    }
    place = Place.of(item, [pod(gpus=1, cpu="500m")])
    assert place.free == {"cpu": Decimal("1.5"), "pods": Decimal(9), "nvidia.com/gpu": Decimal(0)}
    assert not place.accepts(pod(gpus=1, tolerations=[TOLERATION]))
    assert place.accepts(pod(tolerations=[TOLERATION]))


def test_node_is_usable_once_its_gpus_are_known() -> None:
    def item(allocatable: dict[str, str], *taints: str, ready: str = "True") -> dict[str, Any]:
        return {
            "metadata": {"name": "n", "labels": {"nvidia.com/gpu.present": "true"}},
            "spec": {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]},
            "status": {"allocatable": allocatable, "conditions": [{"type": "Ready", "status": ready}]},
        }

    gpu = {"cpu": "2", "nvidia.com/gpu": "1"}
    assert is_usable(item(gpu, "nvidia.com/gpu"))
    assert not is_usable(item({"cpu": "2"}))
    assert not is_usable(item({**gpu, "nvidia.com/gpu": "0"}))
    assert not is_usable(item(gpu, ready="False"))
    assert not is_usable(item(gpu, "node.kubernetes.io/unschedulable"))
    assert not is_usable(item(gpu, "node.kubernetes.io/not-ready"))


def test_only_what_the_scheduler_refused_counts() -> None:
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    assert scheduling.is_unschedulable({**pod(), "status": {"conditions": [refused]}})
    assert not scheduling.is_unschedulable({**pod(), "status": {"conditions": [{**refused, "status": "True"}]}})
    assert not scheduling.is_unschedulable({**pod(nodeName="n"), "status": {"conditions": [refused]}})
    assert not scheduling.is_unschedulable(pod())


def group(desired: int, minimum: int = 1) -> Any:
    sizes = {"desiredSize": desired, "minSize": minimum, "maxSize": 5}
    return from_description({"clusterName": "c", "nodegroupName": "g", "scalingConfig": sizes}, ())


def test_empty_nodes_go_down_to_the_minimum() -> None:
    assert scale_down([group(3)], {"g": ["a", "b", "c"]}, {"a"}) == {"g": 1}
    assert scale_down([group(3)], {"g": ["a", "b", "c"]}, {"a", "b", "c"}) == {"g": 2}
    assert scale_down([group(1)], {"g": ["a"]}, {"a"}) == {}
    assert scale_down([group(2)], {"g": ["a", "b"]}, set()) == {}


def test_idleness_begins_when_the_last_pod_goes_and_new_nodes_get_longer() -> None:
    idleness = Idleness()
    idleness.look(["old", "new"], {"old"}, 0)
    idleness.look(["old", "new"], set(), 10)
    assert not idleness.is_over("old", 10 + IDLE_SECONDS - 1)
    assert idleness.is_over("old", 10 + IDLE_SECONDS)
    assert not idleness.is_over("new", UNUSED_SECONDS - 1)
    assert idleness.is_over("new", UNUSED_SECONDS)
    idleness.look(["old", "new"], {"old"}, 20)
    assert not idleness.is_over("old", 1000)
    idleness.look(["new"], set(), 30)
    assert idleness.used == set()
