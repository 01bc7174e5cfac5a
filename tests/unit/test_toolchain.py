"""The toolchain: what is built, what is found instead, and what a user reads when something is missing."""

import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from local import environment, toolchain
from local.errors import LocalError
from local.processes import start_time
from local.toolchain import build, custom_resources, packages, terraform
from local.toolchain.tools import EXECUTOR, S3_SERVER, TOOLS, Fitting, Module, module_of


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
    for module in (*TOOLS, S3_SERVER):
        assert (module.folder / "go.mod").is_file(), module.name
        assert (module.folder / "go.sum").is_file() or module.name == "pause", module.name


def test_every_program_is_got_for_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[str] = []

    def ensure(*names: str) -> None:
        wanted.extend(names)

    monkeypatch.setattr(environment, "install_packages", lambda: None)
    monkeypatch.setattr(toolchain, "ensure", ensure)

    environment.prepare_tests()

    assert {module_of(name).name for name in wanted if name != EXECUTOR} == {module.name for module in TOOLS}


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


def test_what_a_killed_run_left_is_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _tiny(cache, monkeypatch, GREETS)
    others = build.PROGRAMS / ".tiny-other.abc"
    for folder in (build.PROGRAMS / ".tiny.abc" / "programs", others):
        folder.mkdir(parents=True)
    build.build_all([module])
    assert sorted(build.PROGRAMS.iterdir()) == sorted([others, build.folder(module)])


def test_a_build_ends_with_the_run_that_began_it(tmp_path: Path) -> None:
    begun = tmp_path / "pid"
    _program(tmp_path, "go", "").write_text(
        f"#!/bin/sh\ncase $1 in\n"
        f"  env) [ $2 = GOCACHE ] && echo {tmp_path} || echo go1.26.0;;\n"
        f"  *) echo $$ > {begun}.new; mv {begun}.new {begun}; exec sleep 60;;\nesac\n"
    )
    environment = {
        **os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path)
    }  # fmt: skip
    command = [sys.executable, "-c", "from local import toolchain; toolchain.ensure('pause')"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as run:
        assert _within(10, begun.exists)
        run.kill()
    assert _within(10, lambda: start_time(int(begun.read_text())) is None)


def test_a_second_run_waits_and_finds_what_the_first_built(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = _tiny(cache, monkeypatch, GREETS)
    with ThreadPoolExecutor() as second, build.locked("tiny"):
        waiting = second.submit(build.build_all, [module])
        said: list[str] = []
        assert _within(10, lambda: "waiting for another run that gets tiny" in _heard(capsys, said))
        build.folder(module).mkdir(parents=True)
    waiting.result()
    assert list(build.folder(module).iterdir()) == []


def _heard(capsys: pytest.CaptureFixture[str], said: list[str]) -> str:
    said.append(capsys.readouterr().out)
    return "".join(said)


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_time_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = build.Progress("[2/3] etcd", seconds=40, after=300, begun=100)
    monkeypatch.setattr(time, "monotonic", lambda: 110)
    assert progress.__rich__() == "building [2/3] etcd: about 30 s, 6 min for all that is left"
    monkeypatch.setattr(time, "monotonic", lambda: 500)
    assert progress.__rich__() == "building [2/3] etcd: about 0 s, 5 min for all that is left"


def test_programs_built_in_one_call_have_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _tiny(tmp_path, monkeypatch, GREETS)
    for name in ("operator", "adapter"):
        (module.folder / name).mkdir()
        (module.folder / name / "main.go").write_text(GREETS.replace("hello", name))
    several = Module("tiny", {"tiny": "tiny.local/tiny/operator", "adapter": "tiny.local/tiny/adapter"}, 1, 0.001)
    monkeypatch.setattr(build, "PROGRAMS", tmp_path / "tools")
    build.build_all([several])
    said = {path.name: subprocess.check_output([path]) for path in build.folder(several).iterdir()}
    assert said == {"tiny": b"operator\n", "adapter": b"adapter\n"}


def test_no_two_modules_build_a_program_of_the_same_name() -> None:
    names = [program for module in TOOLS for program in module.programs]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "words",
    [
        "go: go.mod requires go >= 1.26.8 (running go 1.26.0; GOTOOLCHAIN=local)",
        "verifying foo.test/bar@v1.2.3: checksum mismatch",
        "foo.test/bar@v1.2.3: reading https://proxy/foo.test/bar/@v/v1.2.3.zip: 502 Bad Gateway",
    ],
)
def test_the_telling_line_is_shown(words: str) -> None:
    error = build.explanation("kwok", f"{words}\n\tserver response:\n\tmore\n\tand more")
    assert error.problem == f"a Go module that kwok needs can't be had: {words}"


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


def test_packages_start_no_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy, log = tmp_path / "policy-rc.d", tmp_path / "log"
    _program(tmp_path, "apt-get", "").write_text(f'#!/bin/sh\necho "$@" >> {log}\n{policy}; echo $? >> {log}\n')
    _program(tmp_path, "dpkg-query", "")
    monkeypatch.setattr(packages, "_POLICY", policy)
    monkeypatch.setattr(build, "CACHE", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    packages.ensure_packages("redis-server")
    options = "-o DPkg::Lock::Timeout=120"
    assert log.read_text().splitlines() == [
        f"{options} update -q", "101", f"{options} install -q -y --no-install-recommends redis-server", "101"
    ]  # fmt: skip
    assert not policy.exists()
    policy.write_text("#!/bin/sh\nexit 104\n")
    policy.chmod(0o755)
    packages.ensure_packages("redis-server")
    assert policy.read_text() == "#!/bin/sh\nexit 104\n"


@pytest.mark.parametrize(
    ("version", "fits"), [("0.9.2", True), ("0.13.9", True), ("1.0.0", True), ("0.8.17", False), ("0.1.0", False)]
)
def test_bootstrap_takes_a_fitting_uv_from_path(tmp_path: Path, version: str, fits: bool) -> None:
    uv = _program(tmp_path, "uv", f"uv {version} (x86_64-unknown-linux-gnu)")
    installed = tmp_path / "llm-serving" / "uv-0.13.9" / "bin"
    installed.mkdir(parents=True)
    cached = _program(installed, "uv", "")
    script = Path(toolchain.__file__).parent / "bootstrap.sh"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)}
    answer = subprocess.check_output(["bash", script], env=environment, text=True).strip()
    assert answer == str(uv if fits else cached)


def test_bootstrap_compiles_the_packages_once_where_python_may_not(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    uv = _program(tmp_path, "uv", "")
    uv.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then echo uv 0.13.9; else echo "$@" >> {ran}; fi\n')
    (tmp_path / ".venv").mkdir()
    lock = tmp_path / "uv.lock"
    lock.touch()
    script = Path(toolchain.__file__).parent / "bootstrap.sh"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)}

    def times(**more: str) -> int:
        answer = subprocess.check_output(["bash", script], cwd=tmp_path, env={**environment, **more}, text=True)
        assert answer.strip() == str(uv)
        return ran.read_text().count("--compile-bytecode") if ran.exists() else 0

    assert times() == 0
    assert [times(PYTHONDONTWRITEBYTECODE="1"), times(PYTHONDONTWRITEBYTECODE="1")] == [1, 1]
    later = (tmp_path / ".venv" / ".compiled").stat().st_mtime + 1
    os.utime(lock, (later, later))
    assert times(PYTHONDONTWRITEBYTECODE="1") == 2


def test_bootstrap_without_python(tmp_path: Path) -> None:
    _program(tmp_path, "python3", "").write_text("#!/bin/sh\nexit 1\n")
    script = Path(toolchain.__file__).parent / "bootstrap.sh"
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: Python 3.11 or newer is needed: install it and put it on PATH as python3\n"


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


def test_target_group_binding_has_the_published_fields() -> None:
    definition = yaml.safe_load((custom_resources.OWN / "targetgroupbinding.yaml").read_text())
    version = definition["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert (definition["spec"]["group"], version["name"]) == ("elbv2.k8s.aws", "v1beta1")
    assert set(spec["properties"]) == {
        "ipAddressType", "multiClusterTargetGroup", "networking", "nodeSelector", "serviceRef", "targetGroupARN",
        "targetGroupName", "targetType", "vpcID",
    }  # fmt: skip
