import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.struct_pb2 import Struct
from pulumi.runtime.proto import language_pb2 as proto
from pulumi.runtime.proto.language_pb2_grpc import LanguageRuntimeStub

from local.plugins import language_host
from local.plugins.interpreter import Interpreter, version_of
from local.plugins.language_host import Host, install_steps, plugin_command, program_command, run_response
from local.processes import start_time

PYTHON = Path("/venv/bin/python")

Stub = Any
"""A `LanguageRuntimeStub`, whose generated types know nothing of the messages."""


def info(root: Path, **options: str) -> proto.ProgramInfo:
    given = Struct()
    given.update(options)
    return proto.ProgramInfo(root_directory=str(root), program_directory=str(root), entry_point="infra", options=given)


def run_request(root: Path, **fields: Any) -> proto.RunRequest:
    return proto.RunRequest(
        project="llm-serving", stack="local", pwd=str(root), organization="organization", parallel=16,
        monitor_address="127.0.0.1:1", info=info(root), **fields,
    )  # fmt: skip


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Stub]:
    """A client of a host whose executor prints the arguments and configuration that it got into a file."""
    executor = tmp_path / "executor.py"
    executor.write_text(
        "import json, os, sys, pathlib\n"
        "given = {'argv': sys.argv[1:], 'config': os.environ.get('PULUMI_CONFIG'), 'path': sys.path[:2],\n"
        "         'secret': os.environ.get('PULUMI_CONFIG_SECRET_KEYS')}\n"
        "pathlib.Path(__file__).with_name('given.json').write_text(json.dumps(given))\n"
        "sys.exit(int(sys.argv[-1]))\n"
    )
    host = Host("", str(executor))
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((host.handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield LanguageRuntimeStub(channel)
    host.children.end_all()
    server.stop(grace=None).wait()


def test_program_command(tmp_path: Path):
    command = program_command(run_request(tmp_path, dryRun=True, args=["more"]), PYTHON, "/exec", "127.0.0.1:2")
    assert command == [
        "/venv/bin/python", "-u", str(language_host.EXECUTOR), "/exec",
        "--project", "llm-serving", "--stack", "local", "--parallel", "16", "--dry_run", "true",
        "--pwd", str(tmp_path), "--monitor", "127.0.0.1:1", "--engine", "127.0.0.1:2",
        "--organization", "organization", "--root_directory", str(tmp_path), f"{tmp_path}/infra", "more",
    ]  # fmt: skip


def test_policy_pack_and_component_provider_commands(tmp_path: Path):
    request = proto.RunPluginRequest(kind="analyzer", args=["127.0.0.1:2"], info=info(tmp_path))
    assert plugin_command(request, PYTHON) == [
        "/venv/bin/python", "-u", "-m", "pulumi.policy", "127.0.0.1:2", f"{tmp_path}/infra",
    ]  # fmt: skip
    request.kind = "resource"
    assert plugin_command(request, PYTHON) == ["/venv/bin/python", "-u", f"{tmp_path}/infra", "127.0.0.1:2"]


@pytest.mark.parametrize(
    ("code", "ended", "response"),
    [
        (0, False, proto.RunResponse()),
        (32, False, proto.RunResponse(bail=True)),
        (-15, True, proto.RunResponse(bail=True)),
        (-9, False, proto.RunResponse(error="Program was ended by SIGKILL")),
        (3, False, proto.RunResponse(error="Program exited with non-zero exit code: 3")),
    ],
)
def test_run_response(code: int, ended: bool, response: proto.RunResponse):
    assert run_response(code, ended=ended) == response


class TestInstallSteps:
    def test_uv_project_needs_nothing(self, tmp_path: Path):
        steps = install_steps(Interpreter(PYTHON, Path("/venv"), managed_by_uv=True), tmp_path, "/bin/uv")
        assert steps == ["Dependencies are installed by `uv sync`: nothing to do."]

    def test_new_virtual_environment_with_uv(self, tmp_path: Path):
        (tmp_path / "requirements.txt").touch()
        requirements = str(tmp_path / "requirements.txt")
        assert install_steps(Interpreter(PYTHON, Path("/venv")), tmp_path, "/bin/uv") == [
            "Creating virtual environment /venv",
            ["/bin/uv", "venv", "--quiet", "/venv"],
            "Installing requirements.txt",
            ["/bin/uv", "pip", "install", "--python", "/venv/bin/python", "-r", requirements],
        ]

    def test_without_uv(self, tmp_path: Path):
        (tmp_path / "requirements.txt").touch()
        steps = install_steps(Interpreter(Path(sys.executable), tmp_path), tmp_path, None)
        assert steps[1:] == [[sys.executable, "-m", "pip", "install", "-r", str(tmp_path / "requirements.txt")]]


class TestCalls:
    def test_plugin_info(self, stub: Stub):
        assert stub.GetPluginInfo(Empty()).version == version_of("pulumi")

    def test_required_packages_are_exact(self, stub: Stub, tmp_path: Path):
        packages = stub.GetRequiredPackages(proto.GetRequiredPackagesRequest(info=info(tmp_path))).packages
        versions = {package.name: (package.kind, package.version) for package in packages}
        assert versions["aws"] == ("resource", version_of("pulumi-aws"))
        plugins = stub.GetRequiredPlugins(proto.GetRequiredPluginsRequest(info=info(tmp_path))).plugins
        assert {plugin.name: (plugin.kind, plugin.version) for plugin in plugins} == versions

    def test_about(self, stub: Stub, tmp_path: Path):
        about = stub.About(proto.AboutRequest(info=info(tmp_path)))
        assert about.executable == sys.executable
        assert about.version == ".".join(map(str, sys.version_info[:3]))

    def test_run_gives_the_program_its_configuration(self, stub: Stub, tmp_path: Path):
        stub.Handshake(proto.LanguageHandshakeRequest(engine_address="127.0.0.1:77"))
        config = {"llm-serving:size": "small", "llm-serving:key": "k"}
        request = run_request(tmp_path, config=config, configSecretKeys=["llm-serving:key"], args=["0"])
        assert stub.Run(request) == proto.RunResponse()
        given = json.loads((tmp_path / "given.json").read_text())
        assert json.loads(given["config"]) == config
        assert json.loads(given["secret"]) == ["llm-serving:key"]
        assert given["argv"][given["argv"].index("--engine") + 1] == "127.0.0.1:77"
        assert str(language_host.EXECUTOR.parent) not in given["path"]

    def test_run_reports_an_exit_status(self, stub: Stub, tmp_path: Path):
        response = stub.Run(run_request(tmp_path, args=["7"]))
        assert response.error == "Program exited with non-zero exit code: 7"
        assert stub.Run(run_request(tmp_path, args=["32"])).bail

    def test_missing_virtual_environment_is_one_clear_line(self, stub: Stub, tmp_path: Path):
        request = proto.GetRequiredPackagesRequest(info=info(tmp_path, virtualenv="none"))
        with pytest.raises(grpc.RpcError) as failed:
            stub.GetRequiredPackages(request)
        assert str(failed.value.details()).startswith(f"the virtual environment {tmp_path}/none does not exist")

    def test_unknown_call_is_unimplemented(self, stub: Stub):
        with pytest.raises(grpc.RpcError) as failed:
            stub.Pack(proto.PackRequest())
        assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED

    def test_generate_program_shows_the_resources(self, stub: Stub):
        source = {"main.pp": 'resource "b" "aws:s3/bucket:Bucket" {\n}\n'}
        text = stub.GenerateProgram(proto.GenerateProgramRequest(source=source)).source["__main__.py"].decode()
        assert text.splitlines()[1:] == ["", '# resource "b" "aws:s3/bucket:Bucket" {', "# }"]

    def test_install_dependencies(self, stub: Stub, tmp_path: Path):
        (tmp_path / "uv.lock").touch()
        answers = stub.InstallDependencies(proto.InstallDependenciesRequest(info=info(tmp_path, toolchain="uv")))
        assert b"".join(answer.stdout for answer in answers).startswith(b"Dependencies are installed by `uv sync`")

    def test_failed_installation_names_the_command(self, stub: Stub, tmp_path: Path, monkeypatch: Any):
        def steps(*_: Any) -> list[str | list[str]]:
            return ["first", [sys.executable, "-c", "import sys; print('trying'); sys.exit(4)"]]

        monkeypatch.setattr(language_host, "install_steps", steps)
        answers = stub.InstallDependencies(proto.InstallDependenciesRequest(info=info(tmp_path)))
        shown: list[bytes] = []
        with pytest.raises(grpc.RpcError) as failed:
            shown += [answer.stdout for answer in answers]
        assert str(failed.value.details()).endswith("exited with status 4")


class TestRunPlugin:
    def request(self, folder: Path, program: str) -> proto.RunPluginRequest:
        (folder / "infra").mkdir(exist_ok=True)
        (folder / "infra" / "__main__.py").write_text(program)
        environment = [f"{name}={value}" for name, value in os.environ.items()]
        return proto.RunPluginRequest(kind="resource", args=["a"], env=environment, info=info(folder))

    def test_output_and_status_are_forwarded(self, stub: Stub, tmp_path: Path):
        program = "import sys; print('port', sys.argv[1:]); print('oops', file=sys.stderr); sys.exit(5)"
        answers = list(stub.RunPlugin(self.request(tmp_path, program)))
        assert b"".join(answer.stdout for answer in answers) == b"port ['a']\n"
        assert b"".join(answer.stderr for answer in answers) == b"oops\n"
        assert answers[-1].exitcode == 5

    def test_cancelling_the_call_ends_the_program(self, stub: Stub, tmp_path: Path):
        program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        call = stub.RunPlugin(self.request(tmp_path, program))
        pid = int(next(call).stdout)
        call.cancel()
        assert ended(pid)

    def test_cancel_ends_a_running_program_quietly(self, stub: Stub, tmp_path: Path):
        (tmp_path / "executor.py").write_text("import pathlib, time\npathlib.Path(__file__).unlink()\ntime.sleep(60)")
        responses: list[proto.RunResponse] = []
        thread = threading.Thread(target=lambda: responses.append(stub.Run(run_request(tmp_path))))
        thread.start()
        assert eventually(lambda: not (tmp_path / "executor.py").exists())
        stub.Cancel(Empty())
        thread.join(timeout=10)
        assert responses == [proto.RunResponse(bail=True)]


def ended(pid: int) -> bool:
    return eventually(lambda: start_time(pid) is None)


def eventually(condition: Any, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False
