"""What goes wrong on a user's machine: each ends with one line that says what to do, and the next `up` goes on."""

import fcntl
import json

import pytest

from local.paths import STATE, state
from tests.environment_harness import OVERRIDES, begin, changed, kill, override, problem, run, wait

pytestmark = [pytest.mark.environment, pytest.mark.usefixtures("environment")]


@pytest.fixture(autouse=True)
def _committed_settings() -> None:
    override({})


def test_unknown_stack() -> None:
    assert problem("preview", "produktion") == (
        "error there is no stack 'produktion'\n      stacks/ has dev, local, prod, staging\n"
    )


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"cach": {}}, "llm-serving:cach: unknown key; nearest known key: cache"),
        (
            {"cluster": {"gpuPools": {"l4": {"maxsize": 3}}}},
            "llm-serving:cluster.gpuPools.l4.maxsize: unknown key; nearest known key: maxSize",
        ),
        ({"gateway": {"replicas": "two"}}, "llm-serving:gateway.replicas: 'two' is not a whole number"),
        (
            {"models": {"smollm2-135m": {"pool": "l40"}}},
            "llm-serving:models.smollm2-135m.pool: 'l40' is no pool of cluster.gpuPools; nearest valid value: l4",
        ),
    ],
)
def test_setting_that_is_wrong(settings: dict[str, object], line: str) -> None:
    override(settings)
    assert problem("up") == f"error {line}\n      change stacks/Pulumi.local.yaml\n"


def test_settings_that_are_no_yaml() -> None:
    OVERRIDES.write_text("config:\n  a: [1, 2\n")
    text = problem("up")
    assert text.startswith(f"error {OVERRIDES.relative_to(STATE.parent.parent)} is not valid YAML\n")
    assert "line 3" in text or "line 2" in text


def test_not_root() -> None:
    # In a user namespace without a mapping this user is nobody.
    text = problem("up", prefix=("unshare", "--user"))
    assert "run it as root: sudo make up" in text


def test_no_aws_provider() -> None:
    text = problem("up", TF_AWS_PROVIDER="/nowhere/terraform-provider-aws")
    assert text.startswith("error TF_AWS_PROVIDER names /nowhere/terraform-provider-aws, which isn't a file\n")


def test_another_command_at_work() -> None:
    with state("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert (
            problem("down") == "error another make command is working on this environment\n      wait until it ends\n"
        )


def test_wrong_use_is_told_without_a_traceback() -> None:
    process = begin("preview")
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Missing argument" in text
    assert "Traceback" not in text


def test_killed_parts_are_named_and_come_back() -> None:
    killed = ("cloud", "balancer", "etcd", "kube-apiserver", "kube-scheduler", "controller", "registry")
    for daemon in killed:
        kill(daemon)
    down = {part["name"] for part in json.loads(run("status", "--json"))["parts"] if not part["healthy"]}
    assert down >= set(killed)
    assert "down" in run("status")
    assert "make status shows what is unwell" in problem("ask")
    text = run("up")
    assert not changed()
    assert text.splitlines()[-1].startswith("Cache (")
    wait("everything is well", lambda: all(part["healthy"] for part in json.loads(run("status", "--json"))["parts"]))
