"""Writes the AWS resources of a Pulumi state as a Terraform program, so that the two can be measured side by side.

The program plans what Pulumi planned: the same inputs, in the same order, with a reference wherever an input is another
resource's output, so that Terraform doesn't know the value before that resource is there either. What the provider's
version lacks is left out, as the local provider leaves it out.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from local.planning import PLANNED
from local.plugins.aws.conversion import text_of
from local.plugins.aws.pairing import Pairings
from local.plugins.aws.sdk import Sdk
from local.plugins.aws.shapes import ListOf, MapOf, ObjectShape, Shape
from local.plugins.aws.terraform import Terraform, TerraformType
from local.plugins.aws.tokens import Tokens
from local.plugins.aws.translation import Translation
from local.plugins.aws.values import Properties
from local.toolchain.terraform import VERSION

PROVIDER_TOKEN = "pulumi:providers:aws"  # noqa: S105  a type token
COMPUTED = ("id", "tags_all")
"""Attributes that the provider fills in although a program may set them."""

State = Mapping[str, Any]
"""A resource as `pulumi stack export --show-secrets` has it."""


@dataclass(frozen=True)
class Resource:
    """One AWS resource on its way to Terraform."""

    state: State
    kind: TerraformType
    translation: Translation
    label: str
    """Its name in the program, Pulumi's."""
    expressions: dict[str, str] = field(default_factory=dict[str, str])
    """Where each value is found that only AWS can choose: `${aws_vpc.network-vpc.id}`, by the value."""

    @property
    def address(self) -> str:
        """What other resources call it."""
        return f"{self.kind.name}.{self.label}"


class Writer:
    """Writes programs for one SDK and one Terraform provider."""

    def __init__(self, sdk: Sdk, terraform: Terraform) -> None:
        self._pairings = Pairings()
        self._tokens = Tokens(sdk, terraform)
        self._configuration = Translation(self._pairings, sdk.configuration, terraform.configuration)

    def program(self, states: Sequence[State]) -> dict[str, Any]:
        """Returns the program in Terraform's JSON syntax: what a `main.tf.json` holds.

        Raises NoCounterpartError for a type that the provider doesn't have.
        """
        made: dict[str, Resource] = {}
        for state in states:
            if state["type"].startswith("aws:"):
                made[state["urn"]] = self._resource(state)
        provider = next((state for state in states if state["type"] == PROVIDER_TOKEN), None)
        resources: dict[str, dict[str, Any]] = {}
        for each in made.values():
            resources.setdefault(each.kind.name, {})[each.label] = _block(each, made)
        return {
            "terraform": {"required_providers": {"aws": {"source": "hashicorp/aws", "version": VERSION}}},
            "provider": {"aws": self._provider(provider["inputs"] if provider else {})},
            "resource": resources,
        }

    def _resource(self, state: State) -> Resource:
        sdk, kind = self._tokens.resource(state["type"])
        made = Resource(state, kind, Translation(self._pairings, sdk, kind.shape), _label(state["urn"]))
        inputs, outputs = (
            dict(_leaves(_arguments(made, revealed(state.get(key) or {})))) for key in ("inputs", "outputs")
        )
        for path, value in {**outputs, "id": state["id"]}.items():
            if path not in inputs:
                made.expressions.setdefault(value, f"${{{made.address}.{path}}}")
        return made

    def _provider(self, inputs: Properties) -> dict[str, Any]:
        known = self._configuration.sdk.properties
        given = {key: _decoded(value) for key, value in revealed(inputs).items() if key in known}
        return written(self._configuration.inputs_to_bridge(given), self._configuration.bridge)


def revealed(value: Any) -> Any:
    """A part of an exported state without Pulumi's marks: secrets in plain."""
    if isinstance(value, dict):
        if "plaintext" in value:
            return json.loads(cast("str", value["plaintext"]))
        return {key: revealed(part) for key, part in cast("Properties", value).items()}
    return [revealed(part) for part in cast("list[Any]", value)] if isinstance(value, list) else value


def written(value: Any, shape: Shape) -> Any:
    """A value of the bridge as Terraform writes it: its own names, a list around what it takes for a list of one."""
    match shape, value:
        case ObjectShape(), dict():
            known = shape.properties
            return {
                known[name].attribute: [written(part, known[name].shape)]
                if known[name].is_single
                else written(part, known[name].shape)
                for name, part in cast("Properties", value).items()
                if part is not None and name in known
            }
        case MapOf(element=element), dict():
            return {key: written(part, element) for key, part in cast("Properties", value).items()}
        case ListOf(element=element), list():
            return [written(part, element) for part in cast("list[Any]", value)]
        case _:
            return value


def referring(value: Any, expressions: Mapping[str, str]) -> Any:
    """A value in which what another resource gives is an expression, and nothing else is taken for one."""
    if isinstance(value, dict):
        return {key: referring(part, expressions) for key, part in cast("Properties", value).items()}
    if isinstance(value, list):
        return [referring(part, expressions) for part in cast("list[Any]", value)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return expressions.get(text_of(value), value)
    return _text(value, expressions) if isinstance(value, str) else value


def _text(value: str, expressions: Mapping[str, str]) -> str:
    if value in expressions:
        return expressions[value]
    value = value.replace("${", "$${").replace("%{", "%%{")
    # Only what can't be there by chance is looked for inside a text.
    inside = sorted(filter(PLANNED.search, expressions), key=len, reverse=True)
    if not inside:
        return value
    return re.sub("|".join(map(re.escape, inside)), lambda found: expressions[found.group()], value)


def _block(resource: Resource, made: Mapping[str, Resource]) -> dict[str, Any]:
    """A resource's arguments."""
    inputs: Properties = {}
    used: set[str] = set()
    by_property: Mapping[str, Sequence[str]] = resource.state.get("propertyDependencies") or {}
    for name, value in revealed(resource.state.get("inputs") or {}).items():
        behind = [made[urn] for urn in by_property.get(name) or () if urn in made]
        inputs[name] = referring(value, {text: found for each in behind for text, found in each.expressions.items()})
        text = json.dumps(inputs[name])
        used |= {each.address for each in behind if f"${{{each.address}." in text}
    arguments = _arguments(resource, inputs)
    others = {made[urn].address for urn in resource.state.get("dependencies") or () if urn in made}
    return {**arguments, **({"depends_on": sorted(others - used)} if others - used else {})}


def _arguments(resource: Resource, properties: Properties) -> dict[str, Any]:
    """Properties in Terraform's names."""
    translation = resource.translation
    return {
        name: value
        for name, value in written(translation.inputs_to_bridge(properties), translation.bridge).items()
        if name not in COMPUTED
    }


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each text and number in Terraform's words for where it is, as text. Maps are left out: a program sets those."""
    if isinstance(value, dict):
        for key, part in cast("Properties", value).items():
            yield from _leaves(part, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, part in enumerate(cast("list[Any]", value)):
            yield from _leaves(part, f"{path}[{index}]")
    elif isinstance(value, str) and value:
        yield path, value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, text_of(value)


def _label(urn: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", urn.rpartition("::")[2])


def _decoded(value: Any) -> Any:
    """A provider's setting: Pulumi keeps what isn't a string as JSON in one."""
    try:
        return json.loads(value)
    except ValueError:
        return value
