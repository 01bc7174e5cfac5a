"""Aliases: which revision of a model is `stable` or `canary`, and which ones were before.

An alias is moved by a conditional write, so of two people who move it at once one is told.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, cast

from botocore.exceptions import ClientError

from llm_serving.registry import manifest
from llm_serving.registry.errors import MovedError, NotThereError, RegistryError, code, explained
from llm_serving.registry.names import ALIAS_NAMES, alias_key
from llm_serving.registry.s3 import Bucket

MOST_PREVIOUS = 50
"""Revisions that an alias remembers."""


@dataclass(frozen=True, slots=True)
class Alias:
    """What an alias stands for."""

    alias: str
    revision: str
    previous: tuple[str, ...]
    """Revisions that it stood for before, the last one first."""
    updated: str
    """When it was moved: UTC, as in 2026-11-25T14:03:00Z."""


def promote(bucket: Bucket, model: str, revision: str, alias: str) -> tuple[Alias, bool]:
    """Make an alias stand for a revision; return it, and whether it was moved: it isn't where it stands there already.

    Raises NotThereError for a revision that isn't there, MovedError where somebody moves the alias at the same time,
    BucketError where S3 refuses, RegistryError for a name that can't be one.
    """
    with explained(bucket.name):
        manifest.get(bucket, model, revision)
        before, etag = _read(bucket, model, alias)
        if before and before.revision == revision:
            return before, False
        previous = (before.revision, *before.previous)[:MOST_PREVIOUS] if before else ()
        return _write(bucket, model, Alias(alias, revision, previous, _now()), etag), True


def rollback(bucket: Bucket, model: str, alias: str) -> Alias:
    """Make an alias stand for the revision before; a second time, for the one before that.

    Raises NotThereError where there is no alias, none before, or that one is gone; otherwise as `promote` does.
    """
    with explained(bucket.name):
        before, etag = _read(bucket, model, alias)
        if before is None:
            raise NotThereError(f"{bucket.url} has no {alias} of {model}: promote a revision first")
        if not before.previous:
            raise NotThereError(f"{alias} of {model} was only ever {before.revision}: promote another revision")
        revision = before.previous[0]
        manifest.get(bucket, model, revision)
        return _write(bucket, model, Alias(alias, revision, before.previous[1:], _now()), etag)


def find(bucket: Bucket, model: str, alias: str) -> Alias | None:
    """An alias; None where there is none. Raises botocore's errors."""
    return _read(bucket, model, alias)[0]


def resolve(bucket: Bucket, model: str, reference: str) -> str:
    """The revision that a revision's own name or an alias means.

    Raises NotThereError for an alias that isn't there, and botocore's errors.
    """
    if reference not in ALIAS_NAMES:
        return reference
    found = find(bucket, model, reference)
    if found is None:
        raise NotThereError(
            f"{bucket.url} has no {reference} of {model}: name a revision, or promote one with"
            f" `llm-serving models promote {model} REVISION --to {reference}`"
        )
    return found.revision


def _read(bucket: Bucket, model: str, alias: str) -> tuple[Alias | None, str]:
    """An alias and the tag of its object; None and nothing where there is none."""
    key = alias_key(model, alias)
    try:
        answer = bucket.client.get_object(Bucket=bucket.name, Key=key)
    except ClientError as error:
        if code(error) in manifest.ABSENT:
            return None, ""
        raise
    try:
        known = cast("dict[str, Any]", json.loads(answer["Body"].read()))
        previous = tuple(str(each) for each in known["previous"])
        return Alias(alias, str(known["revision"]), previous, str(known["updated"])), answer["ETag"]
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"{bucket.url}/{key} is no alias ({error!r}): delete it and promote again") from error


def _write(bucket: Bucket, model: str, moved: Alias, etag: str) -> Alias:
    try:
        bucket.client.put_object(
            Bucket=bucket.name,
            Key=alias_key(model, moved.alias),
            Body=(json.dumps(asdict(moved), indent=1) + "\n").encode(),
            ContentType="application/json",
            ChecksumAlgorithm="SHA256",
            **({"IfMatch": etag} if etag else {"IfNoneMatch": "*"}),
        )
    except ClientError as error:
        if code(error) not in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409", *manifest.ABSENT):
            raise
        now = find(bucket, model, moved.alias)
        if now and (now.revision, now.previous) == (moved.revision, moved.previous):
            return now  # this write had been made before, and its answer lost
        raise MovedError(
            f"somebody moved {moved.alias} of {model} to {now.revision if now else 'nothing'} at the same time: look"
            " whether your revision is still to be served, then promote again"
        ) from error
    return moved


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
