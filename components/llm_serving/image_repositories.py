"""Where an account keeps the images that its environments run: one ECR repository for each.

They belong to the account and not to an environment: staging proves the same build, by its digest, that prod then runs,
and a stack looks its images up, so they must be there before it is. Hence a program of their own (`examples/`).
"""

import json
import re
from collections.abc import Sequence
from typing import NotRequired, TypedDict

import pulumi
import pulumi_aws as aws

from llm_serving import _checks, _iam
from llm_serving._keys import encryption_key

IMAGES = (
    "dcgm-exporter",
    "device-plugin",
    "embedder",
    "embedder-cuda",
    "llm-gateway",
    "model-loader",
    "tensorrt-llm",
    "tgi",
    "vllm",
)
"""The images that a stack file may name, by the names that it looks for."""


class ImageRepositoriesArgs(TypedDict):
    """Arguments of `ImageRepositories`."""

    names: NotRequired[Sequence[str]]
    """Names of the repositories. Default: those of every image that a stack may run."""
    kept_images: NotRequired[int]
    """Tagged images of each repository to keep, the newest, 10 to 1000. Default: 100."""
    untagged_days: NotRequired[int]
    """Days after which an image without a tag is deleted, 1 to 365. Default: 14."""
    pull_account_ids: NotRequired[Sequence[str]]
    """Other accounts whose environments may pull. Default: none."""
    protect: NotRequired[bool]
    """Whether Pulumi refuses to delete the repositories and their key, and ECR one that has images. Default: true."""


class ImageRepositories(pulumi.ComponentResource):
    """ECR repositories with tags that never move, a scan of each push, a key of their own, and an end for old images.

    Raises ValueError at construction for a name that ECR refuses, no account's number, or a number out of range.
    """

    urls: pulumi.Output[dict[str, str]]
    """Address to push each image to, by the repository's name."""
    kms_key_arn: pulumi.Output[str]
    """ARN of the key that the images are encrypted with."""

    def __init__(self, name: str, args: ImageRepositoriesArgs, opts: pulumi.ResourceOptions | None = None):
        super().__init__("llm-serving:index:ImageRepositories", name, {}, opts)
        names = args.get("names", IMAGES)
        _check_names(names)
        accounts = args.get("pull_account_ids", ())
        _check_accounts(accounts)
        lifecycle = lifecycle_policy(
            kept_images=_checks.whole("kept_images", args.get("kept_images", 100), low=10, high=1000),
            untagged_days=_checks.whole("untagged_days", args.get("untagged_days", 14), low=1, high=365, unit="days"),
        )
        protect = args.get("protect", True)
        key = encryption_key(f"{name}-key", f"Container images of {name}", parent=self, protect=protect)
        urls: dict[str, pulumi.Output[str]] = {}
        for each in names:
            repository = aws.ecr.Repository(
                f"{name}-{each}",
                name=each,
                image_tag_mutability="IMMUTABLE",
                image_scanning_configuration={"scan_on_push": True},
                encryption_configurations=[{"encryption_type": "KMS", "kms_key": key.arn}],
                force_delete=not protect,
                opts=pulumi.ResourceOptions(parent=self, protect=protect),
            )
            child = pulumi.ResourceOptions(parent=self)
            aws.ecr.LifecyclePolicy(f"{name}-{each}", repository=repository.name, policy=lifecycle, opts=child)
            if accounts:
                policy = _iam.image_pull(accounts)
                aws.ecr.RepositoryPolicy(f"{name}-{each}", repository=repository.name, policy=policy, opts=child)
            urls[each] = repository.repository_url
        self.urls = pulumi.Output.all(**urls)
        self.kms_key_arn = key.arn
        self.register_outputs({"urls": self.urls, "kmsKeyArn": self.kms_key_arn})


def lifecycle_policy(*, kept_images: int, untagged_days: int) -> str:
    """Return the lifecycle policy, as JSON, that ends untagged images by age and tagged ones by number."""
    untagged = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days"}
    tagged = {"tagStatus": "tagged", "tagPatternList": ["*"], "countType": "imageCountMoreThan"}
    rules = (
        ("Untagged images", {**untagged, "countNumber": untagged_days}),
        ("All but the newest", {**tagged, "countNumber": kept_images}),
    )
    return json.dumps(
        {
            "rules": [
                {"rulePriority": number, "description": what, "selection": selection, "action": {"type": "expire"}}
                for number, (what, selection) in enumerate(rules, 1)
            ]
        },
        sort_keys=True,
    )


def _check_names(names: Sequence[str]) -> None:
    if not names:
        raise ValueError("names: is empty; nearest valid value: leave it out, for every image that a stack may run")
    for each in names:
        if not re.fullmatch(r"[a-z0-9]+([._/-][a-z0-9]+)*", each):
            nearest = re.sub(r"[^a-z0-9/]+", "-", each.lower()).strip("-/") or IMAGES[0]
            raise ValueError(f"names: {each!r} is no name of an ECR repository; nearest valid value: {nearest}")
    if doubled := sorted({each for each in names if list(names).count(each) > 1}):
        raise ValueError(f"names: {', '.join(doubled)} twice; nearest valid value: each name once")


def _check_accounts(accounts: Sequence[str]) -> None:
    for each in accounts:
        if not re.fullmatch(r"\d{12}", each):
            raise ValueError(f"pull_account_ids: {each!r} is no account; nearest valid value: its 12 digits, in quotes")
