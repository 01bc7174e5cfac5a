"""The bridge that joins this host and the nodes, and the lock that lets one environment at a time use it.

The bridge, its addresses and the nodes' interfaces are names that the whole machine shares, so two checkouts can't both
run. The owner is written to a file of the machine; an owner of which no process is left has been killed, and what it
left behind is removed by the next one.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.addresses import BRIDGE, CACHE_IP, HOST_IP, ISSUER_IP, NODE_NETWORK, POD_IDENTITY_IP
from local.errors import LocalError
from local.paths import STATE
from local.processes import start_time

MACHINE = Path("/run/llm-serving")
"""What all checkouts on this machine share; gone after a reboot, as everything that it speaks of."""
PREFIX = "llm-"
"""What the names of this environment's node interfaces and cgroups begin with."""
_PREFIX_LENGTH = NODE_NETWORK.rpartition("/")[2]
_ADDRESSES = (f"{HOST_IP}/{_PREFIX_LENGTH}", f"{CACHE_IP}/32", f"{ISSUER_IP}/32", f"{POD_IDENTITY_IP}/32")


def run(*command: str) -> str:
    """Runs a program of the system and returns what it printed. Raises LocalError, with its words, where it fails."""
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise LocalError(f"the program {command[0]} is missing", "install Debian's iproute2 and util-linux") from None
    except subprocess.CalledProcessError as error:
        words = " ".join(error.stderr.split()) or f"status {error.returncode}"
        raise LocalError(f"{' '.join(command)} failed: {words}", "run as root, on a kernel with bridges") from None


@dataclass(frozen=True)
class Owner:
    """The environment that uses the bridge: its state folder, and the process that brought it up."""

    state: Path
    pid: int
    started: int | None

    @property
    def runs(self) -> bool:
        """Whether the process that brought it up, or any of its background programs, still runs."""
        if self.started is not None and start_time(self.pid) == self.started:
            return True
        return any(_runs(path) for path in (self.state / "run").glob("*.json"))


def _runs(pid_file: Path) -> bool:
    try:
        record: dict[str, Any] = json.loads(pid_file.read_text())
        return record["started"] is not None and start_time(record["pid"]) == record["started"]
    except (OSError, ValueError, KeyError):
        return False


def owner() -> Owner | None:
    """The environment that owns the bridge, running or killed; None where there is none."""
    try:
        record: dict[str, Any] = json.loads((MACHINE / "owner").read_text())
        return Owner(Path(record["state"]), record["pid"], record["started"])
    except (OSError, ValueError, KeyError):
        return None


def is_ours() -> bool:
    """Whether no other checkout's environment runs, so that what has our names on this machine is ours to remove."""
    holder = owner()
    return holder is None or holder.state == STATE or not holder.runs


@contextlib.contextmanager
def _locked() -> Generator[None]:
    MACHINE.mkdir(mode=0o755, exist_ok=True)
    with (MACHINE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def ensure() -> None:
    """Takes the bridge for this checkout and makes it, unless it has it already.

    Raises LocalError where another checkout's environment runs, or where something else uses the address range.
    """
    with _locked():
        holder = owner()
        if holder and holder.state != STATE:
            if holder.runs:
                raise LocalError(
                    f"the environment of another checkout runs on this machine (its state is in {holder.state})",
                    "stop it there with `make down`",
                )
            _remove_interfaces()
        if not (holder and holder.state == STATE and holder.runs):
            record = {"state": str(STATE), "pid": os.getpid(), "started": start_time(os.getpid())}
            (MACHINE / "owner").write_text(json.dumps(record))
        if BRIDGE not in interfaces():
            _refuse_foreign_range()
            # An address of its own: else it takes a port's, and nodes lose the host whenever a port comes or goes.
            run("ip", "link", "add", BRIDGE, "address", mac(HOST_IP), "type", "bridge")
        for address in _ADDRESSES:
            run("ip", "address", "replace", address, "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")


def _refuse_foreign_range() -> None:
    routes: list[dict[str, str]] = json.loads(run("ip", "-json", "route", "show", "root", NODE_NETWORK) or "[]")
    devices = sorted({route["dev"] for route in routes if route.get("dev")} - {BRIDGE})
    if devices:
        raise LocalError(
            f"the addresses {NODE_NETWORK} are in use by the interface {devices[0]}",
            f"remove it (Podman and Docker networks: `podman network rm`, `docker network rm`): {devices[0]}",
        )


def remove() -> None:
    """Removes the bridge, the nodes' interfaces and routes, and gives the ownership up.

    Does nothing where another checkout's environment owns them.
    """
    with _locked():
        if not is_ours():
            return
        _remove_interfaces()
        (MACHINE / "owner").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        shutil.rmtree(MACHINE)


def mac(address: str) -> str:
    """A link address made from an IPv4 address, so that whoever has it again is found where it was before."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def interfaces() -> list[str]:
    """The names of this host's network interfaces."""
    links: list[dict[str, str]] = json.loads(run("ip", "-json", "link", "show"))
    return [link["ifname"] for link in links]


def delete_interface(name: str) -> None:
    """Deletes an interface, and its peer and routes with it; one that is gone already is no fault."""
    try:
        run("ip", "link", "delete", name)
    except LocalError:
        if name in interfaces():
            raise


def _remove_interfaces() -> None:
    for name in interfaces():
        if name == BRIDGE or name.startswith(PREFIX):
            delete_interface(name)
