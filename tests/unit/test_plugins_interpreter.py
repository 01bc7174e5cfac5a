import json
import os
import sys
from pathlib import Path

import pytest

from local.plugins import interpreter
from local.plugins.interpreter import Interpreter, InterpreterError, Plugin


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class TestChoose:
    def test_virtualenv_is_relative_to_the_project(self, tmp_path: Path):
        chosen = interpreter.choose({"virtualenv": "venv"}, tmp_path, {})
        assert chosen == Interpreter(tmp_path / "venv" / "bin" / "python", tmp_path / "venv")

    def test_virtualenv_wins_over_an_uv_project_further_up(self, tmp_path: Path):
        write(tmp_path / "uv.lock")
        chosen = interpreter.choose({"virtualenv": "venv"}, tmp_path / "policies", {})
        assert chosen.virtualenv == tmp_path / "policies" / "venv"
        assert not chosen.managed_by_uv

    @pytest.mark.parametrize("options", [{"toolchain": "uv"}, {"toolchain": "auto"}, {}])
    def test_uv_project_further_up_has_the_environment(self, tmp_path: Path, options: dict[str, str]):
        write(tmp_path / "uv.lock")
        chosen = interpreter.choose(options, tmp_path / "a" / "b", {})
        assert chosen == Interpreter(tmp_path / ".venv/bin/python", tmp_path / ".venv", managed_by_uv=True)

    def test_uv_project_environment_is_honoured(self, tmp_path: Path):
        write(tmp_path / "uv.lock")
        chosen = interpreter.choose({"toolchain": "uv"}, tmp_path, {"UV_PROJECT_ENVIRONMENT": "/somewhere/env"})
        assert chosen.virtualenv == Path("/somewhere/env")

    def test_without_options_it_is_this_python(self, tmp_path: Path):
        assert interpreter.choose({}, tmp_path, {}).python == Path(sys.executable)

    def test_pip_ignores_an_uv_project(self, tmp_path: Path):
        write(tmp_path / "uv.lock")
        assert interpreter.choose({"toolchain": "pip"}, tmp_path, {}).python == Path(sys.executable)

    def test_command_from_the_environment(self, tmp_path: Path):
        chosen = interpreter.choose({}, tmp_path, {"PULUMI_PYTHON_CMD": "/usr/bin/python3"})
        assert chosen == Interpreter(Path("/usr/bin/python3"), None)

    def test_unknown_toolchain(self, tmp_path: Path):
        with pytest.raises(InterpreterError, match="toolchain is 'poetry': this language host knows auto, pip, uv"):
            interpreter.choose({"toolchain": "poetry"}, tmp_path, {})


class TestRequire:
    def test_existing(self):
        here = Interpreter(Path(sys.executable), None)
        assert interpreter.require(here) is here

    def test_missing_says_what_to_run(self, tmp_path: Path):
        folder = tmp_path / "venv"
        with pytest.raises(InterpreterError, match=r"venv does not exist: run `pulumi install` in"):
            interpreter.require(Interpreter(folder / "bin/python", folder))
        with pytest.raises(InterpreterError, match="run `uv sync`"):
            interpreter.require(Interpreter(folder / "bin/python", folder, managed_by_uv=True))


def test_environment_activates_the_virtual_environment():
    base = {"PATH": "/usr/bin", "PYTHONHOME": "/wrong", "OTHER": "kept"}
    activated = Interpreter(Path("/v/bin/python"), Path("/v")).environment(base)
    assert activated == {"PATH": f"/v/bin{os.pathsep}/usr/bin", "VIRTUAL_ENV": "/v", "OTHER": "kept"}
    assert Interpreter(Path("/usr/bin/python3"), None).environment(base) == {"PATH": "/usr/bin", "OTHER": "kept"}


class TestRequiredPlugins:
    def test_reads_each_sdk(self, tmp_path: Path):
        sdks = {
            "pulumi_aws": {"resource": True, "name": "aws", "version": "7.51.1"},
            "pulumi_random": {"resource": True, "version": "v4.1.0", "server": "https://example.invalid"},
            "pulumi_policy": {"resource": False, "name": "policy", "version": "1.0.0"},
            "pulumi_unversioned": {"resource": True},
        }
        for name, content in sdks.items():
            write(tmp_path / name / "pulumi-plugin.json", json.dumps(content))
        write(tmp_path / "pulumi_broken" / "pulumi-plugin.json", "{")
        assert interpreter.required_plugins([tmp_path]) == [
            Plugin("aws", "7.51.1"),
            Plugin("random", "4.1.0", "https://example.invalid"),
        ]

    def test_first_folder_wins(self, tmp_path: Path):
        for folder, version in (("one", "1.0.0"), ("two", "2.0.0")):
            content = json.dumps({"resource": True, "name": "aws", "version": version})
            write(tmp_path / folder / "pulumi_aws" / "pulumi-plugin.json", content)
        assert interpreter.required_plugins([tmp_path / "one", tmp_path / "two"]) == [Plugin("aws", "1.0.0")]

    def test_installed_sdks_of_this_project(self):
        found = {plugin.name: plugin.version for plugin in interpreter.required_plugins(
            Interpreter(Path(sys.executable), Path(sys.prefix)).site_packages
        )}  # fmt: skip
        assert found["aws"] == interpreter.version_of("pulumi-aws")
        assert found["eks"] == interpreter.version_of("pulumi-eks")
        assert found["kubernetes"] == interpreter.version_of("pulumi-kubernetes")


def test_dependencies(tmp_path: Path):
    def install(name: str, version: str, *requires: str) -> None:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        write(tmp_path / f"{name}-{version}.dist-info" / "METADATA", "\n".join(lines) + "\n")

    install("app", "1.0", "Served_By>=2", 'optional; extra == "more"')
    install("served-by", "2.1")
    install("optional", "3.0")
    assert interpreter.dependencies([tmp_path], transitive=True) == [
        ("app", "1.0"), ("optional", "3.0"), ("served-by", "2.1"),
    ]  # fmt: skip
    assert interpreter.dependencies([tmp_path], transitive=False) == [("app", "1.0"), ("optional", "3.0")]
