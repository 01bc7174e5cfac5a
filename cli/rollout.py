"""`llm-serving rollout`: versions of a model, and the steps of a rollout as edits of the stack file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import options as _options
from cli import output
from cli.inputs import OPTIONS, RANGE, Problems, refuse

if TYPE_CHECKING:
    from cli.stack_edit import Edited
    from infra.settings import Settings

STEPS = {
    "status": "show every version with its revision and weight",
    "start": "add a version of another revision, with a part of the requests or copies of them",
    "set": "set weights; what they leave of 100 is stable's",
    "promote": "give the canary all requests; again, and stable takes its settings and the requests",
    "rollback": "give stable all requests again",
    "clean": "remove versions without requests",
}
EXAMPLES = (
    "rollout status --stack stacks/Pulumi.prod.yaml",
    "rollout start chat --revision a09a354 --weight 10 --stack stacks/Pulumi.prod.yaml",
    "rollout start chat --revision a09a354 --shadow --weight 20 --stack stacks/Pulumi.prod.yaml --dry-run",
    "rollout set chat canary=50 --stack stacks/Pulumi.prod.yaml",
    "rollout promote chat --stack stacks/Pulumi.prod.yaml",
    "rollout rollback chat --stack stacks/Pulumi.prod.yaml --json",
)
REFUSED: dict[str, Any] = {"written": False}
"""What the answer for a program holds besides findings where the question is wrong."""


def options(name: str, summary: str) -> argparse.ArgumentParser:
    """What the command takes."""
    parser = _options.parser(name, summary, EXAMPLES)
    add = parser.add_argument
    steps = "; ".join(f"{step}: {what}" for step, what in STEPS.items())
    add("step", choices=STEPS, metavar="STEP", help=steps)
    add("model", nargs="?", metavar="MODEL", help="a model of the stack; status shows all without it")
    add("weights", nargs="*", metavar="VERSION=PERCENT", help="of set: weights, as in canary=10")
    add("--stack", type=Path, metavar="FILE", required=True, help="a stack file, as in stacks/Pulumi.prod.yaml")
    add("--revision", metavar="NAME", help="of start: the revision of the model bucket to try")
    add("--weight", metavar="PERCENT", help="of start: percent of the requests, or of copies; default: 10")
    add("--shadow", action="store_true", help="of start: the version gets copies, and nobody its answers")
    add("--version", metavar="NAME", help="of start: the version's name; default: canary, or shadow with --shadow")
    add("--dry-run", action="store_true", help="show what would change, and write nothing")
    return parser


def run(given: argparse.Namespace) -> int:
    """Take a step, and return the exit status; raises InputError with every mistake of the question."""
    problems = Problems()
    weights = _weights(given, problems)
    _check(given, problems)
    weight = _options.Numbers(given, problems).whole("--weight", 0, 100)
    problems.stop()
    if given.step == "status":
        return _status(given)
    from cli import rollout_edits, stack_edit  # noqa: PLC0415  the program's settings and pydantic with them

    name = given.version or (rollout_edits.SHADOW if given.shadow else rollout_edits.CANARY)
    done: list[bool] = []

    def edit(model: rollout_edits.Model) -> None:
        match given.step:
            case "start":
                share = 10 if weight is None else weight
                rollout_edits.start(model, name, given.revision, share, shadow=given.shadow)
            case "set":
                rollout_edits.shift(model, weights)
            case "promote":
                done.append(rollout_edits.promote(model))
            case "rollback":
                rollout_edits.rollback(model)
            case _:
                rollout_edits.clean(model)

    edited = stack_edit.edit_model(given.stack, given.model, edit)
    if edited.diff and not given.dry_run:
        edited.write()
    _show(given, edited, promoted=any(done))
    return 0


def _check(given: argparse.Namespace, problems: Problems) -> None:
    """Say what a step lacks, and what it does not take."""
    step = given.step
    if step != "status" and given.model is None:
        problems.add(OPTIONS, "MODEL", f"is missing: {step} is about one model")
    if step == "set" and not given.weights:
        problems.add(OPTIONS, "VERSION=PERCENT", "is missing, as in canary=10")
    if step != "set" and given.weights:
        problems.add(OPTIONS, "VERSION=PERCENT", "is for set only", ("set",))
    if step == "start" and given.revision is None:
        problems.add(OPTIONS, "--revision", "is missing: start needs the revision to try")
    for option in ("revision", "weight", "shadow", "version"):
        if step != "start" and getattr(given, option):
            problems.add(OPTIONS, f"--{option}", "is for start only", ("start",))


def _weights(given: argparse.Namespace, problems: Problems) -> dict[str, int]:
    weights: dict[str, int] = {}
    for text in given.weights:
        version, _, percent = text.partition("=")
        if version and percent.isascii() and percent.isdigit() and int(percent) <= 100:
            weights[version] = int(percent)
        else:
            message = f"{text!r} is no version and whole percentage from 0 to 100; nearest valid value: canary=10"
            problems.add(RANGE, "VERSION=PERCENT", message, ("canary=10",))
    return weights


def versions_json(settings: "Settings", only: str | None = None) -> list[dict[str, Any]]:
    """Every version of a stack's models, or of one of them, for a program."""
    from llm_serving.versions import STABLE, WHOLE, service_name  # noqa: PLC0415

    return [
        {
            "model": name,
            "version": version,
            "service": service_name(name, version),
            "revision": model.version(version).revision,
            "runtime": model.version(version).runtime,
            "replicas": model.version(version).least_replicas,
            "max_replicas": model.version(version).most_replicas,
            "weight": model.versions[version].weight if model.versions else WHOLE,
            "shadow": model.versions[version].shadow if model.versions else False,
        }
        for name, model in settings.models.items()
        for version in model.versions or (STABLE,)
        if only in (None, name)
    ]


def _status(given: argparse.Namespace) -> int:
    from cli import stack_file  # noqa: PLC0415
    from llm_serving._checks import nearest  # noqa: PLC0415

    settings = stack_file.settings(given.stack)
    if given.model not in (None, *settings.models):
        near = nearest(given.model, settings.models)
        raise refuse(OPTIONS, "MODEL", f"{given.model!r} is no model of {given.stack}; nearest valid value: {near}")
    found = versions_json(settings, given.model)
    if given.as_json:
        output.emit_json({"stack": stack_file.stack_name(given.stack), "versions": found, "findings": []})
    else:
        _table(found)
    return 0


def _table(found: Sequence[dict[str, Any]]) -> None:
    from rich.table import Table  # noqa: PLC0415  a program's answer does without

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("model", "version", "revision", "runtime", "service"):
        table.add_column(heading, overflow="fold")
    for heading in ("replicas", "requests"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in found:
        share = f"{each['weight']} %" + (" copied" if each["shadow"] else "")
        shown = (each[key] for key in ("model", "version", "revision", "runtime", "service"))
        least, most = each["replicas"], each["max_replicas"]
        table.add_row(*shown, str(least) if least == most else f"{least} to {most}", share)
    output.console().print(table)


def _show(given: argparse.Namespace, edited: "Edited", *, promoted: bool) -> None:
    from cli.stack_file import stack_name  # noqa: PLC0415

    written = bool(edited.diff) and not given.dry_run
    found = versions_json(edited.settings, given.model)
    if given.as_json:
        stack = stack_name(given.stack)
        answer = {"stack": stack, "written": written, "diff": edited.diff, "versions": found, "findings": []}
        output.emit_json(answer)
        return
    if not edited.diff:
        output.emit([f"nothing to change: {given.stack} says so already"])
        return
    colours = {"+": "green", "-": "red"}
    output.emit(output.styled(line, colours.get(line[0], "white")) for line in edited.diff)
    output.emit([""])
    _table(found)
    output.emit(["", *_next(given, promoted=promoted)])


def _next(given: argparse.Namespace, *, promoted: bool) -> list[str]:
    """What to do next."""
    from cli.stack_file import stack_name  # noqa: PLC0415

    if given.dry_run:
        return [f"nothing was written to {given.stack}"]
    lines = [f"written to {given.stack}; put it in force with: pulumi up --stack {stack_name(given.stack)}"]
    step = f"llm-serving rollout {{}} {given.model} --stack {given.stack}"
    if given.step == "promote" and not promoted:
        lines.append(f"stable stays up without requests; back: {step.format('rollback')}")
        lines.append(f"when all is well, make the canary's settings stable's: {step.format('promote')}")
    elif given.step == "rollback" or promoted:
        lines.append(f"when that is done, remove what is left of the rollout: {step.format('clean')}")
    return lines
