"""Runs a Pulumi program without an engine and records every resource that it registers, exactly as it was asked for."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from unittest.mock import patch

import pulumi
from pulumi.runtime import mocks
from pulumi.runtime.proto import resource_pb2

ACCOUNT = "123456789012"
REGION = "us-east-1"
VPC_CIDR = "10.0.0.0/16"
KUBECONFIG = '{"clusters":[{"cluster":{"server":"https://cluster.example"}}]}'
SECRET = "4dabf18193072939515e22adb298388d"
"""How the SDK marks a secret on its way to the engine."""

COMPUTED: dict[str, dict[str, Any]] = {
    "aws:apigateway/apiKey:ApiKey": {"value": "key-value"},
    "aws:apigateway/domainName:DomainName": {
        "regionalDomainName": f"d-1.execute-api.{REGION}.amazonaws.com",
        "regionalZoneId": "Z1",
    },
    "aws:apigateway/restApi:RestApi": {"rootResourceId": "root"},
    "aws:apigateway/stage:Stage": {"invokeUrl": "https://api.example/llm"},
    "aws:ec2/launchTemplate:LaunchTemplate": {"latestVersion": 3},
    "aws:elasticache/replicationGroup:ReplicationGroup": {"primaryEndpointAddress": "cache.example"},
    "aws:lb/loadBalancer:LoadBalancer": {"dnsName": "nlb.example"},
    "eks:index:Cluster": {"kubeconfigJson": KUBECONFIG, "clusterSecurityGroupId": "sg-cluster"},
    "kubernetes:helm.sh/v4:Chart": {"resources": []},
}
"""What providers add to the inputs, where the components read it."""

NAME_PROPERTIES = {
    "aws:s3/bucket:Bucket": "bucket",
    "aws:eks/cluster:Cluster": "name",
}


@dataclass(frozen=True)
class Resource:
    """One registration."""

    type: str
    name: str
    inputs: dict[str, Any]
    parent: str
    """Name of the parent; empty for the stack."""
    provider: str
    """Name of the explicit provider; empty if none."""
    depends_on: list[str]
    """Names of the resources that it says it depends on, and of those whose outputs it takes."""
    protect: bool
    ignore_changes: list[str]
    secret_outputs: list[str]


@dataclass
class Recording:
    """What a program registered, in order."""

    resources: list[Resource] = field(default_factory=list[Resource])
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list[tuple[str, dict[str, Any]]])
    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    """The outputs that each component registered last, by its name."""
    transforms: dict[str, list[pulumi.ResourceTransform]] = field(
        default_factory=dict[str, list[pulumi.ResourceTransform]]
    )
    """What each resource has the engine do to its children, by its name. Nothing here does it."""

    def one(self, type_: str, name: str) -> Resource:
        """Return the one resource of this type and name."""
        found = [each for each in self.resources if (each.type, each.name) == (type_, name)]
        assert len(found) == 1, f"{len(found)} of {type_} {name}; have {sorted(self.names(type_))}"
        return found[0]

    def inputs(self, type_: str, name: str) -> dict[str, Any]:
        """Return the inputs of the one resource of this type and name."""
        return self.one(type_, name).inputs

    def names(self, type_: str) -> list[str]:
        """Return the names of all resources of a type."""
        return [each.name for each in self.resources if each.type == type_]

    def types(self) -> dict[str, int]:
        """Return how many resources there are of each type."""
        counts: dict[str, int] = {}
        for each in self.resources:
            counts[each.type] = counts.get(each.type, 0) + 1
        return counts


class _Monitor(mocks.MockMonitor):
    def __init__(self, recording: Recording, *, preview: bool) -> None:
        super().__init__(_Providers(recording, preview=preview))
        self._recording = recording

    def make_urn(self, parent: str, type_: str, name: str) -> str:
        """Keep the whole chain of types in the URN, as the engine does."""
        chain = parent.split("::")[2] + "$" if parent and "pulumi:pulumi:Stack" not in parent else ""
        return f"urn:pulumi:{pulumi.get_stack()}::{pulumi.get_project()}::{chain}{type_}::{name}"

    def GetDeploymentInfo(self, request: Any) -> Any:  # noqa: N802 - the name of the gRPC method
        """Leave resource references out: each is recorded as the URN or id that it stands for."""
        base: Any = super()
        info = base.GetDeploymentInfo(request)
        info.supportedFeatures.remove(resource_pb2.RESOURCE_MONITOR_FEATURE_RESOURCE_REFERENCES)
        return info

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the name of the gRPC method
        """Record a registration before it is answered."""
        base: Any = super()
        response = base.RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            inputs = mocks.rpc.deserialize_properties(request.object)
            self._recording.resources.append(
                Resource(
                    type=request.type,
                    name=request.name,
                    inputs=plain(inputs),
                    parent="" if "pulumi:pulumi:Stack" in request.parent else _name(request.parent),
                    provider=_name(request.provider.rpartition("::")[0])
                    or ",".join(sorted(_name(ref.rpartition("::")[0]) for ref in request.providers.values())),
                    depends_on=sorted({_name(urn) for urn in request.dependencies}),
                    protect=request.protect,
                    ignore_changes=list(request.ignoreChanges),
                    secret_outputs=list(request.additionalSecretOutputs),
                )
            )
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802 - the name of the gRPC method
        """Record what a component returns."""
        if "pulumi:pulumi:Stack" not in request.urn:
            outputs = mocks.rpc.deserialize_properties(request.outputs)
            self._recording.outputs[_name(request.urn)] = plain(outputs)
        else:
            self._recording.outputs[""] = plain(mocks.rpc.deserialize_properties(request.outputs))
        base: Any = super()
        return base.RegisterResourceOutputs(request)


class _Providers(mocks.Mocks):
    """Answers as the providers would: with the inputs and, once resources are real, with what is computed."""

    def __init__(self, recording: Recording, *, preview: bool) -> None:
        self._recording = recording
        self._preview = preview

    def new_resource(self, args: Any) -> tuple[str, dict[str, Any]]:
        state = dict(cast(dict[str, Any], args.inputs))
        self._recording.transforms[str(args.name)] = list(args.transforms)
        if self._preview:
            return "", state
        name = str(state.get("name") or args.name)
        kind = args.typ.split(":")[-1].lower()
        arn = {"arn": f"arn:aws:test:{REGION}:{ACCOUNT}:{kind}/{args.name}"}
        naming = NAME_PROPERTIES.get(args.typ, "name")
        return f"{args.name}-id", {naming: name, **arn, **COMPUTED.get(args.typ, {}), **state}

    def call(self, args: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        self._recording.calls.append((args.token, dict(cast(dict[str, Any], args.args))))
        return {
            "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT},
            "aws:index/getPartition:getPartition": {"partition": "aws"},
            "aws:index/getRegion:getRegion": {"region": REGION},
            "aws:ec2/getVpc:getVpc": {"cidrBlock": VPC_CIDR, "cidrBlockAssociations": [{"cidrBlock": VPC_CIDR}]},
            "aws:ecr/getImage:getImage": {"imageDigest": "sha256:" + "0" * 64},
        }[args.token], []


def record(program: Callable[[], object], *, preview: bool = False, stack: str = "test") -> Recording:
    """Run `program` to its end and return what it registered. Raises what the program raises."""
    recording = Recording()
    monitor = _Monitor(recording, preview=preview)

    def run() -> None:
        program()

    with _event_loops():
        pulumi.runtime.set_mocks(monitor.mocks, project="llm-serving", stack=stack, preview=preview, monitor=monitor)
        runtime: Any = pulumi.runtime
        runtime.test(run)()
    return recording


@contextmanager
def _event_loops() -> Generator[None]:
    """Give the SDK an event loop, and close it and those that the SDK makes in its threads and leaves open."""
    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def tracked() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    with patch("asyncio.new_event_loop", tracked):
        main = tracked()
        asyncio.set_event_loop(main)
        try:
            yield
            main.run_until_complete(main.shutdown_default_executor())
        finally:
            for loop in made:
                loop.close()
            asyncio.set_event_loop(None)


def plain(value: Any) -> Any:
    """Return a recorded value with each secret in it as `{"secret": value}`."""
    if isinstance(value, dict):
        fields = cast(dict[str, Any], value)
        if SECRET in fields:
            return {"secret": plain(fields["value"])}
        return {key: plain(item) for key, item in fields.items()}
    if isinstance(value, list):
        return [plain(item) for item in cast(list[Any], value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]
