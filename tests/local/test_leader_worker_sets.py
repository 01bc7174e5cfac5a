"""The chart's LeaderWorkerSet under its real controller: groups of pods, which KWOK's nodes call ready.

The controller has the rights, the certificate and the webhooks that it has in the local cluster, but runs here as a
process. What the pods would run, they don't.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from local import toolchain
from local.cluster import addons
from local.cluster.api import Api, ApiError
from local.cluster.objects import Json, is_true, labels, name, sequence
from local.ports import free
from tests.charts.rendering import NAMESPACE, documents
from tests.charts.test_inference_service_chart import CHART, MODEL
from tests.charts.test_leader_worker_set import values
from tests.control_plane_harness import LOOPBACK, ControlPlane, copy_secret
from tests.environment_harness import wait

pytestmark = pytest.mark.local

GROUP = f"{MODEL}-group"
SYSTEM = "lws-system"
LABEL = "leaderworkerset.sigs.k8s.io"
RESOURCE = f"/apis/leaderworkerset.x-k8s.io/v1/namespaces/{NAMESPACE}/leaderworkersets/{GROUP}"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
NODES = 4
"""Of eight GPUs each, which one pod takes: two groups of two."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A control plane with the controller and empty GPU nodes."""
    folder = tmp_path_factory.mktemp("plane")
    running = ControlPlane(folder)
    try:
        running.start()
        install(running, folder)
        yield running
    finally:
        running.stop()


@pytest.fixture
def api(plane: ControlPlane, tmp_path: Path) -> Iterator[Api]:
    """The API, with two groups that are ready."""
    apply(plane.api, tmp_path)
    wait("two groups", lambda: len(ready(plane.api)) == 4)
    wait("the set is available", lambda: is_true(plane.api.get(RESOURCE), "Available"))
    yield plane.api
    delete(plane)


def delete(plane: ControlPlane) -> None:
    """Deletes the set and waits until all that it has made is gone."""
    plane.kubectl("delete", "-n", NAMESPACE, "leaderworkerset", GROUP, "--cascade=foreground", "--ignore-not-found")


def install(plane: ControlPlane, folder: Path) -> None:
    """What `addons` installs of the controller, which listens on loopback and not in a pod."""
    port, health = free(), free()
    for text in (text for file, text in toolchain.crds().items() if file.startswith("leaderworkerset")):
        for definition in addons.parse(text):
            plane.api.apply(definition)
    configuration: Json = {}
    for manifest in (each for each in addons.manifests() if name(each).startswith("lws-")):
        if manifest["kind"] == "ConfigMap":
            (text,) = manifest["data"].values()
            configuration = yaml.safe_load(text)
        elif manifest["kind"] == "Service":
            manifest["spec"] = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
        for webhook in sequence(manifest, "webhooks"):
            webhook["clientConfig"]["service"]["port"] = port
        plane.api.apply(manifest)
    certificates = folder / "certificates"
    listening = {
        "webhook": {"host": LOOPBACK, "port": port, "certDir": str(certificates)},
        "metrics": {"bindAddress": "0"},
        "health": {"healthProbeBindAddress": f"{LOOPBACK}:{health}"},
    }
    file = folder / "controller.yaml"
    file.write_text(yaml.safe_dump(configuration | listening))
    account = plane.account_config(SYSTEM, "lws-controller-manager")
    plane.run("lws", f"--config={file}", f"--kubeconfig={account}")
    copy_secret(plane.api, SYSTEM, "lws-webhook-server-cert", certificates)
    add_nodes(plane.api)
    restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
    plane.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": restricted}})


def add_nodes(api: Api) -> None:
    """Nodes of the pool that the model asks for."""
    amounts = {"cpu": "192", "memory": "2000Gi", "ephemeral-storage": "8000G", "pods": "110", "nvidia.com/gpu": "8"}
    for number in range(NODES):
        node = f"gpu-{number}"
        own = {"type": "kwok", "kubernetes.io/hostname": node, "llm-serving/pool": "h100"}
        body = {"metadata": {"name": node, "labels": own}, "status": {"capacity": amounts, "allocatable": amounts}}
        api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", **body})


def apply(api: Api, folder: Path, **changes: int) -> None:
    """The chart's objects, with two groups."""
    for manifest in documents(folder, CHART, MODEL, values() | {"replicas": 2, **changes}):
        wait(f"{manifest['kind']} is taken", partial(accepted, api, manifest))


def accepted(api: Api, manifest: Json) -> bool:
    """Applies a manifest, unless the webhooks don't answer yet: they do a moment after their certificate is there."""
    try:
        api.apply(manifest)
    except ApiError as error:
        if "failed calling webhook" not in str(error):
            raise
        return False
    return True


def pods(api: Api) -> dict[str, Json]:
    """The model's pods that aren't being deleted, by name."""
    found = api.list(PODS, labelSelector=f"{LABEL}/name={GROUP}")
    return {name(pod): pod for pod in found if not pod["metadata"].get("deletionTimestamp")}


def ready(api: Api) -> dict[str, str]:
    """The ready pods' uids by name."""
    return {each: pod["metadata"]["uid"] for each, pod in pods(api).items() if is_true(pod, "Ready")}


def test_the_controllers_own_pod_meets_its_namespaces_standard(plane: ControlPlane) -> None:
    # Its node is none of these, and a pod that is refused would not be there at all.
    wait("its pod", lambda: len(plane.api.list(f"/api/v1/namespaces/{SYSTEM}/pods")) == 1)


def test_groups_are_made_and_know_each_other(api: Api) -> None:
    found = pods(api)
    assert set(found) == {f"{GROUP}-{end}" for end in ("0", "0-1", "1", "1-1")}
    assert len({pod["spec"]["nodeName"] for pod in found.values()}) == NODES
    for group in "01":
        for worker, pod in enumerate((found[f"{GROUP}-{group}"], found[f"{GROUP}-{group}-1"])):
            assert (labels(pod)[f"{LABEL}/group-index"], labels(pod)[f"{LABEL}/worker-index"]) == (group, str(worker))
            for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
                # First, so that the arguments and other variables may have them in them.
                assert container["env"][:3] == [
                    {"name": "LWS_LEADER_ADDRESS", "value": f"{GROUP}-{group}.{GROUP}.{NAMESPACE}"},
                    {"name": "LWS_GROUP_SIZE", "value": "2"},
                    {"name": "LWS_WORKER_INDEX", "value": str(worker)},
                ]
            assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == (name(pod), GROUP)
    service = api.get(f"/api/v1/namespaces/{NAMESPACE}/services/{GROUP}")
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    # The API server has made a rule of its own for each group.
    apart = found[f"{GROUP}-1-1"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = apart["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["labelSelector"]["matchExpressions"] == [
        {"key": f"{LABEL}/group-index", "operator": "In", "values": ["1"]}
    ]


def test_only_leaders_are_asked(api: Api) -> None:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"

    def behind(service: str) -> set[str]:
        slices = api.list(path, labelSelector=f"kubernetes.io/service-name={service}")
        return {endpoint["targetRef"]["name"] for item in slices for endpoint in sequence(item, "endpoints")}

    wait("the leaders", lambda: behind(MODEL) == {f"{GROUP}-0", f"{GROUP}-1"})
    wait("all pods, by name", lambda: behind(GROUP) == set(pods(api)))


def test_a_pod_that_goes_takes_its_group_along(api: Api) -> None:
    before = ready(api)
    api.delete(f"{PODS}/{GROUP}-0-1")
    wait("a new group", lambda: len(renewed(before, api)) == 2)
    wait("the set is available", lambda: is_true(api.get(RESOURCE), "Available"))
    assert renewed(before, api) == {f"{GROUP}-0", f"{GROUP}-0-1"}


def test_a_container_that_starts_again_takes_its_group_along(api: Api) -> None:
    before = ready(api)
    pod = pods(api)[f"{GROUP}-1-1"]
    statuses = pod["status"]["containerStatuses"]
    statuses[0]["restartCount"] = 1
    api.merge(f"{PODS}/{name(pod)}/status", {"status": {"containerStatuses": statuses}})
    wait("a new group", lambda: len(renewed(before, api)) == 2)
    assert renewed(before, api) == {f"{GROUP}-1", f"{GROUP}-1-1"}


def renewed(before: dict[str, str], api: Api) -> set[str]:
    """The names of the pods that are ready and weren't there before."""
    return {each for each, uid in ready(api).items() if before.get(each) != uid}


def test_one_group_after_another_is_updated(api: Api, tmp_path: Path) -> None:
    before = ready(api)
    apply(api, tmp_path, terminationGracePeriodSeconds=150)
    seen: list[set[str]] = []

    def done() -> bool:
        now = ready(api)
        seen.append({each for each in (f"{GROUP}-0", f"{GROUP}-1") if each in now})
        return len(now) == 4 and not set(now.values()) & set(before.values())

    wait("new groups", done)
    # The controller goes by leaders: it doesn't wait for the workers of one group before it takes on the next. Ours
    # are ready only with all of their workers.
    assert all(seen)
    assert {pod["spec"]["terminationGracePeriodSeconds"] for pod in pods(api).values()} == {150}
    wait("the set is available", lambda: is_true(api.get(RESOURCE), "Available"))


def test_fewer_groups_and_none(api: Api, plane: ControlPlane) -> None:
    plane.kubectl("scale", "-n", NAMESPACE, f"leaderworkerset/{GROUP}", "--replicas=1")
    wait("one group", lambda: set(pods(api)) == {f"{GROUP}-0", f"{GROUP}-0-1"})
    delete(plane)
    assert api.find(RESOURCE) is None
    assert not api.list(PODS)
    assert api.find(f"/api/v1/namespaces/{NAMESPACE}/services/{GROUP}") is None
