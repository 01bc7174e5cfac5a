"""The examples that need no cluster, on the local cloud. `test_environment_examples.py` runs the others."""

import json
from pathlib import Path

import pytest

from llm_serving.image_repositories import IMAGES
from tests.cloud_harness import Cloud
from tests.local.examples_harness import EXAMPLES, checkout, example
from tests.program_harness import variables

pytestmark = pytest.mark.local

ELSEWHERE = {"gateway-and-cache", "gpu-cluster", "model-service", "yaml"}
"""Run by `test_environment_examples.py` and `test_plugin.py`."""


def test_every_example_is_run() -> None:
    assert {path.parent.name for path in EXAMPLES.glob("*/Pulumi.yaml")} == ELSEWHERE | {"image-repositories"}


def test_image_repositories(tmp_path: Path, cloud: Cloud) -> None:
    folder = checkout(tmp_path)
    environment = variables(folder / "state", cloud.variables())
    config = {"aws:region": "us-east-1", "pullAccountIds": ["210987654321"], "protect": False}
    stack = example(folder, "image-repositories", environment, config)
    stack.up()
    ecr = cloud.client("ecr")
    found = {each["repositoryName"]: each for each in ecr.describe_repositories()["repositories"]}
    assert sorted(found) == sorted(IMAGES)
    assert {each["imageTagMutability"] for each in found.values()} == {"IMMUTABLE"}
    assert {each["encryptionConfiguration"]["encryptionType"] for each in found.values()} == {"KMS"}
    assert stack.outputs()["urls"] == {name: each["repositoryUri"] for name, each in found.items()}
    policy = json.loads(ecr.get_repository_policy(repositoryName="vllm")["policyText"])
    assert policy["Statement"][0]["Principal"] == {"AWS": ["210987654321"]}
    assert stack.differences() == set()
    stack.destroy()
    assert ecr.describe_repositories()["repositories"] == []
