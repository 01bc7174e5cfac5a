"""What a command line or a stack file gets wrong before anything can be computed: one finding for each mistake."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from llm_serving.capacity import catalog
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.model_shape import ModelShape

Found = TypeVar("Found")
UNKNOWN = Check(
    "INPUT_UNKNOWN",
    "error",
    "An option names a model, an instance type, a runtime or a part of the catalog that is not known.",
)
RANGE = Check("INPUT_RANGE", "error", "A number on the command line is none, or outside what the option takes.")
MODEL = Check("INPUT_MODEL", "error", "A config.json cannot be read, or is not that of a language model.")
STACK = Check("INPUT_STACK", "error", "A stack file cannot be read, or holds settings that the program refuses.")
OPTIONS = Check("INPUT_OPTIONS", "error", "Options are missing, or exclude each other.")
FILE = Check("INPUT_FILE", "error", "A file cannot be written.")
AWS = Check("INPUT_AWS", "error", "AWS cannot be asked what is to be looked up.")
MODEL_FILES = Check("INPUT_MODEL_FILES", "error", "A model's folder lacks what a runtime needs, or has a broken file.")
BUCKET = Check("INPUT_BUCKET", "error", "The model bucket cannot be reached, or refuses what it is asked.")
REVISION = Check(
    "INPUT_REVISION",
    "error",
    "A revision or alias is not there, exists with other content, or was changed by somebody else at the same time.",
)
DAMAGED = Check("REVISION_DAMAGED", "error", "A file in the model bucket is not what the revision's manifest says.")
UNVERIFIED = Check(
    "REVISION_UNVERIFIED", "unchecked", "S3 keeps no checksum of a file that could be compared with the manifest."
)
STRAY = Check("REVISION_STRAY", "warning", "The model bucket holds an object that no manifest names and no pod loads.")
CHECKS = (
    *(UNKNOWN, RANGE, MODEL, STACK, OPTIONS, FILE, AWS, MODEL_FILES, BUCKET, REVISION),
    *(DAMAGED, UNVERIFIED, STRAY),
)
"""Every kind of mistake that the command line itself finds."""


class InputError(Exception):
    """What was asked cannot be computed. `findings` holds one for each reason."""

    def __init__(self, findings: Iterable[Finding]):
        self.findings = tuple(findings)
        super().__init__("\n".join(str(finding) for finding in self.findings))


class Problems:
    """Collects mistakes, so that all are told at once."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def add(self, check: Check, setting: str, message: str, alternatives: Iterable[str] = ()) -> None:
        """Remember one mistake."""
        self.findings.append(Finding(check.code, check.severity, setting, message, tuple(alternatives)))

    def raised(self, check: Check, setting: str, error: ValueError) -> None:
        """Remember what a look-up raised: each line of it is a mistake, and may end with `catalog.near_matches`."""
        for line in str(error).splitlines():
            near = line.partition("; nearest: ")[2].partition(";")[0]
            self.add(check, setting, line, near.split(", ") if near else ())

    def found(self, check: Check, setting: str, look_up: Callable[[], Found]) -> Found | None:
        """Return what `look_up` returns; None, and the mistake remembered, where it raises ValueError."""
        try:
            return look_up()
        except ValueError as error:
            self.raised(check, setting, error)
            return None

    def stop(self) -> None:
        """Raise InputError if anything was found."""
        if self.findings:
            raise InputError(self.findings)


def refuse(check: Check, setting: str, message: str) -> InputError:
    """The error for a single mistake, to be raised."""
    return InputError([Finding(check.code, check.severity, setting, message)])


def resolve_model(problems: Problems, reference: str, base: Path) -> ModelShape | None:
    """The model that --model means; None, with the mistakes remembered, where it means none.

    :param base: Where a relative path begins.
    """
    from llm_serving.capacity import model_config  # noqa: PLC0415  only some commands need it

    try:
        return model_config.resolve(reference, base)
    except ValueError as error:
        problems.raised(UNKNOWN if isinstance(error, catalog.UnknownError) else MODEL, "--model", error)
        return None
