"""The bridge and the Terraform provider as programs: started on the first call, ended with this one.

The bridge starts the Terraform provider itself, and leaves it behind when it is killed. So both are started through
`setpriv --pdeathsig`: the kernel ends them with the process that started them, however that ends.
"""

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from pulumi.runtime.proto import provider_pb2 as proto
from pulumi.runtime.proto import provider_pb2_grpc as services

from local.errors import LocalError
from local.paths import CACHE
from local.plugins.aws.terraform import Terraform, write_database

MESSAGE_OPTIONS = [("grpc.max_receive_message_length", 1 << 30), ("grpc.max_send_message_length", 1 << 30)]
"""The bridge describes all its resources in one message of 10 MB; gRPC's own limit is 4 MB."""

_VARIABLES = {"PULUMI_TF_BRIDGE_ACCURATE_PF_BRIDGE_PREVIEW": "true"}
"""Makes the bridge say which parts of a property differ, and tell in a preview what it knows before the resource is."""

PROVIDER = "terraform-provider-aws"
"""The bridge takes the package's name, `aws`, from the file's."""


class Bridge:
    """One bridge with its Terraform provider."""

    def __init__(self, engine: str, warm: Callable[[], int] | None = None) -> None:
        """`engine` is the address that it sends its messages to; `warm` gives the port of one that runs, or 0."""
        self._engine = engine
        self._warm = warm
        self.port = 0
        self._lock = threading.RLock()
        self._stub: services.ResourceProviderStub | None = None
        self._terraform: Terraform | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = False

    def prepare(self) -> None:
        """Starts the bridge unless it runs. Raises LocalError where it won't start."""
        with self._lock:
            if self._stub is None:
                self._stub = self._start()

    def call(self, method: str, request: Message) -> Any:
        """Calls the bridge, started if it isn't. Raises grpc.RpcError, and LocalError where it won't start."""
        self.prepare()
        return getattr(self._stub, method)(request)

    @property
    def terraform(self) -> Terraform:
        """What the bridge knows of the provider, from the cache or asked once for each version."""
        with self._lock:
            if self._terraform is None:
                database = self._cache / "types.sqlite"
                if not database.exists():
                    answer = self.call("GetMapping", proto.GetMappingRequest(key="terraform", provider="aws"))
                    write_database(database, answer.data)
                self._terraform = Terraform(database)
            return self._terraform

    def end(self) -> None:
        """Ends both programs."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @cached_property
    def _programs(self) -> tuple[Path, Path]:
        # Imported here: it takes longer than all else before the engine gets its port.
        from local import toolchain  # noqa: PLC0415

        return toolchain.program("aws-bridge"), toolchain.aws_provider_binary()

    @cached_property
    def _cache(self) -> Path:
        """The folder for what is known of these very programs."""
        identity = "".join(f"{path}{path.stat().st_size}{path.stat().st_mtime_ns}" for path in self._programs)
        return CACHE / "aws-bridge" / hashlib.sha256(identity.encode()).hexdigest()[:16]

    def _start(self) -> services.ResourceProviderStub:
        self.port = self._warm() if self._warm else 0
        if self.port:
            return self._stub_at(self.port)
        bridge, binary = self._programs
        link = self._cache / "provider" / PROVIDER
        _write_script(link, [*_ended_with_parent(), str(binary)])
        self.port = self._run([*_ended_with_parent(), str(bridge), self._engine])
        stub = self._stub_at(self.port)
        parameters = proto.ParameterizeRequest.ParametersArgs(args=[str(link)])
        parameterize: Callable[[Message], Message] = stub.Parameterize  # type: ignore[reportUnknownMemberType]
        try:
            parameterize(proto.ParameterizeRequest(args=parameters))
        except grpc.RpcError as error:
            self.port = 0
            self.end()
            reason = error.details() if isinstance(error, grpc.Call) else str(error)
            raise LocalError(f"the Terraform AWS provider {binary} does not start", str(reason)) from error
        return stub

    @staticmethod
    def _stub_at(port: int) -> services.ResourceProviderStub:
        return services.ResourceProviderStub(grpc.insecure_channel(f"127.0.0.1:{port}", options=MESSAGE_OPTIONS))

    def _run(self, command: Sequence[str]) -> int:
        """Starts the bridge. Returns its port."""
        started = threading.Event()

        def own() -> None:
            # The kernel takes the thread that starts a process for its parent, so the thread stays.
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **_VARIABLES},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                process_group=0,
            )
            started.set()
            self._process.wait()

        threading.Thread(target=own, name="bridge", daemon=True).start()
        started.wait()
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.strip().isdigit() or self._ended:
            raise LocalError("the AWS bridge does not start", "run `make tools` again, and see what it said above")
        return int(line)


def _ended_with_parent() -> list[str]:
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL"] if found else []


def _write_script(path: Path, command: Sequence[str]) -> None:
    """Writes a program that runs `command` with its own arguments; whole or not at all."""
    text = f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n'
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent.parent / f"{path.name}.{os.getpid()}"
    draft.write_text(text)
    draft.chmod(0o755)
    draft.replace(path)
