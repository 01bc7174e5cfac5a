"""The cluster of the running environment: its nodes, pods, load balancing targets and pod identity.

Everything made here is in a namespace and a node group of its own, and is removed again.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import cloud, cluster, toolchain
from local.addresses import ECR_HOST
from local.cluster import images, node
from local.cluster.api import Api
from local.cluster.objects import Json, is_true, labels, name, section, sequence
from local.processes import Daemon

pytestmark = pytest.mark.environment

NAMESPACE = "test-cluster"
GROUP = "test-cluster"
SERVER = """
import http.server, signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(socket.gethostname().encode())
    def log_message(self, *args):
        print("asked", flush=True)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
CREDENTIALS = """
import os, urllib.request
token = open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()
request = urllib.request.Request(os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers={"Authorization": token})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


def wait(what: str, ready: Callable[[], Any], *, seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what} not within {seconds:.0f} s"
        time.sleep(0.1)
    return found


def kubectl(*arguments: str) -> str:
    command = [str(toolchain.program("kubectl")), f"--kubeconfig={cluster.kubeconfig()}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def api(environment: str) -> Generator[Api]:
    client = Api.admin()
    yield client
    client.close()


@pytest.fixture(scope="module")
def eks_cluster(environment: str) -> str:
    return cloud.client("eks").list_clusters()["clusters"][0]


@pytest.fixture(scope="module")
def group(api: Api, eks_cluster: str) -> Iterator[Callable[[int], None]]:
    """A node group of GPU nodes for these tests; the function sets its size."""
    eks = cloud.client("eks")
    existing: Json = eks.describe_nodegroup(
        clusterName=eks_cluster, nodegroupName=eks.list_nodegroups(clusterName=eks_cluster)["nodegroups"][0]
    )["nodegroup"]
    names = {"clusterName": eks_cluster, "nodegroupName": GROUP}
    eks.create_nodegroup(
        **names,
        subnets=existing["subnets"],
        nodeRole=existing["nodeRole"],
        instanceTypes=["g6.xlarge"],
        scalingConfig={"minSize": 1, "maxSize": 3, "desiredSize": 1},
        labels={"test": "cluster"},
        taints=[{"key": "test", "value": "cluster", "effect": "NO_SCHEDULE"}],
    )

    def resize(size: int) -> None:
        sizes = {"minSize": 1, "maxSize": 3, "desiredSize": size}
        eks.update_nodegroup_config(**names, scalingConfig=sizes)

    yield resize
    eks.delete_nodegroup(**names)
    wait("the group's nodes are gone", lambda: not nodes_of(api, GROUP), seconds=90)


def nodes_of(api: Api, group_name: str) -> list[Json]:
    return api.list("/api/v1/nodes", labelSelector=f"eks.amazonaws.com/nodegroup={group_name}")


def ready_nodes(api: Api) -> list[Json]:
    return [item for item in nodes_of(api, GROUP) if is_true(item, "Ready")]


@pytest.fixture(scope="module")
def web(api: Api, group: Callable[[int], None]) -> Iterator[Callable[[], list[Json]]]:
    """Two pods with a service on the group's nodes; the function gives the ready ones."""
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    metadata = {"name": "web", "namespace": NAMESPACE}
    container = {
        "name": "web",
        "image": f"{ECR_HOST}/model-loader:{images.LOCAL_TAG}",
        "command": ["python3", "-c", SERVER],
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "10m"}, "limits": {"nvidia.com/gpu": "1"}},
        "readinessProbe": {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1},
    }
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "serviceAccountName": "web",
            "nodeSelector": {"test": "cluster"},
            "tolerations": [{"key": "test", "operator": "Exists"}, {"key": "nvidia.com/gpu", "operator": "Exists"}],
            "containers": [container],
        },
    }
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    service = {"selector": {"app": "web"}, "ports": ports}
    associate(cloud.client("eks").list_clusters()["clusters"][0])
    api.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    api.apply({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service})
    api.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})

    def pods() -> list[Json]:
        found = api.list(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app=web")
        return [pod for pod in found if is_true(pod, "Ready") and not pod["metadata"].get("deletionTimestamp")]

    yield pods
    api.delete(f"/api/v1/namespaces/{NAMESPACE}")
    wait("the namespace is gone", lambda: api.find(f"/api/v1/namespaces/{NAMESPACE}") is None, seconds=90)


def associate(eks_cluster: str) -> None:
    iam, eks = cloud.client("iam"), cloud.client("eks")
    trust = (
        '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], '
        '"Principal": {"Service": "pods.eks.amazonaws.com"}}]}'
    )
    role: Json = iam.create_role(RoleName="test-cluster", AssumeRolePolicyDocument=trust)["Role"]
    eks.create_pod_identity_association(
        clusterName=eks_cluster, namespace=NAMESPACE, serviceAccount="web", roleArn=role["Arn"]
    )


@pytest.fixture(scope="module", autouse=True)
def _no_association_left(eks_cluster: str) -> Iterator[None]:
    yield
    eks, iam = cloud.client("eks"), cloud.client("iam")
    found: list[Json] = eks.list_pod_identity_associations(clusterName=eks_cluster, namespace=NAMESPACE)["associations"]
    for item in found:
        eks.delete_pod_identity_association(clusterName=eks_cluster, associationId=item["associationId"])
    iam.delete_role(RoleName="test-cluster")


def test_every_instance_of_every_group_is_a_ready_node(api: Api, eks_cluster: str) -> None:
    eks = cloud.client("eks")
    for group_name in eks.list_nodegroups(clusterName=eks_cluster)["nodegroups"]:
        described: Json = eks.describe_nodegroup(clusterName=eks_cluster, nodegroupName=group_name)["nodegroup"]
        desired: int = described["scalingConfig"]["desiredSize"]
        wait(
            f"{desired} ready nodes of {group_name}",
            lambda name=group_name, count=desired: sum(is_true(item, "Ready") for item in nodes_of(api, name)) == count,
        )


def test_pending_pods_raise_the_group_and_its_nodes_carry_gpus(api: Api, web: Callable[[], list[Json]]) -> None:
    pods = wait("two ready pods, each with a GPU", lambda: found if len(found := web()) == 2 else None, seconds=120)
    carriers = {pod["spec"]["nodeName"] for pod in pods}
    assert len(carriers) == 2
    for item in ready_nodes(api):
        assert section(item, "status", "allocatable")["nvidia.com/gpu"] == "1"
        assert labels(item)["nvidia.com/gpu.product"] == "NVIDIA-L4"
        assert {"key": "test", "value": "cluster", "effect": "NoSchedule"} in sequence(item, "spec", "taints")
        assert node.is_running(name(item))


def test_logs_exec_and_service_names(web: Callable[[], list[Json]]) -> None:
    pod = wait("a ready pod", web)[0]
    ask = f"import urllib.request as u; print(u.urlopen('http://web.{NAMESPACE}.svc.cluster.local', timeout=5).read())"
    answers = {kubectl("exec", "-n", NAMESPACE, name(pod), "--", "python3", "-c", ask) for _ in range(8)}
    assert all("web-" in answer for answer in answers)
    assert "asked" in kubectl("logs", "-n", NAMESPACE, name(pod))


def test_port_forward(web: Callable[[], list[Json]]) -> None:
    pod = wait("a ready pod", web)[0]
    command = [str(toolchain.program("kubectl")), f"--kubeconfig={cluster.kubeconfig()}", "port-forward"]
    with subprocess.Popen(
        [*command, "-n", NAMESPACE, name(pod), ":8080"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        process.communicate()
    assert first.startswith("Forwarding from 127.0.0.1:")


def test_associated_pods_get_their_role_and_nothing_else_does(web: Callable[[], list[Json]]) -> None:
    pod = wait("a ready pod", web)[0]
    answer = kubectl("exec", "-n", NAMESPACE, name(pod), "--", "python3", "-c", CREDENTIALS)
    assert '"AccountId": "000000000000"' in answer
    mounts = [mount["mountPath"] for mount in pod["spec"]["containers"][0]["volumeMounts"]]
    assert "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount" in mounts


def test_targets_follow_ready_pods_within_a_second(api: Api, web: Callable[[], list[Json]]) -> None:
    elb, ec2 = cloud.client("elbv2"), cloud.client("ec2")
    vpc: str = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    created: Json = elb.create_target_group(Name=GROUP, Protocol="TCP", Port=80, VpcId=vpc, TargetType="ip")
    arn: str = created["TargetGroups"][0]["TargetGroupArn"]

    def targets() -> set[tuple[str, int]]:
        found: list[Json] = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        active = (item["Target"] for item in found if section(item, "TargetHealth").get("State") != "draining")
        return {(target["Id"], target["Port"]) for target in active}

    binding = {
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": {"name": "web", "namespace": NAMESPACE},
        "spec": {"targetGroupARN": arn, "targetType": "ip", "serviceRef": {"name": "web", "port": "http"}},
    }
    try:
        pods = wait("two ready pods", lambda: found if len(found := web()) == 2 else None)
        api.apply(binding)
        expected = {(pod["status"]["podIP"], 8080) for pod in pods}
        wait("both pods are targets", lambda: targets() == expected, seconds=5)
        gone = (pods[0]["status"]["podIP"], 8080)
        api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name(pods[0])}")
        wait("the pod that ends is no target", lambda: gone not in targets(), seconds=1)
        path = f"/apis/elbv2.k8s.aws/v1beta1/namespaces/{NAMESPACE}/targetgroupbindings/web"
        assert section(api.get(path), "status")["observedGeneration"] == 1
        api.delete(path)
        wait("no targets without a binding", lambda: not targets(), seconds=5)
    finally:
        elb.delete_target_group(TargetGroupArn=arn)


def test_killed_kubelet_is_started_again(api: Api, web: Callable[[], list[Json]]) -> None:
    pod = wait("a ready pod", web)[0]
    kubelet = kubelet_of(pod["spec"]["nodeName"])
    os.kill(kubelet, signal.SIGKILL)
    again = wait("another kubelet", lambda: found if (found := kubelet_of(pod["spec"]["nodeName"])) != kubelet else 0)
    assert again
    uid: str = pod["metadata"]["uid"]
    wait("the pod is still ready", lambda: uid in {item["metadata"]["uid"] for item in web()})
    wait("the node's GPU is there again", lambda: all(gpus(item) == "1" for item in ready_nodes(api)))


def gpus(item: Json) -> str:
    return section(item, "status", "allocatable").get("nvidia.com/gpu", "0")


def kubelet_of(node_name: str) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith(b"/kubelet") and node_name.encode() in arguments:
            return int(path.parent.name)
    return 0


def test_lost_node_is_replaced_and_its_pods_are_back(api: Api, web: Callable[[], list[Json]]) -> None:
    pods = wait("two ready pods", lambda: found if len(found := web()) == 2 else None)
    lost: str = pods[0]["spec"]["nodeName"]
    pid = Daemon(f"node-{lost}").pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait("the lost node is no more", lambda: api.find(f"/api/v1/nodes/{lost}") is None, seconds=45)
    wait("two ready pods elsewhere", lambda: lost not in carriers(web()) and len(web()) == 2, seconds=45)
    wait("its files are gone", lambda: lost not in {spec.name for spec in node.specs()}, seconds=10)
    wait("nothing of it is left", lambda: not list(Path("/sys/fs/cgroup").glob(f"**/llm-{lost}")), seconds=5)


def carriers(pods: list[Json]) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods}


def test_smaller_group_drains_and_ends_a_node(
    api: Api, web: Callable[[], list[Json]], group: Callable[[int], None]
) -> None:
    wait("two ready pods", lambda: len(web()) == 2)
    scale = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/web/scale"
    api.merge(scale, {"spec": {"replicas": 1}})
    wait("one pod", lambda: len(web()) == 1)
    group(1)
    wait("one node", lambda: len(nodes_of(api, GROUP)) == 1)
    wait("the pod is on it", lambda: carriers(web()) == {name(item) for item in ready_nodes(api)})
