"""The commands behind the Makefile."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from local import environment
from local.asking import Answer, Client
from local.console import console, errors
from local.errors import LocalError
from local.paths import ROOT, STATE

app = typer.Typer(
    help="The LLM-serving environment on this machine.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
)  # fmt: skip
INTERRUPTED = 130
"""The exit status that Typer gives a command that Ctrl-C ended."""
QUESTION = "In one sentence, what is a GPU?"


@app.command()
def up() -> None:
    """Bring a whole environment up, ask its model a question, and ask it again to show the cache."""
    begun = time.monotonic()
    result = environment.up()
    outputs = result.engine.outputs()
    client = Client.of(outputs) if outputs["apiKeys"] else None
    if client is not None:
        with result.stages.stage("the model answers"):
            client.wait(environment.MODEL)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for label, key in (
        ("API Gateway", "apiGatewayUrl"),
        ("model bucket", "modelBucketName"),
        ("cache", "cacheEndpoint"),
        ("cluster", "clusterName"),
    ):
        table.add_row(label, str(outputs[key]))
    table.add_row("resources", result.outcome.summary())
    table.add_row("took", f"{time.monotonic() - begun:.0f} s")
    console.print(Panel(table, title="The environment is up", expand=False))
    for warning in result.outcome.warnings:
        console.print(f"[yellow]note[/yellow] {escape(warning)}")
    if client is None:
        console.print("the API takes tokens of an issuer, so nothing is asked: docs/identity.md")
        return
    question = os.environ.get("PROMPT") or QUESTION
    console.print(f"[bold]Question[/bold] {escape(question)}")
    _show(client.ask(environment.MODEL, question, fresh=True))
    _show(client.ask(environment.MODEL, question))


@app.command()
def ask(
    prompt: Annotated[str, typer.Argument(envvar="PROMPT", help="The question.")] = QUESTION,
    stream: Annotated[bool, typer.Option(help="Print the answer as it is generated.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer for a program.")] = False,
) -> None:
    """Ask the model a question through the API Gateway: ask "What is a GPU?" --stream"""
    client = Client.of(environment.engine().outputs())
    if stream:
        for piece in client.stream(environment.MODEL, prompt):
            console.out(piece, end="")
        console.print()
        return
    answer = client.ask(environment.MODEL, prompt)
    if as_json:
        sys.stdout.write(json.dumps({"text": answer.text, "seconds": answer.seconds, "cache": answer.cache}) + "\n")
    else:
        _show(answer)


def _show(answer: Answer) -> None:
    who = "Cache" if answer.cache == "hit" else "Model"
    console.print(f"[bold]{who}[/bold] [dim]({answer.seconds * 1000:.0f} ms)[/dim] ", end="")
    console.out(answer.text)


@app.command()
def down() -> None:
    """Stop the environment; its state is kept for the next `up`."""
    environment.require_root()
    with environment.exclusive():
        environment.stop()
    console.print("stopped; the state is kept, `make up` brings it back")


@app.command()
def destroy() -> None:
    """Delete every resource of the stack, then stop the environment."""
    environment.require_root()
    with environment.exclusive():
        outcome = environment.destroy()
        environment.stop()
    console.print(outcome.summary())


@app.command()
def reset() -> None:
    """Stop the environment and delete its state."""
    environment.require_root()
    with environment.exclusive():
        environment.reset()
    console.print("stopped, and the state is deleted")


@app.command()
def tools() -> None:
    """Build every program that the environment and the tests need, and nothing else."""
    environment.prepare_tests()


@app.command()
def preview(
    stack: Annotated[str, typer.Argument(help="A stack of stacks/.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan for a program.")] = False,
    base: Annotated[str, typer.Option(hidden=True)] = "",
    record: Annotated[bool, typer.Option(hidden=True)] = False,
    here: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Preview a stack on the real engine against a throw-away cloud: no credentials, no root."""
    from local import preview as previews  # noqa: PLC0415  only previews need them
    from local.preview_comment import headline  # noqa: PLC0415

    if here or as_json:
        console.file = sys.stderr
    if here and record:
        sys.stdout.write(json.dumps(previews.record(stack)) + "\n")
        return
    if here:  # the process with the throw-away state
        plan = previews.compare(stack, Path(base)) if base else previews.preview(stack)
        sys.stdout.write(json.dumps(plan.as_json()) + "\n")
        return
    plan = previews.planned(stack)
    if as_json:
        sys.stdout.write(json.dumps(plan.as_json(), indent=1) + "\n")
        return
    for message in [*(finding.text for finding in plan.findings), *plan.warnings]:
        console.print(f"[yellow]note[/yellow] {escape(message)}")
    console.print(f"{stack}: {headline(plan)}")


@app.command()
def preview_comment(
    base: Annotated[str, typer.Argument(help="What to compare with: a branch, tag or commit.")],
    stacks: Annotated[list[str] | None, typer.Argument(help="Stacks. Default: those that differ.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plans for a program.")] = False,
) -> None:
    """Say, for a pull request, what the changes since a commit would do to each stack: preview-comment origin/main"""
    from local import preview as previews  # noqa: PLC0415
    from local.preview_comment import comment  # noqa: PLC0415

    console.file = sys.stderr
    plans = previews.plans(base, stacks)
    text = json.dumps([plan.as_json() for plan in plans], indent=1) + "\n" if as_json else comment(base, plans)
    sys.stdout.write(text)
    if any(plan.problems for plan in plans):
        raise typer.Exit(1)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print it for a program.")] = False) -> None:
    """Show what runs, where, and its health."""
    from local import status as screen  # noqa: PLC0415  only this command needs it

    screen.show(as_json=as_json)


@app.command()
def dashboards(
    minutes: Annotated[float, typer.Option(min=1, help="How much of the past to show, in minutes.")] = 30,
    folder: Annotated[Path, typer.Option(help="Where to write.")] = STATE / "dashboards",
) -> None:
    """Draw every dashboard from the environment's Prometheus, as HTML and PNG: dashboards --minutes 15"""
    from local import dashboards as drawing  # noqa: PLC0415  matplotlib is slow to import
    from local import monitoring  # noqa: PLC0415

    found = monitoring.find()
    with console.status("drawing"):
        drawn = drawing.render(found.url, found.dashboards, folder, drawing.Span.until_now(minutes * 60))
    table = Table("dashboard", "panels", "empty", "refused", box=None)
    for uid, document in found.dashboards.items():
        mine = [panel for panel in drawn if panel.dashboard == uid]
        empty, refused = sum(not panel.series for panel in mine), sum(bool(panel.problem) for panel in mine)
        table.add_row(document["title"], str(len(mine)), str(empty or ""), str(refused or ""))
    console.print(table)
    console.print(f"open {folder / 'index.html'}", soft_wrap=True)


@app.command()
def test() -> None:
    """Run every test, the fast ones first."""
    environment.require_root()
    environment.install_packages()
    _pytest("fast tests", "not local and not environment", "--numprocesses=auto")
    environment.prepare_tests()
    _pytest("the real engine and the local cloud", "local")
    _pytest("the whole environment", "environment")


def _pytest(title: str, marker: str, *options: str) -> None:
    console.rule(title)
    if code := subprocess.run(["pytest", "-m", marker, *options], cwd=ROOT, check=False).returncode:
        raise typer.Exit(code)


@app.command()
def bench() -> None:
    """Measure the checks, a preview, start-up, a run with no change, and memory; write bench/."""
    from local import bench as benchmark  # noqa: PLC0415

    benchmark.run()


def main() -> None:
    """Runs a command; a problem that the user can mend is one line, not a traceback."""
    try:
        app()
    except LocalError as error:
        errors.print(f"[red]error[/red] {escape(error.problem)}", soft_wrap=True)
        if error.remedy:
            errors.print(f"      [dim]{escape(error.remedy)}[/dim]", soft_wrap=True)
        sys.exit(1)
    except SystemExit as leave:
        if leave.code != INTERRUPTED:
            raise
        errors.print("[red]stopped[/red] by Ctrl-C; `make up` goes on from here")
        sys.exit(1)
