"""The resource provider that the engine talks to: each call goes on to the bridge, each answer back, translated.

The engine is told to send plain values only: the bridge knows neither resource references nor output values.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import grpc
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import plugin_pb2
from pulumi.runtime.proto import provider_pb2 as proto

from local.plugins.aws import autonaming
from local.plugins.aws.bridge import Bridge
from local.plugins.aws.dropping import Log, Warnings
from local.plugins.aws.messages import Names, status_details, type_of, with_type
from local.plugins.aws.pairing import Pairings
from local.plugins.aws.schema import package_schema
from local.plugins.aws.sdk import Sdk
from local.plugins.aws.terraform import TerraformType
from local.plugins.aws.tokens import Tokens
from local.plugins.aws.translation import Translation
from local.plugins.aws.values import UNKNOWN, Properties, from_struct, to_struct, without_secrets

PROVIDER_TOKEN = "pulumi:providers:aws"  # noqa: S105  a type token

_META = "__meta"
"""Where the bridge says that a resource is replaced, because it doesn't know which property makes it so."""

_REPLACING = {
    proto.PropertyDiff.ADD: proto.PropertyDiff.ADD_REPLACE,
    proto.PropertyDiff.DELETE: proto.PropertyDiff.DELETE_REPLACE,
    proto.PropertyDiff.UPDATE: proto.PropertyDiff.UPDATE_REPLACE,
}
"""The kind of a change that replaces the resource."""

Request = TypeVar(
    "Request", proto.CheckRequest, proto.DiffRequest, proto.CreateRequest, proto.ReadRequest, proto.UpdateRequest,
    proto.DeleteRequest,
)  # fmt: skip


class CallError(Exception):
    """A call that the bridge refused. The message is for the user."""

    def __init__(self, code: grpc.StatusCode, message: str, details: bytes | None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


@dataclass(frozen=True)
class Subject:
    """The type of resource or function that a call is about."""

    token: str
    translation: Translation
    terraform: TerraformType


class Provider:
    """Answers the engine's calls."""

    def __init__(self, sdk: Sdk, bridge: Bridge, version: str, log: Log) -> None:
        self._sdk = sdk
        self._bridge = bridge
        self._version = version
        self._warnings = Warnings(log)
        self._pairings = Pairings()
        self._region = ""
        self.names = Names()

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self._sdk, self._bridge.terraform)

    @cached_property
    def _configuration(self) -> Translation:
        return Translation(self._pairings, self._sdk.configuration, self._bridge.terraform.configuration)

    # The provider itself

    def get_plugin_info(self, _request: Empty) -> plugin_pb2.PluginInfo:
        """The version that the SDK asks for."""
        return plugin_pb2.PluginInfo(version=self._version)

    def get_schema(self, _request: proto.GetSchemaRequest) -> proto.GetSchemaResponse:
        """The package as the SDK has it, less what isn't served."""
        return proto.GetSchemaResponse(schema=json.dumps(package_schema(self._sdk, self._tokens, self._version)))

    def check_config(self, request: proto.CheckRequest) -> proto.CheckResponse:
        """Asks the bridge what it has against a configuration, which stays as the program wrote it."""
        translation = self._configuration
        dropped = self._warnings.about(PROVIDER_TOKEN, request.urn)
        asked = _copy(request)
        asked.olds.CopyFrom(translation.configuration(request.olds))
        asked.news.CopyFrom(translation.configuration(request.news, dropped))
        answer: proto.CheckResponse = self._call("CheckConfig", asked, translation)
        return proto.CheckResponse(inputs=request.news, failures=self._failures(answer.failures, translation))

    def diff_config(self, request: proto.DiffRequest) -> proto.DiffResponse:
        """What differs between two configurations."""
        translation = self._configuration
        asked = _copy(request)
        asked.olds.CopyFrom(translation.configuration(request.olds))
        asked.news.CopyFrom(translation.configuration(request.news))
        asked.old_inputs.CopyFrom(translation.configuration(request.old_inputs))
        asked.ignoreChanges[:] = translation.paths_to_bridge(request.ignoreChanges)
        return _difference(self._call("DiffConfig", asked, translation), translation)

    def configure(self, request: proto.ConfigureRequest) -> proto.ConfigureResponse:
        """Configures the Terraform provider, which asks AWS who it is."""
        translation = self._configuration
        asked = proto.ConfigureRequest()
        asked.CopyFrom(request)
        asked.args.CopyFrom(translation.configuration(request.args))
        asked.variables.clear()
        for key, value in without_secrets(from_struct(asked.args)).items():
            if isinstance(value, str):
                asked.variables[f"aws:config:{key}"] = value
        region = without_secrets(from_struct(request.args)).get("region")
        self._region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        answer: proto.ConfigureResponse = self._call("Configure", asked, translation)
        answer.acceptResources = answer.acceptOutputs = False
        return answer

    def cancel(self, request: Empty) -> Empty:
        """Asks the bridge to stop what it does."""
        return self._call("Cancel", request, self._configuration)

    # Resources

    def check(self, request: proto.CheckRequest) -> proto.CheckResponse:
        """Checks and completes a resource's inputs."""
        subject = self._resource(request.urn)
        translation = subject.translation
        olds, given = from_struct(request.olds), from_struct(request.news)
        self._take_region(subject, request.urn, given)
        rule = autonaming.rule_of(subject.terraform)
        key = translation.name_of(rule.attribute) if rule else ""
        news = autonaming.name(rule, _naming(request), key, olds, given) if rule and key else given
        dropped = self._warnings.about(subject.token, request.urn)
        asked = self._renamed(request, subject)
        asked.olds.CopyFrom(to_struct(translation.inputs_to_bridge(olds)))
        asked.news.CopyFrom(to_struct(translation.inputs_to_bridge(news, dropped)))
        answer: proto.CheckResponse = self._call("Check", asked, translation)
        inputs = translation.inputs_to_sdk(from_struct(answer.inputs))
        if news is not given and inputs:
            inputs = autonaming.mark(key, inputs)
        failures = self._failures(answer.failures, translation)
        return proto.CheckResponse(inputs=to_struct(inputs), failures=failures)

    def diff(self, request: proto.DiffRequest) -> proto.DiffResponse:
        """What differs between a resource's state and its new inputs."""
        subject = self._resource(request.urn)
        translation = subject.translation
        asked = self._renamed(request, subject)
        asked.olds.CopyFrom(translation.state(request.olds))
        asked.news.CopyFrom(translation.inputs(request.news))
        asked.old_inputs.CopyFrom(translation.inputs(request.old_inputs))
        asked.ignoreChanges[:] = translation.paths_to_bridge(request.ignoreChanges)
        return _difference(self._call("Diff", asked, translation), translation)

    def create(self, request: proto.CreateRequest) -> proto.CreateResponse:
        """Makes a resource."""
        subject = self._resource(request.urn)
        translation = subject.translation
        asked = self._renamed(request, subject)
        asked.properties.CopyFrom(translation.inputs(request.properties))
        answer: proto.CreateResponse = self._call("Create", asked, translation)
        answer.properties.CopyFrom(translation.state_to_sdk(answer.properties, self._region))
        return answer

    def read(self, request: proto.ReadRequest) -> proto.ReadResponse:
        """Reads a resource: one that is in the stack, or one to import."""
        subject = self._resource(request.urn)
        translation = subject.translation
        asked = self._renamed(request, subject)
        asked.properties.CopyFrom(translation.state(request.properties))
        asked.inputs.CopyFrom(translation.inputs(request.inputs))
        answer: proto.ReadResponse = self._call("Read", asked, translation)
        answer.properties.CopyFrom(translation.state_to_sdk(answer.properties, self._region))
        inputs = translation.inputs_to_sdk(from_struct(answer.inputs))
        rule = autonaming.rule_of(subject.terraform)
        key = translation.name_of(rule.attribute) if rule else ""
        answer.inputs.CopyFrom(to_struct(autonaming.keep_mark(key, from_struct(request.inputs), inputs)))
        return answer

    def update(self, request: proto.UpdateRequest) -> proto.UpdateResponse:
        """Changes a resource in place."""
        subject = self._resource(request.urn)
        translation = subject.translation
        asked = self._renamed(request, subject)
        asked.olds.CopyFrom(translation.state(request.olds))
        asked.news.CopyFrom(translation.inputs(request.news))
        asked.old_inputs.CopyFrom(translation.inputs(request.old_inputs))
        asked.ignoreChanges[:] = translation.paths_to_bridge(request.ignoreChanges)
        answer: proto.UpdateResponse = self._call("Update", asked, translation)
        answer.properties.CopyFrom(translation.state_to_sdk(answer.properties, self._region))
        return answer

    def delete(self, request: proto.DeleteRequest) -> Empty:
        """Deletes a resource."""
        subject = self._resource(request.urn)
        translation = subject.translation
        asked = self._renamed(request, subject)
        asked.properties.CopyFrom(translation.state(request.properties))
        asked.old_inputs.CopyFrom(translation.inputs(request.old_inputs))
        return self._call("Delete", asked, translation)

    # Functions

    def invoke(self, request: proto.InvokeRequest) -> proto.InvokeResponse:
        """Calls a function: reads a data source."""
        sdk, terraform = self._tokens.function(request.tok)
        subject = Subject(request.tok, Translation(self._pairings, sdk, terraform.shape), terraform)
        translation = subject.translation
        arguments = from_struct(request.args)
        self._take_region(subject, "", arguments)
        dropped = self._warnings.about(subject.token, "")
        asked = proto.InvokeRequest(tok=terraform.token, preview=request.preview)
        asked.args.CopyFrom(to_struct(translation.inputs_to_bridge(arguments, dropped)))
        self.names.remember(terraform.token, request.tok)
        answer: proto.InvokeResponse = self._call("Invoke", asked, translation)
        response = proto.InvokeResponse(failures=self._failures(answer.failures, translation))
        # `return` is a word of Python's own
        getattr(response, "return").CopyFrom(translation.result_to_sdk(getattr(answer, "return"), self._region))
        return response

    # What they share

    def _resource(self, urn: str) -> Subject:
        token = type_of(urn)
        sdk, terraform = self._tokens.resource(token)
        return Subject(token, Translation(self._pairings, sdk, terraform.shape), terraform)

    def _renamed(self, request: Request, subject: Subject) -> Request:
        """The request with the bridge's type; it is remembered what stands for what."""
        asked = _copy(request)
        asked.urn = with_type(request.urn, subject.terraform.token)
        if asked.type:
            asked.type = subject.terraform.token
        self.names.remember(asked.urn, request.urn)
        self.names.remember(subject.terraform.token, subject.token)
        return asked

    def _take_region(self, subject: Subject, urn: str, inputs: Properties) -> None:
        """Takes out the region of a single resource, which is newer than the provider that serves it."""
        attributes = subject.terraform.shape.properties.values()
        is_settable = any(found.attribute == "region" and found.is_input for found in attributes)
        if not is_settable and "region" in inputs:
            region = without_secrets(inputs.pop("region"))
            if region not in (self._region, UNKNOWN):
                self._warnings.about(subject.token, urn)("region", region)

    def _call(self, method: str, request: Any, translation: Translation) -> Any:
        try:
            return self._bridge.call(method, request)
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call):
                raise
            details = status_details(
                error,
                self.names.restore,
                translation.inputs_message_to_sdk,
                lambda state: translation.state_to_sdk(state, self._region),
            )
            raise CallError(error.code(), self.names.restore(error.details() or ""), details) from error

    def _failures(self, failures: Iterable[proto.CheckFailure], translation: Translation) -> list[proto.CheckFailure]:
        return [
            proto.CheckFailure(
                property=translation.path_to_sdk(failure.property), reason=self.names.restore(failure.reason)
            )
            for failure in failures
        ]


def _copy(request: Request) -> Request:
    copied = type(request)()
    copied.CopyFrom(request)
    return copied


def _naming(request: proto.CheckRequest) -> autonaming.Request:
    mode = request.autonaming.mode
    return autonaming.Request(
        name=request.name or request.urn.split("::", 3)[3],
        seed=request.randomSeed,
        proposed=request.autonaming.proposed_name,
        is_enforced=mode == proto.CheckRequest.AutonamingOptions.Mode.ENFORCE,
        is_disabled=mode == proto.CheckRequest.AutonamingOptions.Mode.DISABLE,
    )


def _difference(answer: proto.DiffResponse, translation: Translation) -> proto.DiffResponse:
    """The bridge's answer in the SDK's names."""
    response = proto.DiffResponse()
    response.CopyFrom(answer)
    for names, given in (
        (response.replaces, answer.replaces),
        (response.stables, answer.stables),
        (response.diffs, answer.diffs),
    ):
        names[:] = list(dict.fromkeys(map(translation.path_to_sdk, given)))
    response.detailedDiff.clear()
    for path, change in answer.detailedDiff.items():
        kind = change.kind
        if path.partition(".")[0].partition("[")[0] in answer.replaces:
            kind = _REPLACING.get(kind, kind)
        if path != _META:
            response.detailedDiff[translation.path_to_sdk(path)].CopyFrom(
                proto.PropertyDiff(kind=kind, inputDiff=change.inputDiff)
            )
    return response
