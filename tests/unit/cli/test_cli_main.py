"""The program around the commands: help, unknown commands, other outputs, the process itself."""

import importlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli import output
from cli.main import COMMANDS, main
from llm_serving.capacity.fit import Budget
from tests.unit.cli.cli_runner import ask

ROOT = Path(__file__).resolve().parents[3]
FIT = ("fit", "--model", "Llama-3.1-8B", "--instance", "g6.xlarge", "--runtime", "vllm")
HEAVY = {"pulumi", "pydantic", "infra", "boto3", "rich", "typer", "yaml", "moto"}
"""What `fit` must not load: each would take a good part of the time that it may take."""


@pytest.mark.parametrize("arguments", [(), ("--help",), *((name, "--help") for name in COMMANDS)])
def test_help_shows_what_there_is(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    if len(arguments) < 2:
        assert all(name in shown for name in COMMANDS)
    else:
        assert f"llm-serving {arguments[0]}" in shown.partition("examples:")[2]


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_example_is_a_command_line_that_is_understood(name: str) -> None:
    command = importlib.import_module(f"cli.{name}")
    parser = command.options(name, COMMANDS[name])
    for line in getattr(command, "EXAMPLES", ()):
        first, *rest = line.split()
        assert first == name
        parser.parse_args(rest)


@pytest.mark.parametrize("arguments", [("fitt",), ("fit",), ("fit", "--modle", "x"), ("catalog", "lost")])
def test_a_command_line_that_is_none_says_so(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: llm-serving" in capsys.readouterr().err


def _process(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'components'}", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_program_runs_as_a_process_with_an_output_of_ascii() -> None:
    done = _process("-m", "cli", *FIT, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "# weights  % overhead  = KV cache  . left alone" in done.stdout


def test_fit_loads_nothing_heavy() -> None:
    done = _process(
        "-c", f"import json, sys; from cli.main import main; main({FIT!r}); print(json.dumps([*sys.modules]))"
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "cli" in loaded
    assert not loaded & HEAVY


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = f"{sys.executable} -m cli checks | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'components'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.styled("x", "red", Terminal()) == "\x1b[31mx\x1b[0m"
    assert output.styled("x", "red", io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.styled("x", "red", Terminal()) == "x"


def _budget(weights: float, usable: float = 20, total: float = 24, overhead: float = 2) -> Budget:
    kv_cache = max(0.0, usable - weights - overhead)
    return Budget(total, usable, total - usable, weights, overhead, kv_cache, 1, usable - weights - overhead - 1)


@pytest.mark.parametrize("weights", [0.01, 5, 17.9, 18, 19, 20, 21, 100, 5000])
@pytest.mark.parametrize("width", [8, 24, 32, 80])
def test_a_bar_is_as_wide_as_it_should_be(weights: float, width: int) -> None:
    pieces = output.segments(_budget(weights), unicode=True, width=width)
    assert sum(len(text) for text, _ in pieces) == width
    too_much = any(part.name == "too much" for _, part in pieces)
    assert too_much == (weights > 18)


@given(
    total=st.floats(1, 300),
    usable=st.floats(0.1, 1),
    weights=st.floats(0.001, 2000),
    overhead=st.floats(0.1, 10),
    width=st.integers(1, 200),
)
def test_any_budget_is_a_bar(total: float, usable: float, weights: float, overhead: float, width: int) -> None:
    budget = _budget(weights, usable * total, total, overhead)
    for unicode in (True, False):
        pieces = output.segments(budget, unicode=unicode, width=width)
        assert sum(len(text) for text, _ in pieces) == width
        assert all(text.isascii() for text, _ in pieces) or unicode
    assert all(part.gib >= 0 for part in output.parts(budget))
    assert sum(part.gib for part in output.parts(budget)) == pytest.approx(max(total, weights + overhead))


ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


OPTIONS = ("--model", "--instance", "--runtime", "--tp", "--max-total-tokens", "--gpu-memory-utilization")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(texts=st.fixed_dictionaries(dict.fromkeys(OPTIONS, ANYTHING)))
def test_no_text_is_a_traceback(capsys: pytest.CaptureFixture[str], texts: dict[str, str]) -> None:
    answer = ask(capsys, "fit", *(f"{option}={text}" for option, text in texts.items()), "--json")
    assert answer.status == 1
    assert answer.json["fits"] is False
    assert {"--model", "--instance", "--runtime"} <= {finding["setting"] for finding in answer.json["findings"]}


def test_the_parts_of_a_gpu_make_up_its_memory() -> None:
    assert sum(part.gib for part in output.parts(_budget(9))) == pytest.approx(24)
    assert sum(part.gib for part in output.parts(_budget(21))) == pytest.approx(24)
    assert sum(part.gib for part in output.parts(_budget(50))) == pytest.approx(52)
