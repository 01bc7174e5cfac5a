"""`llm-serving models`: the model bucket as a registry of revisions and aliases."""

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cli import options as _options
from cli import output, transfer
from cli.inputs import BUCKET, DAMAGED, MODEL_FILES, OPTIONS, REVISION, STRAY, UNVERIFIED, InputError, refuse
from llm_serving.capacity.findings import Check, Finding
from llm_serving.registry.names import ALIAS_NAMES, revision_prefix

if TYPE_CHECKING:
    from llm_serving.registry.aliases import Alias
    from llm_serving.registry.listing import Model
    from llm_serving.registry.manifest import Manifest
    from llm_serving.registry.s3 import Bucket

VARIABLE = "LLM_SERVING_BUCKET"
EXAMPLES = (
    "models push ./Qwen2.5-7B-Instruct --name qwen2-5-7b-instruct --revision a09a354",
    "models list",
    "models show qwen2-5-7b-instruct a09a354",
    "models verify qwen2-5-7b-instruct stable --full",
    "models promote qwen2-5-7b-instruct a09a354 --to canary",
    "models rollback qwen2-5-7b-instruct",
    "models pull qwen2-5-7b-instruct stable --into ./weights",
)
REFUSED: dict[str, Any] = {}
"""What the answer for a program holds besides findings where the question is wrong."""
_STABLE = "stable"


def options(name: str, summary: str) -> argparse.ArgumentParser:
    """What the command takes."""
    parser = _options.parser(name, summary, EXAMPLES)
    parser.add_argument("--bucket", help=_BUCKET_HELP)
    commands = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(action: str, what: str) -> argparse.ArgumentParser:
        examples = "\n".join(f"  llm-serving {line}" for line in EXAMPLES if line.split()[1] == action)
        made = commands.add_parser(
            action,
            help=what,
            description=f"{what[0].upper()}{what[1:]}.",
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        made.add_argument("--json", action="store_true", dest="as_json", default=argparse.SUPPRESS, help=_JSON_HELP)
        made.add_argument("--bucket", default=argparse.SUPPRESS, help=_BUCKET_HELP)
        return made

    push = add("push", "make a folder a revision of a model; goes on where an interrupted push stopped")
    push.add_argument("directory", type=Path, metavar="DIR", help="the model's folder, as the hub has it")
    push.add_argument("--name", required=True, help="the model's name, as in the stack file")
    push.add_argument("--revision", required=True, help="a name for this content, as in a09a354; it never changes")
    listed = add("list", "list models, their revisions and aliases")
    listed.add_argument("name", nargs="?", metavar="NAME", help="only this model")
    show = add("show", "show a revision: its files, and what its config says")
    _reference(show)
    verify = add("verify", "compare a revision with its manifest by the checksums that S3 keeps")
    _reference(verify)
    verify.add_argument("--full", action="store_true", help="read every byte instead")
    promote = add("promote", "make an alias stand for a revision")
    promote.add_argument("name", metavar="NAME")
    promote.add_argument("revision", metavar="REVISION")
    promote.add_argument("--to", choices=ALIAS_NAMES, default=_STABLE, help="default: stable")
    rollback = add("rollback", "make an alias stand for the revision before")
    rollback.add_argument("name", metavar="NAME")
    rollback.add_argument("--alias", choices=ALIAS_NAMES, default=_STABLE, help="default: stable")
    pull = add("pull", "fetch a revision to a folder; goes on where an interrupted pull stopped")
    _reference(pull)
    pull.add_argument("--into", type=Path, metavar="DIR", help="a folder that is not there yet; default: ./NAME")
    return parser


_BUCKET_HELP = f"the model bucket; default: {VARIABLE}"
_JSON_HELP = "print the answer for a program"


def _reference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("revision", nargs="?", default=_STABLE, metavar="REVISION", help="or an alias; default: stable")


def run(given: argparse.Namespace) -> int:
    """Do what was asked; raises InputError with every reason why it can't be done."""
    from llm_serving.registry import errors, s3  # noqa: PLC0415  boto3 takes longer to load than --help may take

    name = given.bucket or os.environ.get(VARIABLE)
    if not name:
        raise refuse(
            OPTIONS,
            "--bucket",
            f"missing: name the model bucket, or set {VARIABLE}; `pulumi stack output modelBucketName` has a stack's",
        )
    try:
        with errors.explained(name):
            bucket = s3.Bucket(name, s3.client())
        return _ACTIONS[given.action](given, bucket)
    except errors.InvalidModelError as error:
        raise InputError(_problem(MODEL_FILES, *line.split(": ", 1)) for line in error.problems) from None
    except errors.BucketError as error:
        raise refuse(BUCKET, given.action, str(error)) from None
    except errors.RegistryError as error:
        raise refuse(REVISION, given.action, str(error)) from None
    except KeyboardInterrupt:
        if given.action in ("push", "pull"):
            kept = "interrupted: nobody sees any of it; the same command goes on where it stopped"
            output.emit([kept], sys.stderr)
        raise


def _problem(check: Check, setting: str, message: str) -> Finding:
    return Finding(check.code, check.severity, setting, message)


def _push(given: argparse.Namespace, bucket: "Bucket") -> int:
    from llm_serving.registry.push import push  # noqa: PLC0415

    with transfer.progress(f"pushing {given.name}") as progress:
        done = push(given.directory, bucket, given.name, given.revision, progress)
    known = done.manifest
    where = f"{bucket.url}/{done.prefix}"
    if given.as_json:
        output.emit_json({"uploaded": done.uploaded, "sent_bytes": done.sent_bytes, "url": where, **_brief(known)})
        return 0
    files = f"{len(known.files)} files, {transfer.size(known.size)}"
    if not done.uploaded:
        output.emit([f"{where} is there already: {files}"])
        return 0
    sent = "" if done.sent_bytes == known.size else f", of which {transfer.size(done.sent_bytes)} had to be sent"
    output.emit(
        [
            f"{where}: {files}{sent}",
            f"in the stack file: revision: {known.revision}, weightGb: {_weight_gb(known)}",
            f"in use: llm-serving models promote {known.model} {known.revision}",
        ]
    )
    return 0


def _list(given: argparse.Namespace, bucket: "Bucket") -> int:
    from llm_serving.registry import listing  # noqa: PLC0415

    found = listing.models(bucket, given.name)
    if given.as_json:
        output.emit_json({"models": [_model_json(model) for model in found]})
        return 0
    if not found:
        output.emit([f"{bucket.url} has no models: `llm-serving models push --help` says how one gets there"])
        return 0
    from rich.table import Table  # noqa: PLC0415  a program's answer does without

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("model", "revision", "alias", "size", "files", "pushed"):
        table.add_column(heading, justify="right" if heading in ("size", "files") else "left", overflow="fold")
    for model in found:
        for known in model.revisions:
            stand = " ".join(alias.alias for alias in model.aliases if alias.revision == known.revision)
            cells = (transfer.size(known.size), str(len(known.files)), known.created or "unknown")
            table.add_row(model.name, known.revision, stand, *cells)
    output.console().print(table)
    return 0


def _show(given: argparse.Namespace, bucket: "Bucket") -> int:
    from llm_serving.registry import aliases, errors, manifest  # noqa: PLC0415

    with errors.explained(bucket.name):
        revision = aliases.resolve(bucket, given.name, given.revision)
        known = manifest.get(bucket, given.name, revision)
    if given.as_json:
        files = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in known.files]
        output.emit_json({**_brief(known), "config": dict(known.config), "files": files})
        return 0
    from rich.table import Table  # noqa: PLC0415  a program's answer does without

    url = f"{bucket.url}/{revision_prefix(known.model, known.revision)}"
    head = [f"{url}: {transfer.size(known.size)}, pushed {known.created or 'at an unknown time'}"]
    head.append(f"in a stack file: revision: {known.revision}, weightGb: {_weight_gb(known)}")
    head.extend(f"{key:15} {_text(value)}" for key, value in known.config.items() if value is not None)
    output.emit([*head, ""])
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right")
    table.add_column("SHA-256", no_wrap=True)
    for file in known.files:
        table.add_row(file.path, transfer.size(file.size), file.sha256)
    output.console().print(table)
    return 0


def _verify(given: argparse.Namespace, bucket: "Bucket") -> int:
    from llm_serving.registry import verification  # noqa: PLC0415

    with transfer.progress(f"verifying {given.name}") as progress:
        done = verification.verify(bucket, given.name, given.revision, full=given.full, progress=progress)
    known = done.manifest
    where = f"{known.model}.{known.revision}"
    findings = [
        *(_problem(DAMAGED, where, f"{line}; push the files as a new revision") for line in done.damaged),
        *(_problem(UNVERIFIED, where, f"{path} has no checksum in S3: verify with --full") for path in done.unchecked),
        *(_problem(STRAY, where, f"{path} is not of this revision: it may be deleted") for path in done.stray),
    ]
    whole = not done.damaged
    if given.as_json:
        output.emit_json({"whole": whole, **_brief(known), "findings": output.findings_json(findings)})
    else:
        output.emit(output.finding_lines(findings))
        how = "read and hashed" if given.full else "compared by S3's checksums"
        files = f"{len(known.files)} files, {transfer.size(known.size)}, {how}"
        output.emit([f"{known.model} {known.revision} is {'whole' if whole else 'damaged'}: {files}"])
    return 0 if whole else 1


def _promote(given: argparse.Namespace, bucket: "Bucket") -> int:
    from llm_serving.registry import aliases  # noqa: PLC0415

    alias, moved = aliases.promote(bucket, given.name, given.revision, given.to)
    was = f", was {alias.previous[0]}" if moved and alias.previous else ""
    said = f"{alias.alias} of {given.name} is {alias.revision}{was}" if moved else _stands(given.name, alias)
    return _moved(given, alias, said, moved=moved)


def _rollback(given: argparse.Namespace, bucket: "Bucket") -> int:
    from llm_serving.registry import aliases  # noqa: PLC0415

    alias = aliases.rollback(bucket, given.name, given.alias)
    return _moved(given, alias, f"{alias.alias} of {given.name} is {alias.revision} again", moved=True)


def _stands(name: str, alias: "Alias") -> str:
    return f"{alias.alias} of {name} is {alias.revision} already"


def _moved(given: argparse.Namespace, alias: "Alias", said: str, *, moved: bool) -> int:
    if given.as_json:
        output.emit_json({"model": given.name, "moved": moved, **_alias_json(alias)})
    else:
        output.emit([said])
    return 0


def _pull(given: argparse.Namespace, bucket: "Bucket") -> int:
    from llm_serving.registry.download import pull  # noqa: PLC0415

    directory = given.into or Path(given.name)
    with transfer.progress(f"pulling {given.name}") as progress:
        done = pull(bucket, given.name, given.revision, directory, progress)
    known = done.manifest
    if given.as_json:
        output.emit_json({"directory": str(directory), "fetched_bytes": done.fetched_bytes, **_brief(known)})
    else:
        files = f"{len(known.files)} files, {transfer.size(known.size)}, verified"
        output.emit([f"{known.model} {known.revision} is in {directory}: {files}"])
    return 0


def _brief(known: "Manifest") -> dict[str, Any]:
    return {
        "model": known.model,
        "revision": known.revision,
        "size_bytes": known.size,
        "weight_gb": _weight_gb(known),
        "file_count": len(known.files),
        "created": known.created,
    }


def _model_json(model: "Model") -> dict[str, Any]:
    return {
        "name": model.name,
        "revisions": [_brief(known) for known in model.revisions],
        "aliases": [_alias_json(alias) for alias in model.aliases],
    }


def _alias_json(alias: "Alias") -> dict[str, Any]:
    return {
        "alias": alias.alias,
        "revision": alias.revision,
        "previous": list(alias.previous),
        "updated": alias.updated,
    }


def _weight_gb(known: "Manifest") -> float:
    """What `weightGb` in a stack file should be: rounded up to a thousandth."""
    return -(-known.size // 1_000_000) / 1000


def _text(value: Any) -> str:
    return ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)


_ACTIONS: Mapping[str, Callable[[argparse.Namespace, "Bucket"], int]] = {
    "push": _push,
    "list": _list,
    "show": _show,
    "verify": _verify,
    "promote": _promote,
    "rollback": _rollback,
    "pull": _pull,
}
