"""The local image registry: holds every image under the name that it has on AWS or upstream.

Debian's `docker-registry`, on the bridge only, so that the nodes pull by digest as they do from ECR. What it stores
is in the cache, outside the checkout: a fresh clone on the same machine pushes nothing again.
"""

import hashlib
import secrets

import httpx
import yaml

from local.addresses import HOST_IP
from local.errors import LocalError
from local.paths import CACHE, state
from local.ports import claim, port
from local.processes import Daemon

STORAGE = CACHE / "registry"
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_DAEMON = Daemon("registry")


def address(host: str = HOST_IP) -> str:
    """The registry's `host:port`."""
    return f"{host}:{port('registry')}"


def is_running() -> bool:
    """Whether the registry's process runs."""
    return _DAEMON.pid is not None


def start(host: str = HOST_IP) -> None:
    """Starts the registry on one address of this machine, unless it runs, and waits until it answers.

    Raises LocalError where it ends or does not answer within 20 seconds.
    """
    if not is_running():
        config = state("registry.yaml")
        config.touch(mode=0o600)
        config.write_text(yaml.safe_dump(_configuration(f"{host}:{claim('registry')}")))
        STORAGE.mkdir(parents=True, exist_ok=True)
    _DAEMON.start(
        ["docker-registry", "serve", state("registry.yaml")],
        env={"OTEL_TRACES_EXPORTER": "none"},
        ready=lambda: _answers(host),
        timeout=20,
    )


def stop() -> None:
    """Stops the registry; what it stores is kept."""
    _DAEMON.stop()


def _configuration(listen: str) -> dict[str, object]:
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(STORAGE)},
            "delete": {"enabled": True},
            "maintenance": {"uploadpurging": {"enabled": True, "age": "24h", "interval": "24h", "dryrun": False}},
        },
        # The secret signs the state of an upload; one process serves, so it needs to live no longer than that.
        "http": {"addr": listen, "secret": secrets.token_hex(16)},
    }


def _answers(host: str) -> bool:
    try:
        return httpx.get(f"http://{address(host)}/v2/", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


class Repositories:
    """The registry's HTTP API, as far as the images need it: manifests found, read, tagged and deleted.

    `host` is the address that the registry listens on.
    """

    def __init__(self, host: str = HOST_IP) -> None:
        # Never through a proxy: the registry is on this machine.
        self._http = httpx.Client(base_url=f"http://{address(host)}/v2", timeout=30, trust_env=False)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def digest(self, repository: str, reference: str) -> str | None:
        """The digest of the manifest that a tag or digest names; None where the registry has none."""
        answer = self._request("HEAD", repository, reference)
        return answer.headers["Docker-Content-Digest"] if answer.status_code == 200 else None

    def manifest(self, repository: str, reference: str) -> tuple[bytes, str]:
        """The manifest's own bytes and its media type, checked against the digest that the registry gave.

        Raises LocalError where the registry has none, or one whose bytes do not match.
        """
        answer = self._request("GET", repository, reference)
        if answer.status_code != 200:
            raise LocalError(f"the local registry has no image {repository}:{reference}", "run `make up` again")
        found = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if found != answer.headers["Docker-Content-Digest"]:
            raise LocalError(
                f"the local registry's manifest of {repository}:{reference} is damaged",
                f"delete {STORAGE} and run `make up` again",
            )
        return answer.content, answer.headers["Content-Type"]

    def tag(self, repository: str, tag: str, manifest: bytes, media_type: str) -> None:
        """Points a tag at a manifest whose layers the registry has."""
        answer = self._http.put(
            f"/{repository}/manifests/{tag}", content=manifest, headers={"Content-Type": media_type}
        )
        if answer.status_code != 201:
            raise LocalError(
                f"the local registry refused to tag {repository}:{tag}: {answer.text}", f"its log is {_DAEMON.log}"
            )

    def _request(self, method: str, repository: str, reference: str) -> httpx.Response:
        try:
            return self._http.request(
                method, f"/{repository}/manifests/{reference}", headers={"Accept": ", ".join(MANIFEST_TYPES)}
            )
        except httpx.TransportError as error:
            raise LocalError(f"the local registry does not answer: {error}", f"its log is {_DAEMON.log}") from error
