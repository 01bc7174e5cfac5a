"""The commands of `llm-serving`. Each module has the options of its command and runs it; it is loaded when it is asked.

A command's `options` adds what it takes, and its `run` prints an answer and returns the exit status, or raises
InputError with every mistake in what it was asked.
"""

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from cli import output
from cli.inputs import InputError

COMMANDS = {
    "fit": "say whether a model runs on an instance type, and what would do instead",
    "plan": "show what a stack runs where and costs, or choose hardware for a model and a load",
    "rollout": "shift requests between the versions of a model, by edits of the stack file",
    "checks": "list every code that a finding may have",
    "catalog": "list what the checks know, or ask AWS for news",
    "models": "push models to the model bucket, and say which revision is in use",
}
"""Every command, with what it does; the module of its name runs it."""
INTERRUPTED = 130
"""The exit status of a command that Ctrl-C ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0, or 1 where something stops a deployment or was asked wrongly.

    :param arguments: What follows the program's name on the command line; None for this process's.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an output that lacks a character shows a question mark
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has had enough; nothing more may be written, not even when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(given: list[str]) -> int:
    name = given[0] if given else ""
    if name not in COMMANDS:
        _parser().parse_args(given or ["--help"])  # says what there is, or that there is no such command, and ends
    command = importlib.import_module(f"cli.{name}")
    parser = command.options(name, COMMANDS[name])
    options = parser.parse_args(given[1:])
    try:
        status = command.run(options)
        sys.stdout.flush()
    except InputError as error:
        output.emit(output.finding_lines(error.findings, sys.stderr), sys.stderr)
        if options.as_json:
            output.emit_json({**command.REFUSED, "findings": output.findings_json(error.findings)})
        return 1
    return int(status)


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:10}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="llm-serving",
        description="What fits where, what a stack needs and costs, the model bucket, and rollouts of models.",
        epilog=f"commands:\n{listed}\n\n`llm-serving COMMAND --help` has the options of each, with examples.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="llm-serving [-h] COMMAND ...",
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser
