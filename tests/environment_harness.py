"""The whole environment for tests: the commands as a user runs them, and what they leave on this machine."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from local import cloud, cluster, toolchain
from local.addresses import BRIDGE, HOST_IP
from local.cluster import network
from local.engine import Engine, Outcome
from local.paths import ROOT, STATE
from local.processes import Daemon

T = TypeVar("T")
COMMAND = (sys.executable, "-m", "local")
EVENTS = STATE / "pulumi" / "up.events.jsonl"
OVERRIDES = STATE / "overrides.yaml"


def wait(what: str, ready: Callable[[], T], *, seconds: float = 60) -> T:
    """Waits until `ready` answers something true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)
    return found


def begin(*arguments: str, prefix: tuple[str, ...] = (), **variables: str) -> "subprocess.Popen[str]":
    """Starts a command of the Makefile; its output is read from a pipe."""
    return subprocess.Popen(
        [*prefix, *COMMAND, *arguments],
        cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def run(*arguments: str, fails: bool = False, prefix: tuple[str, ...] = (), **variables: str) -> str:
    """Runs a command of the Makefile and returns what it printed; checks that it ends as it should."""
    process = begin(*arguments, prefix=prefix, **variables)
    try:
        text, _ = process.communicate(timeout=400)
    except BaseException:
        process.send_signal(signal.SIGINT)  # it ends what it has started
        process.communicate()
        raise
    assert process.returncode == int(fails), text
    assert "Traceback" not in text, text
    return text


def problem(*arguments: str, prefix: tuple[str, ...] = (), **variables: str) -> str:
    """What a command that cannot do its work says: everything from its line that begins with `error`."""
    text = run(*arguments, fails=True, prefix=prefix, **variables)
    assert text.count("\nerror ") + text.startswith("error ") == 1, text
    return text[text.index("error ") :]


def override(settings: Mapping[str, Any]) -> None:
    """Lays settings, as in a stack file's `config:`, over the committed stack until the next call."""
    OVERRIDES.parent.mkdir(parents=True, exist_ok=True)
    OVERRIDES.write_text(yaml.safe_dump({"config": {f"llm-serving:{key}": value for key, value in settings.items()}}))


def events() -> list[dict[str, Any]]:
    """What the engine reported of the last `up`, so far."""
    try:
        lines = EVENTS.read_text().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def made() -> list[str]:
    """The types of the resources that the `up` under way has created."""
    found = [event["resOutputsEvent"]["metadata"] for event in events() if "resOutputsEvent" in event]
    return [metadata["type"] for metadata in found if metadata["op"] == "create"]


def changed() -> dict[str, str]:
    """The resources that the last `up` changed: `type::name` to step."""
    found = [event["resOutputsEvent"]["metadata"] for event in events() if "resOutputsEvent" in event]
    for metadata in found:
        if metadata["op"] == "update":
            print(metadata["urn"], metadata.get("diffs"))  # what a test that fails wants to know
    return {
        metadata["urn"].split("::", 2)[2].rpartition("$")[2]: metadata["op"]
        for metadata in found
        if metadata["op"] not in ("same", "read")
    }


def kubectl(*arguments: str, text: str | None = None) -> str:
    """Runs kubectl as the cluster's administrator."""
    command = [str(toolchain.program("kubectl")), f"--kubeconfig={cluster.kubeconfig()}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, input=text)
    assert done.returncode == 0, done.stderr
    return done.stdout


def items(*arguments: str) -> list[dict[str, Any]]:
    """What `kubectl get` lists."""
    return json.loads(kubectl("get", *arguments, "-o", "json"))["items"]


def ready_pods(name: str) -> dict[str, str]:
    """The ready pods of a Deployment, each with its node."""
    found = items("pods", "-n", "llm-serving", "-l", f"app.kubernetes.io/instance={name}")
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in found
        if not pod["metadata"].get("deletionTimestamp")
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
    }


def pool_nodes(pool: str) -> list[str]:
    """The ready nodes of a node group."""
    found = items("nodes", "-l", f"llm-serving/pool={pool}")
    return [
        each["metadata"]["name"]
        for each in found
        if any(one["type"] == "Ready" and one["status"] == "True" for one in each["status"]["conditions"])
    ]


def apply(settings: Mapping[str, Any]) -> None:
    """Puts settings over the committed stack in force, by the engine alone."""
    override(settings)
    _engine().up()


def refresh() -> Outcome:
    """Reads every resource back into the stack's state, as the first half of `pulumi up --refresh`."""
    return _engine().refresh()


def _engine() -> Engine:
    """The engine, with the settings that are over the committed stack now."""
    from local import environment  # noqa: PLC0415  it finds programs that a machine may lack

    engine = environment.engine()
    engine.select()
    return engine


def committed_again() -> None:
    """Brings the stack back to its committed settings, and waits until it is as a first `up` leaves it."""
    apply({})
    settle()


def settle() -> None:
    """Waits until there are as many GPU nodes, and pods of the model, as committed.

    The autoscaler adds a node where pods of a test need one. It would take it back by itself, after minutes. From no
    pods, KEDA begins when it next looks, and Pulumi waits for none of them.
    """
    eks = cloud.client("eks")
    (cluster_name,) = eks.list_clusters()["clusters"]
    for group in eks.list_nodegroups(clusterName=cluster_name)["nodegroups"]:
        found = eks.describe_nodegroup(clusterName=cluster_name, nodegroupName=group)["nodegroup"]
        if found["labels"].get("llm-serving/pool") == "l4":
            sizes = {**found["scalingConfig"], "desiredSize": 2}
            eks.update_nodegroup_config(clusterName=cluster_name, nodegroupName=group, scalingConfig=sizes)
    wait("as many GPU nodes as committed", lambda: len(items("nodes", "-l", "llm-serving/pool=l4")) == 2, seconds=420)
    wait("as many pods as committed", lambda: len(ready_pods("smollm2-135m")) == 2, seconds=300)


def log_events() -> dict[str, list[dict[str, Any]]]:
    """Everything that is in a log group, as FilterLogEvents tells it, by group."""
    logs = cloud.client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    assert groups
    return {group: logs.filter_log_events(logGroupName=group)["events"] for group in groups}


def outputs() -> dict[str, Any]:
    """The stack's outputs, secrets in plain."""
    from local import environment  # noqa: PLC0415  it finds programs that a machine may lack

    return environment.engine().outputs()


def kill(daemon: str) -> None:
    """Kills a daemon as `kill -9` does, and waits until it is gone."""
    pid = Daemon(daemon).pid
    assert pid is not None, f"{daemon} doesn't run"
    os.kill(pid, signal.SIGKILL)
    wait(f"{daemon} is gone", lambda: Daemon(daemon).pid is None)


def leftovers() -> list[str]:
    """What of this environment is on the machine: none of it is after `make down`."""
    marker = str(STATE).encode()
    found: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            command, variables = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            groups, mounts = (folder / "cgroup").read_text(), (folder / "mounts").read_bytes()
        except OSError:
            continue
        if marker in command or _ours(command, variables) or f"/{network.PREFIX}" in groups or marker in mounts:
            found.append(f"process {folder.name}: {command.replace(bytes(1), b' ').decode(errors='replace')[:200]}")
    links = [name for name in network.interfaces() if name == BRIDGE or name.startswith(network.PREFIX)]
    routes = [line for line in network.run("ip", "route", "show").splitlines() if re.match(r"10\.(89|244)\.", line)]
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(STATE) in line]
    cgroups = [str(path) for path in Path("/sys/fs/cgroup").rglob(f"{network.PREFIX}*")]
    ports = [f"port {name} {number}" for name, number in remembered_ports().items() if _listens(number)]
    return [*found, *(f"interface {name}" for name in links), *routes, *mounts, *cgroups, *ports]


def _ours(command: bytes, variables: bytes) -> bool:
    """Whether a process was given this state folder, and doesn't only have every test's own environment."""
    own = b"LLM_SERVING_STATE=" + str(STATE).encode()
    given = [each for each in variables.split(b"\0") if str(STATE).encode() in each]
    return given != [own] if given and b"\0local.c" not in command else bool(given)


def remembered_ports() -> dict[str, int]:
    """The ports that this environment has chosen, by service."""
    path = STATE / "ports.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _listens(port: int) -> bool:
    """Whether anything of this machine listens on a port of one of our addresses."""
    addresses = {_hex(address) for address in ("127.0.0.1", HOST_IP)}
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(line[3] == "0A" and line[1] in {f"{address}:{port:04X}" for address in addresses} for line in lines)


def _hex(address: str) -> str:
    return "".join(f"{int(part):02X}" for part in reversed(address.split(".")))


def census() -> dict[str, int]:
    """How many of each kind there are in the emulated account, of what the stack creates one by one."""
    ec2, iam = cloud.client("ec2"), cloud.client("iam")
    return {
        "vpcs": sum(not vpc["IsDefault"] for vpc in ec2.describe_vpcs()["Vpcs"]),
        "nat gateways": sum(item["State"] == "available" for item in ec2.describe_nat_gateways()["NatGateways"]),
        "elastic addresses": len(ec2.describe_addresses()["Addresses"]),
        "launch templates": len(ec2.describe_launch_templates()["LaunchTemplates"]),
        "clusters": len(cloud.client("eks").list_clusters()["clusters"]),
        "buckets": len(cloud.client("s3").list_buckets()["Buckets"]),
        "caches": len(cloud.client("elasticache").describe_replication_groups()["ReplicationGroups"]),
        "load balancers": len(cloud.client("elbv2").describe_load_balancers()["LoadBalancers"]),
        "target groups": len(cloud.client("elbv2").describe_target_groups()["TargetGroups"]),
        "APIs": len(cloud.client("apigateway").get_rest_apis()["items"]),
        "API keys": len(cloud.client("apigateway").get_api_keys()["items"]),
        "usage plans": len(cloud.client("apigateway").get_usage_plans()["items"]),
        "VPC links": len(cloud.client("apigateway").get_vpc_links()["items"]),
        "secrets": len(cloud.client("secretsmanager").list_secrets()["SecretList"]),
        "keys": len(enabled_keys()),
        "log groups": len(cloud.client("logs").describe_log_groups()["logGroups"]),
        "roles": len(roles()),
        "policies": len(iam.list_policies(Scope="Local")["Policies"]),
    }  # fmt: skip


def roles() -> set[str]:
    """The names of the emulated account's IAM roles, without those that AWS services make for themselves."""
    found = cloud.client("iam").list_roles()["Roles"]
    return {role["RoleName"] for role in found if not role["Path"].startswith("/aws-service-role/")}


def enabled_keys() -> list[str]:
    """The ids of the emulated account's own KMS keys that aren't about to be deleted."""
    kms = cloud.client("kms")
    keys = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    return [key["KeyId"] for key in keys if key["KeyState"] != "PendingDeletion" and key["KeyManager"] == "CUSTOMER"]


def pulumi(*arguments: str) -> str:
    """Runs the Pulumi CLI on the local stack, as a user of it would."""
    from local import environment  # noqa: PLC0415

    engine = environment.engine()
    command = [str(engine.program), *arguments, "--stack", engine.stack, "--non-interactive", "--color", "never"]
    done = subprocess.run(command, cwd=ROOT, env=engine.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout
