"""What the pulumi-aws SDK says of its resources and functions, read from its source.

The SDK is generated, so each property is one getter with one annotation, and reading the few classes that a program
uses takes milliseconds; importing them takes seconds and a hundred megabytes.
"""

import ast
import importlib.util
import re
import threading
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path

from local.errors import LocalError
from local.plugins.aws.naming import plain, snake
from local.plugins.aws.shapes import ANY, BOOLEAN, NUMBER, STRING, ListOf, MapOf, ObjectShape, Property, Shape

_CLASS = re.compile(r"^class (\w+)\b", re.MULTILINE)
_GETTER = re.compile(
    r"^    @pulumi\.getter(?:\(name=\"(?P<name>\w+)\"\))?\n(?:\s+@[^\n]+\n)*"
    r"\s+def (?P<python>\w+)\(self\) -> (?P<annotation>[^\n]+):\n",
    re.MULTILINE,
)
_ARGUMENT = re.compile(r"^    __args__\['(\w+)'\] = (\w+)$", re.MULTILINE)
_RESOURCE_TOKEN = re.compile(r"^            '(aws:[\w/]+:\w+)',$", re.MULTILINE)
_FUNCTION_TOKEN = re.compile(r"pulumi\.runtime\.invoke\('(aws:[\w/]+:\w+)'")
_OPTIONAL = re.compile(r"(pulumi\.(Input|Output)\[)?Optional\[")
_SCALARS = {"str": STRING, "bool": BOOLEAN, "int": NUMBER, "float": NUMBER}
_RESERVED_FOLDERS = {"index": "", "lambda": "lambda_"}
"""Modules whose folder has another name."""


class UnknownTokenError(Exception):
    """The SDK has no such resource or function."""


class Sdk:
    """The SDK's resources and functions, by token (`aws:eks/cluster:Cluster`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._files: dict[Path, SourceFile] = {}
        self._objects: dict[tuple[Path, str], ObjectShape] = {}
        self._folders: dict[ObjectShape, Path] = {}

    def resource(self, token: str) -> ObjectShape:
        """All properties of a resource, what it takes and what it gives. Raises UnknownTokenError."""
        file, name = self._find(token)
        return self._object(file.path, name)

    def function(self, token: str) -> ObjectShape:
        """All properties of a function, its arguments and its results. Raises UnknownTokenError."""
        file, name = self._find(token)
        return self._object(file.path, f"{name[:1].upper()}{name[1:]}Result")

    @cached_property
    def configuration(self) -> ObjectShape:
        """What the provider itself is configured with."""
        return self._object(self._folder / "provider.py", "Provider")

    def tokens(self) -> tuple[list[str], list[str]]:
        """The tokens of all resources and of all functions. Reads the whole SDK: takes seconds."""
        resources: set[str] = set()
        functions: set[str] = set()
        for path in self._folder.rglob("*.py"):
            if path.name not in ("outputs.py", "_inputs.py", "_enums.py", "__init__.py"):
                text = path.read_text(encoding="utf-8")
                resources.update(_RESOURCE_TOKEN.findall(text))
                functions.update(_FUNCTION_TOKEN.findall(text))
        return sorted(resources), sorted(functions)

    def module(self, shape: ObjectShape) -> str:
        """The module that a type belongs to, as in its token: `eks`, or `index`."""
        folder = self._folders[shape]
        return "index" if folder == self._folder else folder.name.rstrip("_")

    def _find(self, token: str) -> tuple["SourceFile", str]:
        _, module, name = token.split(":")
        folder, _, stem = module.rpartition("/")
        folder_path = self._folder / _RESERVED_FOLDERS.get(folder, folder)
        path = folder_path / f"{snake(stem)}.py"
        if not path.is_file():
            alike = (file for file in sorted(folder_path.glob("*.py")) if plain(file.stem) == plain(stem))
            path = next(alike, path)
        if not path.is_file():
            raise UnknownTokenError(token)
        return self._file(path), name

    def _file(self, path: Path) -> "SourceFile":
        with self._lock:
            if path not in self._files:
                self._files[path] = SourceFile(path)
            return self._files[path]

    def _object(self, path: Path, name: str) -> ObjectShape:
        with self._lock:
            found = self._objects.get((path, name))
            if found is None:
                found = self._objects[path, name] = ObjectShape(name, lambda: self._properties(path, name))
                self._folders[found] = path.parent
            return found

    def _properties(self, path: Path, name: str) -> Mapping[str, Property]:
        file = self._file(path)
        given = file.getters(name)
        if name.endswith("Result") and path.name not in ("outputs.py", "_inputs.py"):
            taken = file.arguments()
        else:
            taken = file.getters(f"{name}Args") or file.getters(f"{name}InitArgs")
        return {
            key: Property(
                self._shape(path.parent, _parse(annotation)),
                is_input=key in taken,
                is_required=not _OPTIONAL.match(taken.get(key, annotation)),
            )
            for key, annotation in {**taken, **given}.items()
        }

    def _shape(self, folder: Path, annotation: ast.expr) -> Shape:  # noqa: PLR0911  one return a form of annotation
        match annotation:
            case ast.Constant(value=str(text)):
                return self._shape(folder, _parse(text))
            case ast.Subscript(value=value, slice=parameters):
                return self._generic(folder, _last_name(value), parameters)
            case ast.Attribute(value=ast.Name(id="_builtins"), attr=name):
                return _SCALARS.get(name, ANY)
            case ast.Attribute(value=ast.Name(id="outputs"), attr=name):
                return self._object(folder / "outputs.py", name)
            case ast.Name(id=name) if name in _SCALARS:  # `str`, as a key of a mapping
                return _SCALARS[name]
            case ast.Name(id=name) if self._file(folder / "_inputs.py").has(name):
                return self._object(folder / "_inputs.py", name)
            case _:  # of the rest, an enumeration, or another resource, in whose place its name does
                return ANY if _last_name(annotation) in ("Any", "Archive", "Asset", "") else STRING

    def _generic(self, folder: Path, name: str, parameters: ast.expr) -> Shape:
        choices = parameters.elts if isinstance(parameters, ast.Tuple) else [parameters]
        match name:
            case "Sequence":
                return ListOf(self._shape(folder, choices[0]))
            case "Mapping":
                return MapOf(self._shape(folder, choices[1]))
            case "Union":
                shapes = [self._shape(folder, choice) for choice in choices]
                return next((shape for shape in shapes if shape in (STRING, ANY)), shapes[0])
            case _:  # Input, Output, Optional
                return self._shape(folder, choices[0])


class SourceFile:
    """One file of the SDK."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._text = path.read_text(encoding="utf-8") if path.is_file() else ""
        starts = [(match.group(1), match.start()) for match in _CLASS.finditer(self._text)]
        ends = [start for _, start in starts[1:]] + [len(self._text)]
        self._classes = {name: (start, end) for (name, start), end in zip(starts, ends, strict=True)}

    def has(self, name: str) -> bool:
        """Whether the file defines this class."""
        return name in self._classes

    def getters(self, name: str) -> dict[str, str]:
        """The annotation of every property of a class, by the name that Pulumi knows it by; none for no such class."""
        start, end = self._classes.get(name, (0, 0))
        return {
            match["name"] or match["python"]: match["annotation"] for match in _GETTER.finditer(self._text, start, end)
        }

    def arguments(self) -> dict[str, str]:
        """The annotation of every argument of the function that the file defines."""
        match = re.search(r"^def (get_\w+|\w+)\(.*?\) -> Awaitable\w+:$", self._text, re.MULTILINE | re.DOTALL)
        if match is None:
            return {}
        (function,) = ast.parse(f"{match.group()}\n    pass").body
        assert isinstance(function, ast.FunctionDef)
        annotations = {argument.arg: argument.annotation for argument in function.args.args}
        names = dict(_ARGUMENT.findall(self._text, match.end()))
        return {
            name: ast.unparse(annotation)
            for name, python in names.items()
            if (annotation := annotations.get(python)) is not None
        }


@cache
def _parse(annotation: str) -> ast.expr:
    return ast.parse(annotation, mode="eval").body


def _last_name(expression: ast.expr) -> str:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def installed() -> Sdk:
    """The SDK that this Python has. Raises LocalError where it has none."""
    found = importlib.util.find_spec("pulumi_aws")
    if found is None or found.origin is None:
        raise LocalError("the Python package pulumi-aws is not installed", "run `uv sync`")
    return Sdk(Path(found.origin).parent)
