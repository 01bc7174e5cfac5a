"""Changes a stack file in place: comments and order stay, and it is written whole, valid, or not at all."""

import copy
import difflib
import io
import os
import tempfile
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cli import stack_file
from cli.inputs import FILE, STACK, refuse
from llm_serving._checks import nearest

if TYPE_CHECKING:
    from infra.settings import Settings

MODELS = "llm-serving:models"
"""The key of a stack file's `config:` that models are below."""
Edit = Callable[[MutableMapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Edited:
    """A stack file as it was, and as it is to be."""

    path: Path
    before: str
    after: str
    settings: "Settings"
    """Of what it is to be."""

    @property
    def diff(self) -> list[str]:
        """The lines of a unified diff; none where nothing changes."""
        before, after, name = self.before.splitlines(), self.after.splitlines(), str(self.path)
        return list(difflib.unified_diff(before, after, name, name, n=2, lineterm=""))

    def write(self) -> None:
        """Replace the file at once; raises InputError, and leaves it as it was, where that cannot be done."""
        target = self.path.resolve()
        try:
            handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(self.after)
                file.flush()
                os.fsync(handle)
                os.fchmod(handle, target.stat().st_mode & 0o7777)
            Path(name).replace(target)
        except OSError as error:
            raise _unwritable(self.path, error) from None
        finally:
            Path(name).unlink(missing_ok=True)


def edit_model(path: Path, name: str, edit: Edit) -> Edited:
    """Apply `edit` to the settings of a model; raises InputError with everything that is wrong with the result.

    Nothing is written yet. `edit` raises ValueError, as `key: problem` below the model, for what cannot be done.
    """
    import yaml  # noqa: PLC0415

    before = stack_file.text(path)
    wanted = copy.deepcopy(stack_file.document(path, before))
    _apply(path, wanted, name, edit)
    settings = stack_file.settings_in(path, wanted)
    after = _rewritten(path, before, lambda document: _apply(path, document, name, edit))
    if yaml.safe_load(after) != wanted:
        raise refuse(STACK, "--stack", f"{path} cannot be rewritten without changing more of it; edit it by hand")
    return Edited(path, before, after if wanted != stack_file.document(path, before) else before, settings)


def _apply(path: Path, document: MutableMapping[str, Any], name: str, edit: Edit) -> None:
    if not isinstance(document["config"].get(MODELS), MutableMapping) or not document["config"][MODELS]:
        raise refuse(STACK, MODELS, "is no group of models")
    models: MutableMapping[str, Any] = document["config"][MODELS]
    if name not in models:
        near = nearest(name, map(str, models))
        raise refuse(STACK, f"{MODELS}.{name}", f"is no model of {path}; nearest valid value: {near}")
    try:
        edit(models[name])
    except ValueError as error:
        setting, _, problem = str(error).partition(": ")
        raise refuse(STACK, f"{MODELS}.{name}.{setting}", problem) from None
    except (TypeError, KeyError, AttributeError):
        # The edits take a valid file's types for granted; this one's mistakes are told first.
        stack_file.settings(path)
        raise


def _rewritten(path: Path, text: str, edit: Callable[[MutableMapping[str, Any]], None]) -> str:
    from ruamel.yaml import YAML, util  # noqa: PLC0415  only an edit needs it
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    guess = cast(Callable[[str], tuple[Any, int | None, int | None]], vars(util)["load_yaml_guess_indent"])
    parser: Any = YAML()
    parser.preserve_quotes = True
    parser.width = 10_000
    parser.explicit_start = any(line.rstrip() == "---" for line in text.splitlines())
    try:
        _, indent, offset = guess(text)
        document = parser.load(text)
    except YAMLError as error:
        raise refuse(STACK, "--stack", f"{path} is no YAML 1.2: {' '.join(str(error).split())}") from None
    if offset is not None:
        parser.indent(mapping=2, sequence=indent or 2, offset=offset)
    edit(document)
    _quote(document["config"][MODELS])
    stream = io.StringIO()
    parser.dump(document, stream)
    return stream.getvalue()


def _quote(values: MutableMapping[str, Any]) -> None:
    """Put text into double quotes that a reader would take for something else, as the revision "2"."""
    import yaml  # noqa: PLC0415
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString  # noqa: PLC0415

    for key, value in values.items():
        if isinstance(value, MutableMapping):
            _quote(value)  # pyright: ignore[reportUnknownArgumentType]
        elif type(value) is str and yaml.safe_load(value) != value:
            values[key] = DoubleQuotedScalarString(value)


def _unwritable(path: Path, error: OSError) -> Exception:
    return refuse(FILE, "--stack", f"{path} cannot be written: {error.strerror}; it is as it was")
