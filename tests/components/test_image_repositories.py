"""ImageRepositories: immutable, scanned, encrypted, and an end for old images."""

import json
import re
from typing import Any

import pytest

from infra.settings.images import ImagesSettings
from llm_serving import ImageRepositories
from llm_serving.image_repositories import IMAGES, ImageRepositoriesArgs
from tests.recording import Recording, record

REPOSITORY = "aws:ecr/repository:Repository"


def repositories(**args: Any) -> Recording:
    return record(lambda: ImageRepositories("i", ImageRepositoriesArgs(**args)))


def test_every_image_that_a_stack_may_name_has_a_repository() -> None:
    assert {name.replace("_", "-") for name in ImagesSettings.model_fields} <= set(IMAGES)
    assert sorted(repositories().names(REPOSITORY)) == [f"i-{name}" for name in IMAGES]


def test_a_repository() -> None:
    made = repositories(names=["tgi"])
    assert made.types() == {
        "llm-serving:index:ImageRepositories": 1,
        "aws:kms/key:Key": 1,
        REPOSITORY: 1,
        "aws:ecr/lifecyclePolicy:LifecyclePolicy": 1,
    }
    tgi = made.one(REPOSITORY, "i-tgi")
    assert tgi.protect
    assert tgi.inputs == {
        "name": "tgi",
        "imageTagMutability": "IMMUTABLE",
        "imageScanningConfiguration": {"scanOnPush": True},
        "encryptionConfigurations": [
            {"encryptionType": "KMS", "kmsKey": "arn:aws:test:us-east-1:123456789012:key/i-key"}
        ],
        "forceDelete": False,
    }
    policy = json.loads(made.inputs("aws:ecr/lifecyclePolicy:LifecyclePolicy", "i-tgi")["policy"])
    assert [(rule["rulePriority"], rule["selection"]) for rule in policy["rules"]] == [
        (1, {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14}),
        (2, {"tagStatus": "tagged", "tagPatternList": ["*"], "countType": "imageCountMoreThan", "countNumber": 100}),
    ]


def test_other_accounts_pull_and_nothing_else() -> None:
    made = repositories(names=["tgi"], pull_account_ids=["210987654321"])
    policy = json.loads(made.inputs("aws:ecr/repositoryPolicy:RepositoryPolicy", "i-tgi")["policy"])
    assert policy["Statement"] == [
        {
            "Sid": "PullFromOtherAccounts",
            "Effect": "Allow",
            "Principal": {"AWS": ["210987654321"]},
            "Action": ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        }
    ]


def test_an_account_for_trials_can_be_emptied() -> None:
    tgi = repositories(names=["tgi"], protect=False).one(REPOSITORY, "i-tgi")
    assert (tgi.protect, tgi.inputs["forceDelete"]) == (False, True)


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ({"names": []}, "names: is empty; nearest valid value: leave it out"),
        ({"names": ["My Image"]}, "names: 'My Image' is no name of an ECR repository; nearest valid value: my-image"),
        ({"names": ["tgi", "vllm", "tgi"]}, "names: tgi twice; nearest valid value: each name once"),
        (
            {"pull_account_ids": ["12345"]},
            "pull_account_ids: '12345' is no account; nearest valid value: its 12 digits",
        ),
        ({"kept_images": 5}, "kept_images: 5 is outside 10 to 1000; nearest valid value: 10"),
        ({"untagged_days": 0}, "untagged_days: 0 days is outside 1 to 365; nearest valid value: 1"),
    ],
)
def test_refused(args: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        repositories(**args)
