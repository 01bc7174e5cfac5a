"""The package's schema, for those who ask for it: `pulumi import` writes its code by it, `pulumi package` shows it.

It is made from the SDK's source, without descriptions. Only what has a counterpart in Terraform's provider is in it.
"""

from typing import Any

from local.plugins.aws.sdk import Sdk
from local.plugins.aws.shapes import Kind, ListOf, MapOf, ObjectShape, Scalar, Shape
from local.plugins.aws.tokens import NoCounterpartError, Tokens

Spec = dict[str, Any]


def package_schema(sdk: Sdk, tokens: Tokens, version: str) -> Spec:
    """The schema of what is served. Reads the whole SDK: takes seconds."""
    return _Writer(sdk, tokens).package(version)


class _Writer:
    def __init__(self, sdk: Sdk, tokens: Tokens) -> None:
        self._sdk = sdk
        self._tokens = tokens
        self._types: dict[str, Spec] = {}
        self._known: dict[ObjectShape, str] = {}

    def package(self, version: str) -> Spec:
        resources, functions = self._sdk.tokens()
        configuration = self._properties(self._sdk.configuration)
        return {
            "name": "aws",
            "version": version,
            "meta": {"moduleFormat": "(.*)(?:/[^/]*)"},
            "config": {"variables": configuration},
            "provider": {"inputProperties": configuration},
            "resources": {token: self._resource(token) for token in resources if self._is_resource(token)},
            "functions": {token: self._function(token) for token in functions if self._is_function(token)},
            "types": self._types,
        }

    def _is_resource(self, token: str) -> bool:
        try:
            self._tokens.resource(token)
        except NoCounterpartError:
            return False
        return True

    def _is_function(self, token: str) -> bool:
        try:
            self._tokens.function(token)
        except NoCounterpartError:
            return False
        return True

    def _resource(self, token: str) -> Spec:
        shape = self._sdk.resource(token)
        properties = self._properties(shape)
        inputs = {name for name, found in shape.properties.items() if found.is_input}
        required = sorted(name for name, found in shape.properties.items() if found.is_required)
        return {
            "properties": properties,
            "required": required,
            "inputProperties": {name: spec for name, spec in properties.items() if name in inputs},
            "requiredInputs": [name for name in required if name in inputs],
        }

    def _function(self, token: str) -> Spec:
        shape = self._sdk.function(token)
        properties = self._properties(shape)
        inputs = {name: found for name, found in shape.properties.items() if found.is_input}
        return {
            "inputs": {
                "type": "object",
                "properties": {name: properties[name] for name in inputs},
                "required": sorted(name for name, found in inputs.items() if found.is_required),
            },
            "outputs": {"type": "object", "properties": properties},
        }

    def _properties(self, shape: ObjectShape) -> Spec:
        return {name: self._shape(found.shape) for name, found in shape.properties.items()}

    def _shape(self, shape: Shape) -> Spec:
        match shape:
            case Scalar(kind=Kind.ANY):
                return {"$ref": "pulumi.json#/Any"}
            case Scalar(kind=kind):
                return {"type": kind.value}
            case ListOf(element=element):
                return {"type": "array", "items": self._shape(element)}
            case MapOf(element=element):
                return {"type": "object", "additionalProperties": self._shape(element)}
            case ObjectShape():
                return {"$ref": f"#/types/{self._type(shape)}"}

    def _type(self, shape: ObjectShape) -> str:
        known = self._known.get(shape)
        if known is None:
            module = self._sdk.module(shape)
            known = self._known[shape] = f"aws:{module}/{shape.name}:{shape.name}"
            spec: Spec = {"type": "object"}
            self._types[known] = spec
            spec["properties"] = self._properties(shape)
            spec["required"] = sorted(name for name, found in shape.properties.items() if found.is_required)
        return known
