"""Every resource of every stack that is for AWS against the controls that `docs/security.md` lists."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.charts.rendering import documents
from tests.program.test_program import run
from tests.security import aws_rules, document, exemptions, kubernetes_rules
from tests.security.controls import Finding, Thing, uncovered, unneeded, walk

STACKS = ("dev", "staging", "prod")
RULES = {**aws_rules.RULES, **kubernetes_rules.PROGRAM_RULES}
CHART = "kubernetes:helm.sh/v4:Chart"
TARGET_GROUPS = "arn:aws:elasticloadbalancing:"


def things(stack: str) -> list[Thing]:
    """Return a stack's resources."""
    made = run(stack)
    # A list that each thing holds and that is filled later: they are one another's neighbours.
    found: list[Thing] = []
    found.extend(Thing(each.type, each.name, each.inputs, stack, each.protect, found) for each in made.resources)
    return found


@cache
def findings() -> list[Finding]:
    return [finding for stack in STACKS for finding in walk(things(stack), RULES, aws_rules.NOTHING_TO_SECURE)]


@pytest.mark.parametrize("stack", STACKS)
def test_every_resource_satisfies_its_controls(stack: str) -> None:
    assert uncovered([finding for finding in findings() if finding.stack == stack], exemptions.AWS) == []


def test_no_exemption_is_left_over() -> None:
    assert unneeded(findings(), exemptions.AWS) == []


def test_every_rule_is_about_a_resource_that_exists() -> None:
    used = {thing.type for stack in STACKS for thing in things(stack)}
    assert set(RULES) - used == set()
    assert set(aws_rules.NOTHING_TO_SECURE) - used == set()
    assert set(aws_rules.NOTHING_TO_SECURE) & set(RULES) == set()


def rendered(folder: Path, stack: str) -> Iterator[Thing]:
    """Yield every Kubernetes object of a stack's charts, as Helm renders them."""
    for each in run(stack).resources:
        if each.type == CHART:
            release = str(each.inputs.get("name") or each.name)
            # The only ARN in any values is a target group's, and the recording's stand-in is of no service. A bucket's
            # has a kind there before its name.
            text = json.dumps(each.inputs["values"]).replace("arn:aws:test:", TARGET_GROUPS)
            values = json.loads(text.replace("s3://bucket/", "s3://"))
            found: list[Thing] = []
            found.extend(
                Thing(item["kind"], item["metadata"]["name"], item, stack, others=found)
                for item in documents(folder, Path(each.inputs["chart"]).name, release, values)
            )
            yield from found


@pytest.mark.local
def test_every_object_of_the_charts_satisfies_its_controls(tmp_path: Path) -> None:
    objects = [thing for stack in STACKS for thing in rendered(tmp_path, stack)]
    rules = kubernetes_rules.RULES
    assert {thing.type for thing in objects} == {*rules, *kubernetes_rules.NOTHING_TO_SECURE}
    found = list(walk(objects, rules, kubernetes_rules.NOTHING_TO_SECURE))
    assert uncovered(found, exemptions.KUBERNETES) == []
    assert unneeded(found, exemptions.KUBERNETES) == []


def test_the_page_says_what_is_checked() -> None:
    assert document.PAGE.read_text() == document.page()
