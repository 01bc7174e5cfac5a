"""What a person sees while something takes its time: one line per stage, with how long it took."""

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console

WIDTH_IN_A_FILE = 160
"""Columns where the output isn't a terminal: wide enough that no table is cut short."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH_IN_A_FILE)
errors = Console(stderr=True, highlight=False)


@dataclass
class Stages:
    """Runs named stages, and remembers the seconds that each took."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Shows a spinner while the block runs, then the stage's name and time; says where it stopped if it fails."""
        begun = time.monotonic()
        try:
            with console.status(name):
                yield
        except BaseException:
            console.print(f"[red]✗[/red] {name}")
            raise
        self.seconds[name] = time.monotonic() - begun
        console.print(f"[green]✓[/green] {name} [dim]{self.seconds[name]:.1f} s[/dim]")
