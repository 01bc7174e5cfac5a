"""The schema for editors: current, true of every stack file, and refusing what the settings refuse by form."""

from pathlib import Path
from typing import Any, cast

import jsonschema
import pytest
import yaml

from infra import schema

STACKS = sorted((Path(__file__).parents[2] / "stacks").glob("Pulumi.*.yaml"))
LOCAL = next(path for path in STACKS if path.name == "Pulumi.local.yaml")
VALIDATOR = jsonschema.Draft7Validator(schema.schema())


def content(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(path.read_text()))


def complaints(stack: object) -> list[str]:
    """Where the schema has something against a stack file, as dotted paths."""
    errors = cast("Any", VALIDATOR).iter_errors(stack)
    return sorted(".".join(map(str, error.absolute_path)) for error in errors)


def test_the_file_is_current() -> None:
    assert schema.FILE.read_text() == schema.text(), "run `make schema`"


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(schema.schema())


@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.name)
def test_every_stack_file_is_valid(path: Path) -> None:
    assert complaints(content(path)) == []


@pytest.mark.parametrize("path", STACKS, ids=lambda path: path.name)
def test_every_stack_file_names_the_schema(path: Path) -> None:
    assert path.read_text().splitlines()[0] == schema.COMMENT
    assert (path.parent / schema.COMMENT.partition("=")[2]).resolve() == schema.FILE


def test_what_the_engine_adds_is_valid() -> None:
    stack = content(LOCAL)
    stack["encryptionsalt"] = "v1:abc"
    stack["secretsprovider"] = "awskms://alias/pulumi"
    stack["config"]["pulumi:tags"] = {"team": "platform"}
    assert complaints(stack) == []


REMOVE = "(removed)"
MODEL = "config.llm-serving:models.smollm2-135m"
POOL = "config.llm-serving:cluster.gpuPools.l4"

BROKEN: list[tuple[str, object, str]] = [
    ("config", REMOVE, ""),
    ("configuration", {}, ""),
    ("config", [], "config"),
    ("encryptionsalt", 1, "encryptionsalt"),
    ("config.llm-serving:aws", REMOVE, "config"),
    ("config.llm-serving:networks", {}, "config"),
    ("config.network", {}, "config"),
    ("config.llm-serving:protect", "yes", "config.llm-serving:protect"),
    ("config.llm-serving:logRetentionDays", 100, "config.llm-serving:logRetentionDays"),
    ("config.llm-serving:aws.accountId", 123456789012, "config.llm-serving:aws.accountId"),
    ("config.llm-serving:aws.accountId", "12345", "config.llm-serving:aws.accountId"),
    ("config.llm-serving:network.natGateways", "one", "config.llm-serving:network.natGateways"),
    ("config.llm-serving:network.natgateways", "none", "config.llm-serving:network"),
    ("config.llm-serving:cluster.version", 1.36, "config.llm-serving:cluster.version"),
    (f"{POOL}.maxSize", 500, f"{POOL}.maxSize"),
    (f"{POOL}.instanceTypes", [], f"{POOL}.instanceTypes"),
    (f"{POOL}.instanceTypes", "g6.xlarge", f"{POOL}.instanceTypes"),
    (f"{MODEL}.replicas", 0, f"{MODEL}.replicas"),
    (f"{MODEL}.replicas", 1.5, f"{MODEL}.replicas"),
    (f"{MODEL}.pool", REMOVE, MODEL),
]


def broken(path: str, value: object) -> dict[str, Any]:
    stack = content(LOCAL)
    *parents, key = path.split(".")
    section: dict[str, Any] = stack
    for part in parents:
        section = section[part]
    if value == REMOVE:
        del section[key]
    else:
        section[key] = value
    return stack


@pytest.mark.parametrize(("path", "value", "where"), BROKEN, ids=[f"{path}={value}"[:70] for path, value, _ in BROKEN])
def test_what_is_broken_is_refused_where_it_is(path: str, value: object, where: str) -> None:
    assert complaints(broken(path, value)) == [where]
