"""`docs/iam/`: with exactly these policies the whole of prod's AWS part is previewed, made, changed and destroyed."""

import json
from collections.abc import Generator

import pytest

from tests.security.iam_documents import filled
from tests.security.iam_run import CHANGES, DOCUMENTS, Stack, deploying, kept, running

LONGEST = 6144
"""IAM's quota of a managed policy in characters, without white space."""
LONG = {
    "account": "000000000000", "region": "ap-southeast-1", "stack": "a-stack-with-a-long-name", "domain": "a" * 253,
    "zone": "Z" * 32,
}  # fmt: skip


def test_documents_are_those_that_the_text_names() -> None:
    assert sorted(path.stem for path in DOCUMENTS.glob("*.json")) == [
        "deploy", "deploy-edge", "deploy-network", "preview",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["preview", "deploy", "deploy-network", "deploy-edge"])
def test_a_document_names_its_actions_and_fits_into_iam(name: str) -> None:
    document = json.loads((DOCUMENTS / f"{name}.json").read_text())
    actions = [action for each in document["Statement"] for action in _list(each["Action"])]
    assert not [action for action in actions if "*" in action]
    assert len(json.dumps(json.loads(filled(document, **LONG)), separators=(",", ":"))) <= LONGEST


def test_a_preview_only_reads() -> None:
    document = json.loads((DOCUMENTS / "preview.json").read_text())
    actions = [action.partition(":")[2] for each in document["Statement"] for action in _list(each["Action"])]
    assert not [action for action in actions if not action.startswith(("Describe", "Get", "List", "GET", "Head"))]


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Stack]:
    with running(tmp_path_factory.mktemp("iam")) as stack:
        yield stack


@pytest.mark.local
def test_prod_is_made_changed_and_destroyed_with_these_policies_and_nothing_more(stack: Stack) -> None:
    """The files differ from what was called only where the emulator does: see `iam_documents.DEPLOY`."""
    stack.user("nobody", kept("preview").replace('"Allow"', '"Deny"'))
    assert stack.run("preview").returncode != 0
    stack.user("previews", kept("preview"))
    stack.preview()
    assert stack.run("up", "--yes", "--skip-preview").returncode != 0
    stack.user("deploys", *deploying(stack.zone))
    stack.up()
    stack.configure(CHANGES)
    stack.user("previews-again", kept("preview"))
    stack.preview()
    stack.user("deploys-again", *deploying(stack.zone))
    stack.up()
    stack.succeed("refresh", "--yes", "--skip-preview")
    stack.destroy()
    assert json.loads(stack.succeed("stack", "export"))["deployment"].get("resources", []) == []
