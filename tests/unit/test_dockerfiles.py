"""The images' Dockerfiles, by rule: pinned bases, no root, nothing fetched past a lock file, code last."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from llm_serving.capacity import catalog
from llm_serving.runtimes import RUNTIMES
from llm_serving.runtimes.launch import PORT

IMAGES = Path(__file__).parents[2] / "images"
DOCKERFILES = sorted(IMAGES.glob("*/Dockerfile*"))
REGISTRY = r"[a-z0-9.-]+\.[a-z]+"
PINNED = re.compile(rf"{REGISTRY}/[a-z0-9./-]+:[A-Za-z0-9._-]*\d[A-Za-z0-9._-]*(@sha256:[0-9a-f]{{64}})?")


@dataclass(frozen=True)
class Instruction:
    name: str
    value: str


def instructions(text: str) -> list[Instruction]:
    """The instructions of a Dockerfile, comments dropped and continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def read(path: Path) -> list[Instruction]:
    return instructions(path.read_text())


def problems(text: str) -> list[str]:
    """What is wrong with a Dockerfile."""
    found = instructions(text)
    names = [each.name for each in found]
    wrong: list[str] = []
    bases = [each.value.removeprefix("BASE=") for each in found if each.value.startswith("BASE=")]
    wrong += [f"{base} is not pinned" for base in bases if not PINNED.fullmatch(base)]
    stages = {each.value.split()[-1] for each in found if each.name == "FROM" and " AS " in each.value}
    sources = {each.value.split()[0] for each in found if each.name == "FROM"} - stages
    if sources != {"${BASE}"}:
        wrong.append(f"is built from {sources}, not from ${{BASE}} alone")
    users = [each.value for each in found if each.name == "USER"]
    if not users or not re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1]):
        wrong.append("ends as root, or as a user without a number, which no pod can check")
    if "ADD" in names:
        wrong.append("adds what may come from anywhere")
    runs = [each.value for each in found if each.name == "RUN"]
    wrong += [f"fetches: {run}" for run in runs if re.search(r"\b(curl|wget|git clone)\b", run)]
    wrong += [f"installs unlocked: {run}" for run in runs if "pip install" in run and "--require-hashes" not in run]
    if re.search(r"(?i)(token|password|secret)\s*=", text):
        wrong.append("has a secret in it")
    last = found[max(index for index, name in enumerate(names) if name == "FROM") :]
    copies = [index for index, each in enumerate(last) if each.name == "COPY" and "--from" not in each.value]
    installs = [index for index, each in enumerate(last) if "install" in each.value and each.name == "RUN"]
    if copies and installs and min(copies) < max(installs):
        wrong.append("installs again whenever its code changes")
    if names[-1] != "ENTRYPOINT" or not isinstance(json.loads(found[-1].value), list):
        wrong.append("does not end with an ENTRYPOINT that gets the signals itself")
    return wrong


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_dockerfile(path: Path) -> None:
    assert problems(path.read_text()) == []


GOOD = (IMAGES / "vllm" / "Dockerfile").read_text()


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        (":v0.33.0", ":latest", "docker.io/vllm/vllm-openai:latest is not pinned"),
        (":v0.33.0", "", "docker.io/vllm/vllm-openai is not pinned"),
        ("docker.io/", "", "vllm/vllm-openai:v0.33.0 is not pinned"),
        ("USER 10001:10001", "USER runtime", "ends as root"),
        ("USER 10001:10001", "USER 0:0", "ends as root"),
        ("EXPOSE 8080", "ADD https://example.com/x /x", "adds what may come from anywhere"),
        ("EXPOSE 8080", "RUN curl --output /x https://example.com/x", "fetches: "),
        ("EXPOSE 8080", "RUN pip install boto3", "installs unlocked: "),
        ("EXPOSE 8080", "COPY app app\nRUN apt-get install --yes python3", "installs again whenever"),
        ("EXPOSE 8080", "ENV HF_TOKEN=x", "has a secret in it"),
        ("FROM ${BASE}", "FROM debian:12", "is built from {'debian:12'}"),
    ],
)
def test_a_rule_finds_what_breaks_it(before: str, after: str, problem: str) -> None:
    assert before in GOOD
    (found,) = problems(GOOD.replace(before, after, 1))
    assert found.startswith(problem)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtimes_image_is_the_release_that_the_checks_go_by(runtime: str) -> None:
    folder = IMAGES / RUNTIMES[runtime].repository
    found = read(folder / "Dockerfile")
    base = found[0].value.removeprefix("BASE=").removeprefix("docker.io/")
    assert base == catalog.runtimes()[runtime].image
    assert base.rpartition(":")[2].removeprefix("v") == RUNTIMES[runtime].version
    assert [each.value for each in found if each.name == "EXPOSE"] == [str(PORT)]
    (health,) = [each.value for each in found if each.name == "HEALTHCHECK"]
    assert f'"http://127.0.0.1:{PORT}/health"' in health
    assert [each.value for each in found if each.name == "USER"] == ["root", "10001:10001"]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_runtimes_readme_has_a_line_for_each_layer(runtime: str) -> None:
    folder = IMAGES / RUNTIMES[runtime].repository
    layers = [each for each in read(folder / "Dockerfile") if each.name in ("FROM", "RUN", "COPY", "HEALTHCHECK")]
    rows = re.findall(r"^\| (?!layer|---)", (folder / "README.md").read_text(), re.MULTILINE)
    assert len(rows) >= len(layers)
