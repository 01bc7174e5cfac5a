"""Measures a hundred model services: their charts rendered, and their pods placed on two hundred simulated GPU nodes.

python -m local.bench_services

The charts are rendered by Helm alone, and by the Kubernetes provider in a preview on Pulumi's engine. The control plane
is the local environment's own, in a network of its own where nothing else listens: it needs root, and neither disturbs
an environment on this machine nor is disturbed by it. KWOK plays the nodes.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from local import machine, many_services, plugins, toolchain
from local.addresses import HOST_IP
from local.cluster import control_plane, network
from local.cluster.api import Api
from local.cluster.objects import Json, is_true, section, sequence
from local.console import console
from local.engine import Engine
from local.errors import LocalError
from local.many_services import NAMESPACE
from local.paths import ROOT
from local.preview import UNSAVED, borrow_python
from local.toolchain.tools import KUBERNETES_VERSION

RESULTS = ROOT / "bench"
STACK = "bench"
RUNS = 3
"""Renderings of which the median counts."""
Timed = tuple[float, float]
"""Seconds, and seconds of a processor."""
LIMITS = {"helm_seconds": 10, "placed_seconds": 120}
PATIENCE_S = 300
"""How long nodes may take to be ready, and pods to be placed."""
AT_ONCE = 16
"""Requests to the API server at once: the engine, too, registers a program's resources side by side."""
PROGRAMS = (
    "pulumi",
    "pulumi-language-python-exec",
    "pulumi-resource-kubernetes",
    "aws-bridge",
    "helm",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
)
PROGRAM = """\
import json
from functools import partial
from pathlib import Path

import pulumi
import pulumi_kubernetes as kubernetes

here = Path(__file__).parent
files = kubernetes.Provider("files", render_yaml_to_directory=str(here / "rendered"))
for chart in json.loads((here / "charts.json").read_text()):
    kubernetes.helm.v4.Chart(chart["name"], **chart, opts=pulumi.ResourceOptions(provider=files))
"""


def run() -> None:
    """Measures both, and writes bench/services.json and bench/services.md. Raises LocalError where it can't."""
    if os.geteuid() != 0:
        raise LocalError("the control plane's network is made by root only", "run it as root")
    toolchain.ensure(*PROGRAMS)
    load = round(os.getloadavg()[0], 1)
    results: dict[str, Any] = {
        "measured": datetime.now(UTC).date().isoformat(),
        "machine": machine.described(),
        "load": load,
        "kubernetes": KUBERNETES_VERSION,
        **_apart(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "services.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "services.md").write_text(page(results))
    table = Table("measure", "value", "at most", box=None)
    for row in _rows(results):
        table.add_row(*row)
    console.print(table)
    console.print(f"written to {RESULTS.relative_to(ROOT)}/")


def _apart() -> dict[str, Any]:
    """What `here` returns in a process with a network and a state folder of its own."""
    with tempfile.TemporaryDirectory(prefix="llm-serving-") as folder:
        command = ["unshare", "--net", sys.executable, "-m", "local.bench_services", "--here"]
        variables = {**os.environ, "LLM_SERVING_STATE": folder}
        done = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return json.loads(done.stdout)


def here() -> dict[str, Any]:
    """Renders and places, for a process whose network and state folder are throw-away ones."""
    network.run("ip", "link", "set", "lo", "up")
    network.run("ip", "address", "add", f"{HOST_IP}/32", "dev", "lo")
    charts = many_services.charts()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        helm = [_templated(folder, charts) for _ in range(RUNS)]
        prepare(folder)
        empty = [_previewed(folder, []) for _ in range(RUNS)]
        full = [_previewed(folder, charts) for _ in range(RUNS)]
        _engine(folder, charts).up()
        manifests = [
            manifest
            for path in sorted((folder / "rendered").rglob("*.yaml"))
            for manifest in yaml.safe_load_all(path.read_text())
            if manifest
        ]
    results: dict[str, Any] = {
        "services": len(charts),
        "objects": len(manifests),
        "helm": _summary(helm),
        "preview": _summary(full),
        "preview_without_charts": _summary(empty),
    }
    try:
        control_plane.start()
        return {**results, **placed(Api.admin(timeout=30), manifests)}
    finally:
        control_plane.stop()


def prepare(folder: Path) -> None:
    """Makes a project whose program has the charts of a file rendered."""
    (folder / "stacks").mkdir()
    (folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text("config: {}\n")
    runtime = {"name": "python", "options": {"virtualenv": ".venv"}}
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "bench", "runtime": runtime}))
    (folder / "__main__.py").write_text(PROGRAM)
    borrow_python(folder)


def _templated(folder: Path, charts: list[Json]) -> Timed:
    """`helm template` of each chart, one process after another."""
    files = [folder / f"{chart['name']}.json" for chart in charts]
    for file, chart in zip(files, charts, strict=True):
        file.write_text(json.dumps(chart["values"]))
    helm = toolchain.program("helm")

    def render() -> None:
        for file, chart in zip(files, charts, strict=True):
            command = [helm, "template", chart["name"], chart["chart"], "--namespace", NAMESPACE, "--values", file]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

    return _timed(render)


def _previewed(folder: Path, charts: list[Json]) -> Timed:
    """A preview of a program of these charts, from nothing."""
    return _timed(_engine(folder, charts).preview)


def _engine(folder: Path, charts: list[Json]) -> Engine:
    (folder / "charts.json").write_text(json.dumps(charts))
    engine = Engine(STACK, toolchain.program("pulumi"), {**plugins.install(), **UNSAVED}, root=folder)
    engine.select()
    return engine


def _timed(act: Callable[[], object]) -> Timed:
    """Seconds, and seconds of a processor, that the processes take which `act` starts and waits for."""
    before, begun = os.times(), time.monotonic()
    act()
    seconds, after = time.monotonic() - begun, os.times()
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


def _summary(runs: Sequence[Timed]) -> dict[str, Any]:
    seconds, processor = zip(*runs, strict=True)
    return {
        "seconds": round(statistics.median(seconds), 1),
        "each_seconds": [round(each, 1) for each in seconds],
        "processor_seconds": round(statistics.median(processor), 1),
    }


def placed(api: Api, manifests: list[Json]) -> dict[str, Any]:
    """Makes the nodes, then applies the manifests, and measures until each pod has a node, and until each is ready."""
    nodes = many_services.nodes(KUBERNETES_VERSION)
    wanted = sum(item["spec"]["replicas"] for item in manifests if item["kind"] == "Deployment")
    api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(partial(api.create, "/api/v1/nodes"), nodes))
        _wait("the nodes are ready", lambda: sum(map(usable, api.list("/api/v1/nodes"))) == len(nodes))
        begun = time.monotonic()
        list(pool.map(api.apply, manifests))
    applied = time.monotonic() - begun
    pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
    _wait("every pod has a node", lambda: _count(api.list(pods), lambda pod: "nodeName" in pod["spec"]) == wanted)
    seconds = time.monotonic() - begun
    _wait("every pod is ready", lambda: _count(api.list(pods), lambda pod: is_true(pod, "Ready")) == wanted)
    found = api.list(pods)
    return {
        "nodes": len(nodes),
        "pods": len(found),
        "applied_seconds": round(applied, 1),
        "placed_seconds": round(seconds, 1),
        "ready_seconds": round(time.monotonic() - begun, 1),
        "nodes_used": len({pod["spec"]["nodeName"] for pod in found}),
        "zones": many_services.spread(found, nodes),
    }


def usable(node: Json) -> bool:
    """Whether a pod that tolerates the GPUs' taint may come: a new node has one taint more until it is seen Ready."""
    keys = {taint["key"] for taint in sequence(node, "spec", "taints")}
    return is_true(node, "Ready") and not any(key.startswith("node.kubernetes.io/") for key in keys)


def _count(pods: list[Json], holds: Callable[[Json], bool]) -> int:
    return sum(1 for pod in pods if holds(section(pod)))


def _wait(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with console.status(f"waiting until {what}"):
        while not holds():
            if time.monotonic() > deadline:
                raise LocalError(f"it isn't so after {PATIENCE_S} s that {what}", "run it on an idle machine")
            time.sleep(0.25)


def page(results: Mapping[str, Any]) -> str:
    """The measurements as a page."""
    rows = "\n".join(f"| {name} | {value} | {limit} |" for name, value, limit in _rows(results))
    return f"""# {results["services"]} model services, measured

On {results["measured"]}, {machine.sentence(results["machine"])}, load {results["load"]} when it began. Written by
`make bench`.

The charts have the values that the component `InferenceService` gives them, on four pools, half with TGI and half with
vLLM. Helm renders them in a process each, one after another; the Kubernetes provider does in one preview on Pulumi's
engine, which also registers and checks each object. Medians of {RUNS} runs.

The objects are then applied to a control plane of the bench's own, Kubernetes {results["kubernetes"]}: real etcd, API
server, controller manager and scheduler. KWOK plays the nodes, so nothing runs in the pods: their times are those of
the control plane alone. Each pod takes all GPUs of a node, and there is no node to spare. All of it shares this
machine's processors.

| measure | value | limit |
|---|---|---|
{rows}
"""


def _rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    rate = results["pods"] / results["placed_seconds"]
    zones = ", ".join(f"{count} in {zone}" for zone, count in results["zones"].items())

    def spent(side: Mapping[str, Any]) -> str:
        each = ", ".join(str(seconds) for seconds in side["each_seconds"])
        return f"{side['seconds']} s ({each}); of the processor {side['processor_seconds']} s"

    many = f"{results['services']} charts"
    return [
        (f"{many} rendered by `helm template`", spent(results["helm"]), f"{LIMITS['helm_seconds']} s"),
        (f"a preview of {many}, {results['objects']} objects", spent(results["preview"]), ""),
        ("a preview of the same program without charts", spent(results["preview_without_charts"]), ""),
        (f"{results['objects']} objects applied", f"{results['applied_seconds']} s", ""),
        (
            f"{results['pods']} pods placed on {results['nodes']} nodes, from the first object on",
            f"{results['placed_seconds']} s, {rate:.1f} pods/s",
            f"{LIMITS['placed_seconds']} s",
        ),
        ("until every pod is Ready, on KWOK's word", f"{results['ready_seconds']} s", ""),
        ("nodes that have a pod", str(results["nodes_used"]), str(results["nodes"])),
        ("pods by zone", zones, ""),
    ]


def main() -> None:
    """Measures, or does a part of it in a process of its own."""
    if "--here" not in sys.argv:
        run()
        return
    console.file = sys.stderr
    sys.stdout.write(json.dumps(here()) + "\n")


if __name__ == "__main__":
    main()
