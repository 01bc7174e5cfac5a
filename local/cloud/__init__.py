"""The local cloud: an emulated AWS, a Redis behind its ElastiCache address, and its load balancers' data plane.

It listens on 127.0.0.1 and, when asked, on the bridge to the nodes; nowhere else.
"""

import http.client
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from local import ports
from local.addresses import CACHE_IP, CACHE_PORT, HOST_IP, ISSUER_HOST, ISSUER_IP, ISSUER_PORT, REGION
from local.cloud import authority, cache
from local.cloud.load_balancing import PATH as BALANCERS
from local.errors import LocalError
from local.paths import ROOT, STATE, state
from local.processes import Daemon

EMULATOR = Daemon("cloud")
BALANCER = Daemon("balancer")
LOOPBACK = "127.0.0.1"
ACCESS_KEY = "test"
"""Both halves of the root credentials; the emulator is open to this machine only."""


def start(bridge: bool) -> None:
    """Starts the emulator, Redis and the balancer, or what of them doesn't run.

    With `bridge` they also listen on the bridge to the nodes, which must exist; without it nothing here needs root,
    and Redis is left out where it isn't installed. Raises LocalError where one of them can't start.
    """
    addresses = [LOOPBACK, HOST_IP] if bridge else [LOOPBACK]
    if bridge and EMULATOR.pid is not None and not _on_bridge(EMULATOR.pid):
        stop()
    cache_at = (CACHE_IP, CACHE_PORT) if bridge else (LOOPBACK, _port(cache.DAEMON, "cache"))
    if bridge or cache.is_installed():
        cache.start(*cache_at)
    issuer_at = (ISSUER_IP, ISSUER_PORT) if bridge else (LOOPBACK, _port(EMULATOR, "issuer"))
    certificate, key = authority.issue("issuer", [ISSUER_HOST])
    port = _port(EMULATOR, "cloud")
    EMULATOR.start(
        [
            sys.executable, "-m", "local.cloud.server", "--port", str(port), "--state", str(_folder()),
            "--cache", f"{cache_at[0]}:{cache_at[1]}",
            "--issuer", f"{issuer_at[0]}:{issuer_at[1]}", "--certificate", str(certificate), "--key", str(key),
            *(word for address in addresses for word in ("--address", address)),
        ],
        env={"PYTHONPATH": str(ROOT), "LLM_SERVING_KUBECONFIG": str(kubeconfig())},
        ready=lambda: _answers(port),
    )  # fmt: skip
    BALANCER.start(
        [sys.executable, "-m", "local.cloud.balancer", "--emulator", f"{LOOPBACK}:{port}"],
        env={"PYTHONPATH": str(ROOT)},
        ready=lambda: _balances(port),
    )


def _port(daemon: Daemon, service: str) -> int:
    """The port that a running daemon has, or that one about to start shall have."""
    return ports.port(service) if daemon.pid is not None else ports.claim(service)


def _on_bridge(pid: int) -> bool:
    return HOST_IP.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _folder() -> Path:
    folder = state("cloud", "services").parent
    folder.chmod(0o700)  # secrets of the emulated account are in it
    return folder


def kubeconfig() -> Path:
    """Where DescribeCluster looks for the local control plane's address; the file may come later."""
    return Path(os.environ.get("LLM_SERVING_KUBECONFIG") or STATE / "cluster" / "kubeconfig")


def _get(port: int, path: str) -> bytes:
    """What the emulator answers; nothing where it doesn't."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return b""
    finally:
        connection.close()


def _answers(port: int) -> bool:
    return bool(_get(port, "/_ministack/health"))


def _balances(port: int) -> bool:
    return _get(port, BALANCERS) == b'{"balancing": true}'


def stop() -> None:
    """Stops everything; the state stays."""
    for daemon in (BALANCER, EMULATOR, cache.DAEMON):
        daemon.stop()


def status() -> dict[str, bool]:
    """Which part works, by name."""
    return {
        "AWS emulator": EMULATOR.pid is not None and _answers(ports.port("cloud")),
        "load balancer": _balances(ports.port("cloud")),
        "Redis": cache.DAEMON.pid is not None,
    }


def reset() -> None:
    """Stops everything and deletes the state: every resource of the emulated account."""
    stop()
    shutil.rmtree(STATE / "cloud", ignore_errors=True)


def url() -> str:
    """The emulator's address for programs of this machine."""
    return f"http://{LOOPBACK}:{ports.port('cloud')}"


def environment() -> dict[str, str]:
    """Environment variables that lead AWS SDKs and the AWS provider to the emulator, whatever the caller's own say.

    Variables that must not be inherited are set to what stands for nothing.
    """
    profile = state("cloud", "aws-profile")
    profile.parent.chmod(0o700)
    profile.write_text(
        f"[default]\nregion = {REGION}\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {ACCESS_KEY}\n"
    )
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY"), LOOPBACK, "localhost", HOST_IP)))
    return {
        "AWS_ENDPOINT_URL": url(),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": ACCESS_KEY,
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_PROFILE": "default",
        "AWS_CONFIG_FILE": str(profile),
        "AWS_SHARED_CREDENTIALS_FILE": str(profile),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_USE_FIPS_ENDPOINT": "false",
        "AWS_USE_DUALSTACK_ENDPOINT": "false",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }


def client(service: str) -> Any:
    """A boto3 client for the emulator, as root of the emulated account.

    Raises LocalError where the emulator doesn't run.
    """
    import boto3  # noqa: PLC0415  the emulator's own process, which imports this package, has no use for it
    from botocore.config import Config  # noqa: PLC0415

    if EMULATOR.pid is None:
        raise LocalError("the AWS emulator isn't running", f"make up; its log is {EMULATOR.log}")
    session: Any = boto3.Session()
    return session.client(
        service,
        endpoint_url=url(),
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=ACCESS_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 3}, proxies={}),
    )
