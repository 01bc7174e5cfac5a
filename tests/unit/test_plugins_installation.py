import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from local import paths, toolchain
from local.errors import LocalError
from local.plugins import install, installation
from local.plugins.interpreter import version_of

VERSIONS = {name: version_of(f"pulumi-{name}") for name in ("aws", "eks", "kubernetes")}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the programs that the toolchain builds, and nothing official."""
    monkeypatch.setattr(paths, "STATE", tmp_path / "state")
    monkeypatch.setattr(installation, "STATE", tmp_path / "state")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/usr/bin")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("pulumi", "pulumi-resource-kubernetes", "pulumi-language-python-exec"):
        (tools / name).touch(mode=0o755)

    def program(name: str) -> Path:
        return tools / name

    monkeypatch.setattr(toolchain, "program", program)
    return tmp_path


def plugins(machine: Path) -> list[str]:
    return sorted(path.name for path in (machine / "state/pulumi/home/plugins").iterdir())


def test_environment(machine: Path):
    assert install() == {
        "PULUMI_HOME": f"{machine}/state/pulumi/home",
        "PULUMI_BACKEND_URL": f"file://{machine}/state/pulumi-state",
        "PULUMI_CONFIG_PASSPHRASE_FILE": f"{machine}/state/pulumi/passphrase",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_SUPPRESS_NEO_LINK": "true",
        "PATH": f"{machine}/tools:/usr/bin",
    }
    assert (machine / "state/pulumi-state").is_dir()


def test_plugins_have_the_sdks_versions(machine: Path):
    install()
    expected = [f"resource-{name}-v{version}" for name, version in VERSIONS.items()]
    assert plugins(machine) == sorted([f"language-python-v{installation.LANGUAGE_HOST_VERSION}", *expected])
    folder = machine / "state/pulumi/home/plugins"
    script = folder / f"resource-aws-v{VERSIONS['aws']}" / "pulumi-resource-aws"
    assert script.read_text() == f'#!/bin/sh\nexec {sys.executable} -P -m local.plugins.aws "$@"\n'
    assert os.access(script, os.X_OK)
    built = folder / f"resource-kubernetes-v{VERSIONS['kubernetes']}" / "pulumi-resource-kubernetes"
    assert built.resolve() == machine / "tools/pulumi-resource-kubernetes"
    host = folder / f"language-python-v{installation.LANGUAGE_HOST_VERSION}" / "pulumi-language-python"
    assert f"export LLM_SERVING_PULUMI_PYTHON_EXEC={machine}/tools/pulumi-language-python-exec\n" in host.read_text()


def test_nothing_is_written_again(machine: Path):
    def snapshot() -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in (machine / "state").rglob("*") if not path.is_dir()}

    install()
    before = snapshot()
    install()
    assert snapshot() == before


def test_other_versions_go_and_foreign_plugins_stay(machine: Path):
    folder = machine / "state/pulumi/home/plugins"
    for name in ("resource-aws-v6.0.0", "resource-random-v4.1.0", "language-python-v9.9.9"):
        (folder / name).mkdir(parents=True)
    (folder / "resource-aws-v6.0.0.lastused").touch()  # the CLI's own
    install()
    assert "resource-aws-v6.0.0" not in plugins(machine)
    assert "language-python-v9.9.9" not in plugins(machine)
    assert {"resource-random-v4.1.0", "resource-aws-v6.0.0.lastused"} <= set(plugins(machine))


def test_official_plugin_is_used(machine: Path):
    name = f"resource-aws-v{VERSIONS['aws']}"
    official = machine / "home/.pulumi/plugins" / name
    official.mkdir(parents=True)
    for entry in ("pulumi-resource-aws", "README.md"):
        (official / entry).touch()
    install()
    install()
    for entry in ("pulumi-resource-aws", "README.md"):
        assert (machine / "state/pulumi/home/plugins" / name / entry).resolve() == official / entry


def test_official_plugin_of_another_version_is_not(machine: Path):
    official = machine / "home/.pulumi/plugins/resource-aws-v1.0.0"
    official.mkdir(parents=True)
    (official / "pulumi-resource-aws").touch()
    install()
    script = machine / f"state/pulumi/home/plugins/resource-aws-v{VERSIONS['aws']}/pulumi-resource-aws"
    assert not script.is_symlink()


def test_official_cli_brings_its_language_host(machine: Path):
    (machine / "tools/pulumi-language-python").touch()
    install()
    assert not any(name.startswith("language-python") for name in plugins(machine))


def test_passphrase_is_made_once_and_private(machine: Path):
    install()
    path = machine / "state/pulumi/passphrase"
    first = path.read_text()
    assert len(first) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    install()
    assert path.read_text() == first
    assert [each.name for each in path.parent.glob("passphrase*")] == ["passphrase"]


def test_program_that_is_not_built(monkeypatch: pytest.MonkeyPatch):
    def program(name: str) -> Path:
        raise LocalError(f"the program {name} isn't built", "make tools")

    monkeypatch.setattr(toolchain, "program", program)
    with pytest.raises(LocalError, match="isn't built: make tools"):
        install()


def test_missing_sdk(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", ["/nowhere/site-packages"])
    with pytest.raises(LocalError, match="pulumi-aws is not installed: run `uv sync`"):
        install()


def test_script_passes_arguments_and_variables_as_they_are(tmp_path: Path):
    path = tmp_path / "script"
    path.write_text(installation.script("platform", {"NAME": "a 'quoted' $value"}))
    done = subprocess.run(["sh", path, "--terse"], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("Linux")
