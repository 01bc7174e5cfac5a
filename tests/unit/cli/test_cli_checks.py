"""`llm-serving checks` and docs/checks.md: every code, and every failure with what handles it."""

import re

import pytest

from cli import inputs, reference
from cli.checks import everything
from cli.failures import FAILURES
from llm_serving.capacity import checks
from tests.unit.cli.cli_runner import ask

REPORTED = [*range(1, 8), *range(9, 17), *range(18, 21), 28]
"""The failures of the reports that are functions of the configuration alone."""


def test_the_page_is_current() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `python -m cli.reference`"


def test_every_code_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = ask(capsys, "checks", "--json").json["checks"]
    assert [check["code"] for check in listed] == sorted({*checks.ALL, *(check.code for check in inputs.CHECKS)})
    assert all(set(check) == {"code", "severity", "summary", "failures"} for check in listed)
    text = ask(capsys, "checks").out
    page = reference.page()
    for check in everything():
        assert check.code in text
        assert f"| `{check.code}` | {check.severity} | {check.summary} |" in page


def test_codes_and_summaries_are_well_formed() -> None:
    for check in everything():
        assert re.fullmatch(r"[A-Z]+(_[A-Z]+)*", check.code)
        assert check.summary.endswith(".")
        assert all(re.fullmatch(r"F[1-9]\d?", failure) for failure in check.failures)


def test_every_reported_failure_is_handled() -> None:
    assert [failure.number for failure in FAILURES] == [f"F{number}" for number in REPORTED]
    for failure in FAILURES:
        assert failure.default or reference.preventing(failure.number), failure.number


def test_no_check_prevents_a_failure_that_the_page_lacks() -> None:
    known = {failure.number for failure in FAILURES}
    assert {failure for check in everything() for failure in check.failures} <= known
