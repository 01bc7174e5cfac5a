"""Pulumi's language host for Python, on the SDK's own gRPC messages.

A Pulumi CLI built from Go modules brings no language host, and none is published to a package registry. The CLI
starts this program, reads the port from its first line, and calls it to run programs, policy packs and component
providers. What each call means is written in Pulumi's `language.proto`. The host ends with the CLI.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from pulumi.runtime.proto import language_pb2 as proto
from pulumi.runtime.proto import plugin_pb2

from local.plugins import interpreter as pythons
from local.plugins.children import Children
from local.plugins.executor import BAIL
from local.plugins.interpreter import Interpreter, InterpreterError
from local.plugins.lifetime import begin

EXECUTOR_VARIABLE = "LLM_SERVING_PULUMI_PYTHON_EXEC"
"""Names the program that runs a Pulumi program in Python: `pulumi-language-python-exec` of Pulumi's Go SDK."""

EXECUTOR = Path(__file__).with_name("executor.py")

SERVICE = "pulumirpc.LanguageRuntime"

WORKERS = 64
"""Calls served at once. Each policy pack or component provider holds one as long as it runs."""

MAX_MESSAGE_BYTES = 400 << 20
"""The largest gRPC message, as in the SDK."""


class CallError(Exception):
    """A call that fails for a reason that the user can mend; the engine shows the message."""


def program_command(request: proto.RunRequest, python: Path, executor: str, engine: str) -> list[str]:
    """The command line that runs the program of a Run request."""
    return [
        *(str(python), "-u", str(EXECUTOR), executor),
        *("--project", request.project, "--stack", request.stack, "--parallel", str(request.parallel)),
        *("--dry_run", "true" if request.dryRun else "false", "--pwd", request.pwd),
        *("--monitor", request.monitor_address, "--engine", engine),
        *("--organization", request.organization, "--root_directory", request.info.root_directory),
        str(Path(request.info.program_directory) / request.info.entry_point),
        *request.args,
    ]


def program_environment(request: proto.RunRequest, base: Mapping[str, str]) -> dict[str, str]:
    """`base` with the stack's configuration, which the SDK reads from the environment."""
    environment = dict(base)
    if request.config:
        environment["PULUMI_CONFIG"] = json.dumps(dict(request.config))
    if request.configSecretKeys:
        environment["PULUMI_CONFIG_SECRET_KEYS"] = json.dumps(list(request.configSecretKeys))
    return environment


def plugin_command(request: proto.RunPluginRequest, python: Path) -> list[str]:
    """The command line that runs the policy pack or component provider of a RunPlugin request."""
    program = str(Path(request.info.program_directory) / request.info.entry_point)
    if request.kind == "analyzer":
        return [str(python), "-u", "-m", "pulumi.policy", *request.args, program]
    return [str(python), "-u", program, *request.args]


def run_response(code: int, *, ended: bool) -> proto.RunResponse:
    """What the engine is told about a program that ended with this exit status, or was ended by the host."""
    if code == 0:
        return proto.RunResponse()
    if code == BAIL or ended:
        return proto.RunResponse(bail=True)
    if code < 0:
        return proto.RunResponse(error=f"Program was ended by {signal.Signals(-code).name}")
    return proto.RunResponse(error=f"Program exited with non-zero exit code: {code}")


def install_steps(python: Interpreter, folder: Path, uv: str | None) -> list[str | list[str]]:
    """What installs a program's dependencies: commands to run, and plain lines to show. `uv` is used where given."""
    if python.managed_by_uv or python.virtualenv is None:
        return ["Dependencies are installed by `uv sync`: nothing to do."]
    steps: list[str | list[str]] = []
    virtualenv = str(python.virtualenv)
    if not python.python.exists():
        create = [uv, "venv", "--quiet"] if uv else [sys.executable, "-m", "venv"]
        steps += [f"Creating virtual environment {virtualenv}", [*create, virtualenv]]
    requirements = folder / "requirements.txt"
    if requirements.is_file():
        interpreter = str(python.python)
        pip = [uv, "pip", "install", "--python", interpreter] if uv else [interpreter, "-m", "pip", "install"]
        steps += [f"Installing {requirements.name}", [*pip, "-r", str(requirements)]]
    return steps


class Host:
    """Answers the CLI's calls."""

    def __init__(self, engine: str, executor: str) -> None:
        self._engine = engine
        self._executor = executor
        self.children = Children()

    def handler(self) -> grpc.GenericRpcHandler:
        """The gRPC service. A call that it doesn't name is answered as unimplemented."""
        methods = {
            "Handshake": _unary(self._handshake, proto.LanguageHandshakeRequest),
            "GetPluginInfo": _unary(self._plugin_info, Empty),
            "GetRequiredPackages": _unary(self._required_packages, proto.GetRequiredPackagesRequest),
            "GetRequiredPlugins": _unary(self._required_plugins, proto.GetRequiredPluginsRequest),
            "About": _unary(self._about, proto.AboutRequest),
            "GetProgramDependencies": _unary(self._dependencies, proto.GetProgramDependenciesRequest),
            "RuntimeOptionsPrompts": _unary(self._prompts, proto.RuntimeOptionsRequest),
            "InstallDependencies": _stream(self._install, proto.InstallDependenciesRequest),
            "RunPlugin": _stream(self._run_plugin, proto.RunPluginRequest),
            "Run": _unary(self._run, proto.RunRequest),
            "GenerateProgram": _unary(self._generate, proto.GenerateProgramRequest),
            "Cancel": _unary(self._cancel, Empty),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def _handshake(self, request: proto.LanguageHandshakeRequest) -> Message:
        self._engine = request.engine_address
        return proto.LanguageHandshakeResponse()

    def _plugin_info(self, _request: Empty) -> Message:
        return plugin_pb2.PluginInfo(version=pythons.version_of("pulumi"))

    def _required_packages(self, request: proto.GetRequiredPackagesRequest) -> Message:
        packages = [
            plugin_pb2.PackageDependency(name=each.name, kind="resource", version=each.version, server=each.server)
            for each in pythons.required_plugins(_python(request.info).site_packages)
        ]
        return proto.GetRequiredPackagesResponse(packages=packages)

    def _required_plugins(self, request: proto.GetRequiredPluginsRequest) -> Message:
        plugins = [
            plugin_pb2.PluginDependency(name=each.name, kind="resource", version=each.version, server=each.server)
            for each in pythons.required_plugins(_python(request.info).site_packages)
        ]
        return proto.GetRequiredPluginsResponse(plugins=plugins)

    def _about(self, request: proto.AboutRequest) -> Message:
        python = str(_python(request.info).python)
        asked = subprocess.run(
            [python, "-c", "import platform; print(platform.python_version())"],
            capture_output=True,
            text=True,
            check=False,
        )
        return proto.AboutResponse(executable=python, version=asked.stdout.strip())

    def _dependencies(self, request: proto.GetProgramDependenciesRequest) -> Message:
        folders = _python(request.info).site_packages
        found = pythons.dependencies(folders, transitive=request.transitiveDependencies)
        listed = [proto.DependencyInfo(name=name, version=version) for name, version in found]
        return proto.GetProgramDependenciesResponse(dependencies=listed)

    def _prompts(self, _request: proto.RuntimeOptionsRequest) -> Message:
        return proto.RuntimeOptionsResponse()

    def _install(
        self, request: proto.InstallDependenciesRequest, _on_close: Callable[[Callable[[], None]], Any]
    ) -> Iterator[Message]:
        folder = Path(request.info.program_directory or request.directory)
        uv = os.environ.get("UV") or shutil.which("uv")  # `uv run`, which the Makefile uses, sets the first
        for step in install_steps(_choose(request.info), folder, uv):
            if isinstance(step, str):
                yield proto.InstallDependenciesResponse(stdout=f"{step}\n".encode())
                continue
            done = subprocess.run(step, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            yield proto.InstallDependenciesResponse(stdout=done.stdout, stderr=done.stderr)
            if done.returncode:
                raise CallError(f"`{' '.join(step)}` exited with status {done.returncode}")

    def _run_plugin(
        self, request: proto.RunPluginRequest, on_close: Callable[[Callable[[], None]], Any]
    ) -> Iterator[Message]:
        python = _python(request.info)
        environment = python.environment(dict(entry.split("=", 1) for entry in request.env))
        command = plugin_command(request, python.python)
        with self.children.started(command, cwd=request.pwd, env=environment, piped=True) as child:
            on_close(child.end)  # the engine closes a plugin by cancelling this call
            for stdout, stderr in child.output():
                yield proto.RunPluginResponse(stdout=stdout) if stdout else proto.RunPluginResponse(stderr=stderr)
            yield proto.RunPluginResponse(exitcode=child.wait())

    def _run(self, request: proto.RunRequest) -> Message:
        python = _python(request.info)
        environment = program_environment(request, python.environment(os.environ))
        if complaint := _type_check(_options(request.info), python, request.info.program_directory):
            return proto.RunResponse(error=complaint)
        command = program_command(request, python.python, self._executor, self._engine)
        with self.children.started(command, env=environment, piped=False) as child:
            code = child.wait()
            return run_response(code, ended=child.ended)

    def _cancel(self, _request: Empty) -> Message:
        self.children.end_all()
        return Empty()

    def _generate(self, request: proto.GenerateProgramRequest) -> Message:
        # `pulumi import` prints this. Python for every provider's schema is what the official host can write.
        lines = ["# In Pulumi's own configuration language. Pulumi's official language host writes it as Python."]
        for source in request.source.values():
            lines += ["", *(f"# {line}".rstrip() for line in source.splitlines())]
        return proto.GenerateProgramResponse(source={"__main__.py": ("\n".join(lines) + "\n").encode()})


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _unary(answer: Callable[[Any], Message], request: type[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
    def call(message: Any, context: grpc.ServicerContext) -> Message:
        try:
            return answer(message)
        except (InterpreterError, CallError) as error:
            return context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return grpc.unary_unary_rpc_method_handler(call, request.FromString, _serialize)


def _stream(answer: Callable[..., Iterator[Message]], request: type[Message]) -> "grpc.RpcMethodHandler[Any, Any]":
    def call(message: Any, context: grpc.ServicerContext) -> Iterator[Message]:
        try:
            yield from answer(message, context.add_callback)
        except (InterpreterError, CallError) as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))

    return grpc.unary_stream_rpc_method_handler(call, request.FromString, _serialize)


def _options(info: proto.ProgramInfo) -> dict[str, Any]:
    return MessageToDict(info.options)


def _choose(info: proto.ProgramInfo) -> Interpreter:
    return pythons.choose(_options(info), Path(info.root_directory), os.environ)


def _python(info: proto.ProgramInfo) -> Interpreter:
    return pythons.require(_choose(info))


def _type_check(options: Mapping[str, Any], python: Interpreter, program: str) -> str:
    """Runs the type checker that `runtime.options.typechecker` names. Returns what it has against the program."""
    checker = str(options.get("typechecker") or "")
    if not checker:
        return ""
    command = [str(python.python), "-m", checker, program]
    environment = python.environment(os.environ)
    done = subprocess.run(command, env=environment, cwd=program, capture_output=True, text=True, check=False)
    return f"Type checking failed:\n{done.stdout}{done.stderr}" if done.returncode else ""


def main() -> None:
    """Serves until the CLI ends or says so with SIGINT or SIGTERM."""
    engine, stop = begin("Pulumi language host for Python")

    host = Host(engine, os.environ[EXECUTOR_VARIABLE])
    options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
    server = grpc.server(futures.ThreadPoolExecutor(WORKERS), options=options)
    server.add_generic_rpc_handlers((host.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    stop.wait()
    host.children.end_all()
    server.stop(grace=0.5).wait()


if __name__ == "__main__":
    main()
