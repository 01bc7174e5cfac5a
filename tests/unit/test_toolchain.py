"""The toolchain: what is built, what is found instead, and what a user reads when something is missing."""

import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from local import toolchain
from local.errors import LocalError
from local.toolchain import build, custom_resources, packages, terraform
from local.toolchain.tools import TOOLS, Fitting, Module, module_of


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (build, custom_resources):
        monkeypatch.setattr(module, "CACHE", tmp_path)
    monkeypatch.setattr(build, "PROGRAMS", tmp_path / "tools")
    return tmp_path


def _tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> Module:
    modules = tmp_path / "modules"
    (modules / "tiny").mkdir(parents=True)
    (modules / "tiny" / "go.mod").write_text("module tiny.local/tiny\n\ngo 1.26\n")
    (modules / "tiny" / "main.go").write_text(source)
    monkeypatch.setattr("local.toolchain.tools.MODULES", modules)
    return Module("tiny", {"tiny": "."}, seconds=1, disk_gb=0.001)


GREETS = 'package main\n\nimport "os"\n\nfunc main() { os.Stdout.WriteString("hello\\n") }\n'


def test_every_module_has_its_pins() -> None:
    for module in TOOLS:
        assert (module.folder / "go.mod").is_file(), module.name
        assert (module.folder / "go.sum").is_file() or module.name == "pause", module.name


def test_slowest_first() -> None:
    seconds = [module.seconds for module in TOOLS if module.name not in {"helm", "pause"}]
    assert seconds == sorted(seconds, reverse=True)


def test_a_program_is_built_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = _tiny(cache, monkeypatch, GREETS)
    build.build_all([module])
    program = build.folder(module) / "tiny"
    assert subprocess.check_output([program]) == b"hello\n"
    built = program.stat().st_mtime_ns
    assert "building [1/1] tiny" in capsys.readouterr().out
    build.build_all([module])
    assert program.stat().st_mtime_ns == built
    assert capsys.readouterr().out == ""


def test_key_follows_source_and_flags(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _tiny(cache, monkeypatch, GREETS)
    first = build.key(module)
    assert build.key(replace(module, flags="-X main.version=2")) != first
    (module.folder / "main.go").write_text(GREETS + "\n// changed\n")
    assert build.key(module) != first


def test_a_failed_build_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _tiny(cache, monkeypatch, "package main\n\nfunc main() { nonsense }\n")
    with pytest.raises(LocalError, match=r"tiny didn't build: .*undefined: nonsense"):
        build.build_all([module])
    assert list(build.PROGRAMS.iterdir()) == []


def test_refused_module_is_named() -> None:
    words = "go: foo.test/bar@v1.2.3: reading https://proxy/foo.test/bar/@v/v1.2.3.mod: 403 Forbidden"
    assert build.explanation("kwok", words).problem == f"a Go module that kwok needs can't be had: {words}"


def test_full_disk_is_named() -> None:
    error = build.explanation("etcd", "# foo\ncompile: writing output: write $WORK/b001: no space left on device")
    assert error.problem == "the disk filled up while etcd was built"


def test_too_little_disk(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = replace(_tiny(cache, monkeypatch, GREETS), disk_gb=1e6)
    with pytest.raises(LocalError, match=r"building needs about 1000000\.0 GB, and .* has \d+\.\d GB free"):
        build.build_all([module])


def test_no_go(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _tiny(cache, monkeypatch, GREETS)
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(LocalError, match=r"Go isn't installed.*install Go 1\.26 or newer and put it on PATH"):
        build.build_all([module])


def _program(folder: Path, name: str, words: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{words}'\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("words", "fits"),
    [("etcd Version: 3.7.9", True), ("etcd Version: 3.6.1", False), ("etcd Version: 13.7.9", False)],
)
def test_a_program_on_path_is_used_where_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, fits: bool
) -> None:
    path = _program(tmp_path, "etcd", words)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    toolchain.on_path.cache_clear()
    assert toolchain.on_path("etcd") == (path if fits else None)
    toolchain.on_path.cache_clear()


def test_kubernetes_is_never_taken_from_path() -> None:
    assert module_of("kubectl").fitting is None


def test_fitting_versions() -> None:
    fitting = module_of("pulumi").fitting
    assert isinstance(fitting, Fitting)
    assert fitting.version.search("v3.274.1")
    assert not fitting.version.search("v3.199.0")


def test_packages_are_all_named_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(LocalError) as raised:
        packages.ensure_packages("no-such-package-a", "no-such-package-b")
    assert raised.value.problem == "these packages are missing: no-such-package-a, no-such-package-b"
    assert raised.value.remedy == "sudo apt-get install no-such-package-a no-such-package-b"


def test_provider_binary_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_AWS_PROVIDER", str(tmp_path / "absent"))
    with pytest.raises(LocalError, match=r"TF_AWS_PROVIDER names .* which isn't a file"):
        terraform.aws_provider_binary()
    binary = _program(tmp_path, "terraform-provider-aws", "")
    monkeypatch.setenv("TF_AWS_PROVIDER", str(binary))
    assert terraform.aws_provider_binary() == binary


@pytest.mark.parametrize("place", ["configured", "implied", "add-on"])
def test_provider_binary_in_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    mirrors = {
        "configured": tmp_path / "anywhere",
        "implied": tmp_path / "home" / ".terraform.d" / "plugins",
        "add-on": tmp_path / "software" / "tf",
    }
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
    folder = mirrors[place] / terraform.ADDRESS / terraform.VERSION / f"linux_{machine}"
    folder.mkdir(parents=True)
    (tmp_path / "home").mkdir(exist_ok=True)
    binary = _program(folder, "terraform-provider-aws_v5.100.0_x5", "")
    configuration = tmp_path / "terraformrc"
    configuration.write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirrors["configured"]}"\n  }}\n}}\n'
    )
    monkeypatch.delenv("TF_AWS_PROVIDER", raising=False)
    monkeypatch.setenv("TF_CLI_CONFIG_FILE", str(configuration))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(terraform, "ADD_ON_SOFTWARE", tmp_path / "software")
    assert terraform.aws_provider_binary() == binary
    binary.unlink()
    with pytest.raises(LocalError, match="there is no AWS provider on this machine"):
        terraform.aws_provider_binary()


def test_another_content_than_the_pinned_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = f'{{"Dir": "{cache}", "Sum": "h1:another"}}'
    _program(cache, "go", answer)
    monkeypatch.setenv("PATH", f"{cache}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(LocalError, match="is not the pinned content"):
        custom_resources.fetch(custom_resources.SOURCES[0])
    assert not (cache / "crds").exists() or list((cache / "crds").iterdir()) == []
