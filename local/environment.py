"""The stages of bringing the environment up and down, in order."""

import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import cloud, cluster, plugins, seeds, toolchain, weights
from local.cluster import images, network, registry
from local.console import Stages, console
from local.engine import Engine, Outcome, end_orphans, merged, read
from local.errors import LocalError
from local.guardian import guarded
from local.paths import STATE, state
from local.preview import PROGRAMS
from local.toolchain import packages
from local.toolchain.tools import LANGUAGE_HOST_YAML

MODEL = "smollm2-135m"
REVISION = "1"

CLUSTER_PROGRAMS = (
    "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl",
    "kwok", "containerd", "containerd-shim-runc-v2", "ctr", "coredns", "pause",
    "prometheus", "operator", "prometheus-config-reloader", "kube-state-metrics",
    "keda", "keda-adapter", "lws",
)  # fmt: skip
TEST_PROGRAMS = ("helm", "promtool", LANGUAGE_HOST_YAML)


@dataclass(frozen=True)
class Result:
    """What `up` did."""

    outcome: Outcome
    stages: Stages
    engine: Engine


def require_root() -> None:
    """Raises LocalError unless this process may make namespaces, mounts and interfaces."""
    if os.geteuid() != 0:
        raise LocalError("the local environment makes network namespaces and mounts", "run it as root: sudo make up")


@contextmanager
def exclusive() -> Generator[None]:
    """Lets one command at a time start or stop things in this checkout."""
    with state("lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalError("another make command is working on this environment", "wait until it ends") from None
        yield


def engine(stack: str = "local") -> Engine:
    """The Pulumi engine with the local plugins, against the local cloud."""
    variables = {**cloud.environment(), **plugins.install(), "LLM_SERVING_KUBECONFIG": str(cluster.kubeconfig())}
    return Engine(stack, toolchain.program("pulumi"), variables, overrides())


def overrides() -> dict[str, Any]:
    """What is laid over the stack file here: the API's address, then `overrides.yaml` of the state folder, if any."""
    url = f"{cloud.url()}/restapis/{{api}}/{{stage}}/_user_request_"  # the emulator's port may have had to move
    own = state("overrides.yaml")
    return merged({"config": {"llm-serving:apiGateway": {"url": url}}}, read(own) if own.exists() else {})


def check_settings(stack: str, over: Mapping[str, Any]) -> None:
    """Raises LocalError, with a line for each problem, where the stack can't be used; before anything is started."""
    from infra.problems import SettingsError  # noqa: PLC0415
    from infra.settings import load  # noqa: PLC0415  only `up` needs it

    config: dict[str, Any] = Engine(stack, Path(), {}, over).stack_file().get("config") or {}
    try:
        load({key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()})
    except SettingsError as error:
        raise LocalError("\n      ".join(error.problems), f"change stacks/Pulumi.{stack}.yaml") from None


def up() -> Result:
    """Brings everything up; where a stage fails, stops what was started and raises."""
    require_root()
    check_settings("local", overrides())
    plugins.require_aws()
    stages = Stages()
    running = is_running()
    with exclusive():
        prepare()
        end_orphans()
        try:
            with guarded():
                return _up(stages)
        except BaseException:
            if not running:
                console.print("[dim]stopping what was started[/dim]")
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C would leave the rest running
                stop()
            raise


def prepare() -> None:
    """Gets every program and package that the environment needs."""
    install_packages()
    toolchain.ensure(*CLUSTER_PROGRAMS, *PROGRAMS)


def prepare_tests() -> None:
    """Gets every program and package that the tests need: the environment's, and their own."""
    install_packages()
    toolchain.ensure(*CLUSTER_PROGRAMS, *PROGRAMS, *TEST_PROGRAMS)


def install_packages() -> None:
    """Gets the Debian packages that the environment needs."""
    packages.ensure_packages(*packages.NODE, *packages.IMAGES, *packages.CLOUD)


def _up(stages: Stages) -> Result:
    with stages.stage("AWS emulator, Redis, load balancer"):
        network.ensure()
        cloud.start(bridge=True)
    with stages.stage("container images"):
        registry.start()
        recipes = images.recipes_for(seeds.tagged_images(Engine("local", Path(), {}, overrides()).stack_file()))
        images.build_all(console.print, recipes=recipes)
        images.publish_all(cloud.client("ecr"), recipes=recipes)
    with stages.stage("Kubernetes control plane and nodes"):
        cluster.start()
    pulumi = engine()
    with stages.stage("pulumi up"), _pushing_weights():
        pulumi.select()
        outcome = pulumi.up()
    return Result(outcome, stages, pulumi)


@contextmanager
def _pushing_weights() -> Generator[None]:
    """Pushes the model's weights as soon as the stack has made the bucket, as a release pipeline would."""
    stop_waiting = threading.Event()
    failures: list[BaseException] = []

    def push() -> None:
        try:
            weights.push_when_bucket_exists(MODEL, REVISION, stop_waiting)
        except BaseException as error:  # noqa: BLE001  raised again below, in the thread that can report it
            failures.append(error)

    worker = threading.Thread(target=push, name="weights")
    worker.start()
    try:
        yield
    finally:
        stop_waiting.set()
        worker.join()
    if failures:
        raise failures[0]


def is_running() -> bool:
    """Whether any part of the environment runs."""
    return any((*cloud.status().values(), *cluster.status().values(), registry.is_running()))


def stop() -> None:
    """Stops every process and removes every interface, mount, route and cgroup; keeps the state."""
    cluster.stop()
    registry.stop()
    cloud.stop()
    network.remove()


def destroy() -> Outcome:
    """Deletes every resource of the stack; the environment must be running."""
    if not is_running():
        raise LocalError("the environment isn't running, so nothing can be deleted in it", "make up, or make reset")
    pulumi = engine()
    pulumi.select()
    return pulumi.destroy()


def reset() -> None:
    """Stops the environment and deletes its state."""
    stop()
    shutil.rmtree(STATE, ignore_errors=True)
