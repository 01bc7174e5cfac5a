"""One screen that says what runs, where, and how it is."""

import json
import sys
from dataclasses import asdict, dataclass

from rich.table import Table

from local import cloud, cluster, memory
from local.cluster import registry
from local.cluster.api import Api, ApiError
from local.cluster.objects import Json, sequence
from local.console import console
from local.paths import STATE
from local.processes import Daemon, daemons


@dataclass(frozen=True)
class Part:
    """A background program of the environment."""

    name: str
    healthy: bool
    pid: int | None
    mib: int
    """Memory of the program and everything that it started, in MiB (PSS)."""


@dataclass(frozen=True)
class Pod:
    """A pod, as `kubectl get pods -o wide` shows it."""

    namespace: str
    name: str
    phase: str
    ready: str
    restarts: int
    node: str
    address: str


def parts() -> list[Part]:
    """The background programs that were started, and whether each does its work."""
    health = {**cloud.status(), **cluster.status(), "registry": registry.is_running()}
    running = daemons()
    sizes = memory.resident([daemon.pid for daemon in running if daemon.pid])
    return [
        Part(daemon.name, _is_well(daemon, health), daemon.pid, sizes.get(daemon.pid or 0, 0) >> 20)
        for daemon in running
    ]


def _is_well(daemon: Daemon, health: dict[str, bool]) -> bool:
    label = LABELS.get(daemon.name, daemon.name.removeprefix("node-"))
    return daemon.pid is not None and health.get(label, True)


LABELS = {"cloud": "AWS emulator", "balancer": "load balancer", "cache": "Redis"}
"""What the parts' own status calls a program, where it isn't the program's name."""


def pods() -> list[Pod]:
    """The cluster's pods. Raises ApiError where the API server doesn't answer."""
    api = Api.admin(timeout=5)
    try:
        return [_pod(item) for item in api.list("/api/v1/pods")]
    finally:
        api.close()


def _pod(item: Json) -> Pod:
    status: Json = item["status"]
    containers = sequence(item, "status", "containerStatuses")
    return Pod(
        namespace=item["metadata"]["namespace"],
        name=item["metadata"]["name"],
        phase=_phase(item),
        ready=f"{sum(bool(container['ready']) for container in containers)}/{len(item['spec']['containers'])}",
        restarts=sum(int(container["restartCount"]) for container in containers),
        node=item["spec"].get("nodeName", ""),
        address=status.get("podIP", ""),
    )


def _phase(item: Json) -> str:
    """What a person wants to know first: the reason that a container waits for, else the pod's phase."""
    if item["metadata"].get("deletionTimestamp"):
        return "Terminating"
    states: list[Json] = [
        container.get("state", {})
        for kind in ("initContainerStatuses", "containerStatuses")
        for container in sequence(item, "status", kind)
    ]
    reasons = [state["waiting"]["reason"] for state in states if "waiting" in state]
    return next((reason for reason in reasons if reason != "PodInitializing"), item["status"].get("phase", "Unknown"))


def show(*, as_json: bool) -> None:
    """Prints the screen."""
    running = parts()
    try:
        workload = pods() if any(part.pid for part in running) else []
    except ApiError:
        workload = []
    if as_json:
        content = {"parts": [asdict(part) for part in running], "pods": [asdict(pod) for pod in workload]}
        sys.stdout.write(json.dumps(content, indent=1) + "\n")
        return
    if not any(part.pid for part in running):
        console.print(f"nothing runs; `make up` brings the environment up [dim](state: {STATE})[/dim]")
        return
    console.print(_parts_table(running))
    console.print(_pods_table(workload))


def _parts_table(running: list[Part]) -> Table:
    total = sum(part.mib for part in running)
    table = Table("part", "", "pid", "MiB", title=f"processes: {total} MiB", title_justify="left", box=None)
    for part in running:
        mark = "[green]well[/green]" if part.healthy else "[red]down[/red]"
        table.add_row(part.name, mark, str(part.pid or ""), str(part.mib or ""))
    return table


def _pods_table(workload: list[Pod]) -> Table:
    table = Table(
        "namespace", "pod", "ready", "", "restarts", "node", "address", title="pods", title_justify="left", box=None
    )
    for pod in sorted(workload, key=lambda pod: (pod.namespace, pod.name)):
        colour = "green" if pod.phase == "Running" else "yellow"
        phase = f"[{colour}]{pod.phase}[/{colour}]"
        table.add_row(pod.namespace, pod.name, pod.ready, phase, str(pod.restarts or ""), pod.node, pod.address)
    return table
