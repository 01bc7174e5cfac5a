"""Names for resources that the program gives none: the resource's name in the program and a few random letters.

The bridge fills in attributes that are called `name`, for any length. Pulumi's official plugin fills in others as well,
and keeps to AWS's limits: this table is the part of its rules that differs from the bridge's.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local.plugins.aws.conversion import DEFAULTS
from local.plugins.aws.terraform import TerraformType
from local.plugins.aws.values import Properties

_RANDOM_LETTERS = 7


@dataclass(frozen=True)
class Rule:
    """How the names of one kind of resource are made."""

    attribute: str
    longest: int
    """AWS's limit, in characters."""
    lower_case: bool = False
    prefix: str = ""


RULES = {
    "aws_cloudwatch_metric_alarm": Rule("alarm_name", 255),
    "aws_ecr_repository": Rule("name", 256, lower_case=True),
    "aws_eks_cluster": Rule("name", 100),
    "aws_eks_fargate_profile": Rule("fargate_profile_name", 63),
    "aws_eks_node_group": Rule("node_group_name", 63),
    "aws_elasticache_cluster": Rule("cluster_id", 50, lower_case=True),
    "aws_elasticache_replication_group": Rule("replication_group_id", 40, lower_case=True),
    "aws_elasticache_subnet_group": Rule("name", 255, lower_case=True),
    "aws_iam_instance_profile": Rule("name", 128),
    "aws_iam_policy": Rule("name", 128),
    "aws_iam_role": Rule("name", 64),
    "aws_iam_role_policy": Rule("name", 128),
    "aws_iam_user": Rule("name", 64),
    "aws_kms_alias": Rule("name", 256, prefix="alias/"),
    "aws_launch_template": Rule("name", 128),
    "aws_lb": Rule("name", 32),
    "aws_lb_target_group": Rule("name", 32),
    "aws_s3_bucket": Rule("bucket", 63, lower_case=True),
    "aws_sqs_queue": Rule("name", 80),
}


def rule_of(resource: TerraformType) -> Rule | None:
    """The rule for a resource, where it has one."""
    rule = RULES.get(resource.name)
    if rule is None and "name" in resource.autonamed:
        return Rule("name", 255)
    return rule


@dataclass(frozen=True)
class Request:
    """What the engine says of the resource to name."""

    name: str
    """The resource's name in the program."""
    seed: bytes = b""
    proposed: str = ""
    """The name that the stack's `pulumi:autonaming` setting gives; empty where it has no such setting."""
    is_enforced: bool = False
    is_disabled: bool = False


def name(rule: Rule, request: Request, key: str, olds: Properties, news: Properties) -> Properties:
    """The inputs with the property `key` filled in where the program left it out; `olds` are the last inputs.

    With a name prefix the prefix gives way to a name that starts with it: the bridge refuses both.
    Returns `news` itself where there is nothing to do.
    """
    prefix_key = f"{key}Prefix"
    if news.get(key) is not None or request.is_disabled:
        return news
    prefix = news.get(prefix_key)
    rest = {name: value for name, value in news.items() if name != prefix_key} if prefix is not None else news
    if prefix is not None and not isinstance(prefix, str):
        return news
    known = olds.get(key)
    defaults: Sequence[str] = olds.get(DEFAULTS) or []
    if isinstance(known, str) and key in defaults and known.startswith(prefix or ""):
        return {**rest, key: known}
    return {**rest, key: _new_name(rule, request, prefix)}


def mark(key: str, checked: Properties) -> Properties:
    """Checked inputs in which the property `key` is remembered as filled in."""
    defaults: list[Any] = checked.get(DEFAULTS) or []
    return {**checked, DEFAULTS: sorted({*defaults, key})}


def keep_mark(key: str, olds: Properties, news: Properties) -> Properties:
    """Inputs that were read, in which the property `key` is still remembered as filled in.

    The bridge forgets: it didn't fill it in.
    """
    is_marked = key in (olds.get(DEFAULTS) or ())
    return mark(key, news) if is_marked and news.get(key) == olds.get(key) else news


def _new_name(rule: Rule, request: Request, prefix: str | None) -> str:
    if request.proposed and (request.is_enforced or len(request.proposed) <= rule.longest):
        return request.proposed
    random = hashlib.sha256(request.seed).hexdigest() if request.seed else secrets.token_hex(_RANDOM_LETTERS)
    if prefix is not None:
        return f"{prefix}{random[:_RANDOM_LETTERS]}"
    stem = f"{rule.prefix}{request.name.lower() if rule.lower_case else request.name}"
    return f"{stem[: rule.longest - _RANDOM_LETTERS - 1]}-{random[:_RANDOM_LETTERS]}"
