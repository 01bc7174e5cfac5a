"""Aliases move from revision to revision and back, and of two who move one at once one is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from llm_serving.registry import aliases, listing
from llm_serving.registry.aliases import promote, rollback
from llm_serving.registry.errors import MovedError, NotThereError, RegistryError
from llm_serving.registry.push import push
from llm_serving.registry.s3 import Bucket
from tests.model_files import write_model
from tests.s3_harness import Server, s3_client


@pytest.fixture
def revisions(bucket: Bucket, tmp_path: Path) -> Bucket:
    """Three revisions of a model."""
    for revision in "abc":
        push(write_model(tmp_path / revision, revision.encode()), bucket, "m", revision)
    return bucket


def test_promoting_and_rolling_back(revisions: Bucket) -> None:
    assert aliases.find(revisions, "m", "stable") is None
    moves = [promote(revisions, "m", revision, "stable") for revision in "abc"]
    assert [(alias.revision, moved) for alias, moved in moves] == [("a", True), ("b", True), ("c", True)]
    alias = moves[-1][0]
    assert alias.previous == ("b", "a")
    assert promote(revisions, "m", "c", "stable") == (alias, False)
    assert aliases.resolve(revisions, "m", "stable") == "c"
    assert aliases.resolve(revisions, "m", "a") == "a"

    assert rollback(revisions, "m", "stable").revision == "b"
    assert rollback(revisions, "m", "stable").revision == "a"
    with pytest.raises(NotThereError, match="stable of m was only ever a"):
        rollback(revisions, "m", "stable")
    assert aliases.find(revisions, "m", "canary") is None


def test_what_is_in_the_bucket(revisions: Bucket) -> None:
    promote(revisions, "m", "a", "canary")
    text = revisions.client.get_object(Bucket=revisions.name, Key="models/m/aliases/canary.json")["Body"].read()
    assert {**json.loads(text), "updated": ""} == {"alias": "canary", "revision": "a", "previous": [], "updated": ""}


def test_only_what_is_there_is_promoted(revisions: Bucket) -> None:
    with pytest.raises(NotThereError, match=r"has no revision x of m: `llm-serving models list`"):
        promote(revisions, "m", "x", "stable")
    with pytest.raises(RegistryError, match="alias: 'latest' is not one of stable, canary"):
        promote(revisions, "m", "a", "latest")
    with pytest.raises(NotThereError, match="has no stable of m: promote a revision first"):
        rollback(revisions, "m", "stable")
    with pytest.raises(NotThereError, match=r"models promote m REVISION --to canary"):
        aliases.resolve(revisions, "m", "canary")
    promote(revisions, "m", "a", "stable")
    promote(revisions, "m", "b", "stable")
    revisions.client.delete_object(Bucket=revisions.name, Key="models/m/a/manifest.json")
    with pytest.raises(NotThereError, match="has no revision a of m"):
        rollback(revisions, "m", "stable")
    assert aliases.resolve(revisions, "m", "stable") == "b"


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("other", ["b", "c"])
def test_two_promotions_at_once(
    revisions: Bucket, server: Server, monkeypatch: pytest.MonkeyPatch, first: bool, other: str
) -> None:
    if not first:
        promote(revisions, "m", "a", "stable")
    twin = Bucket(revisions.name, s3_client(server.port))
    original = revisions.client.put_object

    def put(**arguments: Any) -> Any:
        promote(twin, "m", other, "stable")
        return original(**arguments)

    monkeypatch.setattr(revisions.client, "put_object", put)
    if other == "b":
        assert promote(revisions, "m", "b", "stable")[0].revision == "b"
    else:
        with pytest.raises(MovedError, match="somebody moved stable of m to c at the same time"):
            promote(revisions, "m", "b", "stable")
    assert aliases.resolve(twin, "m", "stable") == other


def test_an_alias_that_is_none(revisions: Bucket) -> None:
    revisions.client.put_object(Bucket=revisions.name, Key="models/m/aliases/stable.json", Body=b"{}")
    with pytest.raises(RegistryError, match=r"aliases/stable\.json is no alias .*delete it and promote again"):
        promote(revisions, "m", "a", "stable")


def test_listing(revisions: Bucket, model: Path) -> None:
    assert listing.models(Bucket(revisions.name, revisions.client), "other") == []
    push(model, revisions, "other", "1")
    promote(revisions, "m", "a", "stable")
    revisions.client.put_object(Bucket=revisions.name, Key="models/half/1/config.json", Body=b"{}")
    revisions.client.put_object(Bucket=revisions.name, Key="models/m/half/config.json", Body=b"{}")
    revisions.client.put_object(Bucket=revisions.name, Key="models/some body else's/1/manifest.json", Body=b"{}")

    found = listing.models(revisions)
    assert [each.name for each in found] == ["m", "other"]
    assert sorted(known.revision for known in found[0].revisions) == ["a", "b", "c"]
    assert [(alias.alias, alias.revision) for alias in found[0].aliases] == [("stable", "a")]
    assert [each.name for each in listing.models(revisions, "other")] == ["other"]
