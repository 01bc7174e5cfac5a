"""From the engine's events to changes: one for each resource, with what forces a replacement."""

import json
from typing import Any

import pytest

from local.engine import Outcome
from local.plan import Change, Plan, Property, changes, plan, shown

CACHE = "aws:elasticache/replicationGroup:ReplicationGroup"
URN = f"urn:pulumi:prod::llm-serving::llm-serving:index:SemanticCache${CACHE}::cache-group"


def step(op: str, urn: str = URN, **more: Any) -> dict[str, Any]:
    plain = state()
    return {"op": op, "urn": urn, "type": urn.split("::")[2].rpartition("$")[2], "new": plain, "old": plain, **more}


def state(protect: bool = False, **inputs: Any) -> dict[str, Any]:
    return {"custom": True, "protect": protect, "inputs": inputs}


def test_a_replacement_is_one_change_that_says_what_forces_it() -> None:
    old, new = state(protect=True, port=6379, description="a"), state(port=6380, description="b")
    difference = {"port": {"diffKind": "update-replace"}, "description": {"diffKind": "update"}}
    told: dict[str, Any] = {"old": old, "new": new, "keys": ["port"], "detailedDiff": difference}
    steps = [step("create-replacement", **told), step("replace", **told), step("delete-replaced", old=old, new=None)]
    (found,) = changes(steps)
    assert found == Change(
        URN, CACHE, "cache-group", "replace", protected=True,
        properties=(
            Property("description", "a", "b", replaces=False),
            Property("port", "6379", "6380", replaces=True),
        ),
    )  # fmt: skip
    assert found.stateful
    assert found.replace_keys == ["port"]


def test_keys_count_where_the_provider_tells_no_details() -> None:
    (found,) = changes([step("replace", keys=["nodeType"], diffs=["nodeType", "tags"], old=state(), new=state())])
    assert [(each.path, each.replaces) for each in found.properties] == [("nodeType", True), ("tags", False)]


@pytest.mark.parametrize(
    ("op", "operation"),
    [("create", "create"), ("update", "update"), ("delete", "delete"), ("same", "same"), ("read", "same"),
     ("refresh", "same"), ("delete-replaced", "replace")],
)  # fmt: skip
def test_operations(op: str, operation: str) -> None:
    (found,) = changes([step(op)])
    assert found.operation == operation


def test_what_is_no_resource_of_a_cloud_or_cluster_is_left_out() -> None:
    component = step("create", "urn:pulumi:a::b::llm-serving:index:Network::network", new={"custom": False})
    provider = step("create", "urn:pulumi:a::b::pulumi:providers:aws::aws")
    stack = step("create", "urn:pulumi:a::b::pulumi:pulumi:Stack::b-a", new={"custom": False})
    assert changes([component, provider, stack]) == []


def test_protection_is_that_of_the_state() -> None:
    assert changes([step("delete", new=None)], frozenset({URN}))[0].protected
    assert not changes([step("delete", new=None)])[0].protected
    assert changes([step("create", old=None, new=state(protect=True))])[0].protected


def test_values_are_found_at_their_path() -> None:
    old = state(rules=[{"port": 1}], tags={"a.b": "x"})
    new = state(rules=[{"port": 2}, {"port": 3}], tags={"a.b": "y"})
    paths = {path: {"diffKind": "update"} for path in ("rules[0].port", "rules[1]", 'tags["a.b"]', "gone.x[3]")}
    (found,) = changes([step("update", old=old, new=new, detailedDiff=paths)])
    assert [(each.path, each.old, each.new) for each in found.properties] == [
        ("gone.x[3]", "", ""),
        ("rules[0].port", "1", "2"),
        ("rules[1]", "", ""),
        ('tags["a.b"]', "x", "y"),
    ]


def test_what_checks_and_providers_said() -> None:
    said = [
        "models.chat: is tight [FIT_SPARE]",
        "b",
        "a",
        "b",
        "Vpc x: aws:ec2/vpc:Vpc.a has no effect here: old",
        "rendered file /tmp/x contains a secret value",
    ]
    notes = ["unchecked: aws: no credentials [CLOUD_QUOTA]", "printed [BY_A_PROGRAM]"]
    made = plan("dev", Outcome(warnings=said, notes=notes))
    assert made.warnings == ("a", "aws:ec2/vpc:Vpc.a has no effect here: old", "b")
    assert [finding.text for finding in made.findings] == [
        "not checked: aws: no credentials [CLOUD_QUOTA]",
        "models.chat: is tight [FIT_SPARE]",
    ]


def test_a_plan_survives_its_json() -> None:
    steps = [step("same"), step("update", URN + "2", detailedDiff={"port": {"diffKind": "update"}})]
    made = plan("dev", Outcome(steps=steps, warnings=["careful", "x: y [A_B]"]))
    content = json.loads(json.dumps(made.as_json()))
    assert content["counts"] == {"create": 0, "update": 1, "replace": 0, "delete": 0, "same": 1}
    assert [each["urn"] for each in content["resources"]] == [URN + "2"]
    assert Plan.from_json(content).as_json() == content
    broken = Plan("dev", problems=("no",))
    assert Plan.from_json(json.loads(json.dumps(broken.as_json()))) == broken


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), ({}, ""), ([1], ""), (True, "true"), (6379.0, "6379"), ("a\n b", "a b"), ("x" * 99, "x" * 57 + "...")],
)
def test_values_as_text(value: Any, text: str) -> None:
    assert shown(value) == text
