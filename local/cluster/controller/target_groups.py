"""The AWS Load Balancer Controller's part: a TargetGroupBinding's ready pods are the targets of its target group."""

import threading
import time
from collections.abc import Iterable

from botocore.exceptions import ClientError

from local.cluster.api import Api, ApiError
from local.cluster.controller.aws import Client
from local.cluster.controller.informer import Informer
from local.cluster.objects import Json, labels, section, sequence

BINDINGS = "/apis/elbv2.k8s.aws/v1beta1/targetgroupbindings"
RESYNC_SECONDS = 30
"""Target groups are read back so often, in case another has changed them."""
Target = tuple[str, int]


def wanted_targets(binding: Json, service: Json | None, slices: Iterable[Json]) -> set[Target]:
    """The addresses and ports of the ready pods behind a binding's service; none where the service is missing.

    Ready is serving and not terminating: a pod that is being ended gets no new connections from that moment on.
    """
    reference: Json = binding["spec"]["serviceRef"]
    ports = sequence(service, "spec", "ports")
    port = next((item for item in ports if reference["port"] in (item["port"], item.get("name"))), None)
    if port is None:
        return set()
    return {
        (address, number)
        for item in slices
        for number in (_number(item, port.get("name") or ""),)
        if number is not None
        for endpoint in sequence(item, "endpoints")
        if section(endpoint, "conditions").get("ready", True)
        for address in endpoint["addresses"]
    }


def _number(slice_: Json, name: str) -> int | None:
    return next((port["port"] for port in sequence(slice_, "ports") if (port.get("name") or "") == name), None)


def difference(registered: set[Target], wanted: set[Target]) -> tuple[list[Json], list[Json]]:
    """What to register and what to deregister, as ELBv2's calls take it."""
    return _described(wanted - registered), _described(registered - wanted)


def _described(targets: set[Target]) -> list[Json]:
    return [{"Id": address, "Port": port} for address, port in sorted(targets)]


class TargetGroups:
    """Follows bindings, services and endpoints, and keeps the target groups in the emulator in step."""

    def __init__(self, api: Api, client: Client, stop: threading.Event) -> None:
        self._api = api
        self._client = client
        self._changed = threading.Event()
        self._bindings = Informer(api, BINDINGS, self._changed, stop)
        self._services = Informer(api, "/api/v1/services", self._changed, stop)
        self._slices = Informer(api, "/apis/discovery.k8s.io/v1/endpointslices", self._changed, stop)
        self._registered: dict[str, set[Target]] = {}
        self._read = 0.0
        for informer in (self._bindings, self._services, self._slices):
            informer.start()

    def step(self) -> None:
        """Waits for a change, for `RESYNC_SECONDS` at most, and brings every target group in step."""
        self._changed.wait(RESYNC_SECONDS)
        self._changed.clear()
        if not (self._bindings.is_synced and self._services.is_synced and self._slices.is_synced):
            return
        try:
            self._reconcile()
        except Exception:
            self._registered.clear()  # what the emulator has is uncertain now: read it again
            self._changed.set()
            raise

    def _reconcile(self) -> None:
        if time.monotonic() - self._read > RESYNC_SECONDS:
            known = set(self._registered)
            self._registered = {arn: targets for arn in known if (targets := self._describe(arn)) is not None}
            self._read = time.monotonic()
        bindings = [item for item in self._bindings.objects() if not item["metadata"].get("deletionTimestamp")]
        wanted: dict[str, set[Target]] = {arn: set() for arn in self._registered}
        for binding in bindings:
            wanted[binding["spec"]["targetGroupARN"]] = self._wanted(binding)
        for arn, targets in wanted.items():
            self._bring(arn, targets)
        bound = {binding["spec"]["targetGroupARN"] for binding in bindings}
        self._registered = {arn: targets for arn, targets in self._registered.items() if arn in bound}
        for binding in bindings:
            self._note(binding)

    def _wanted(self, binding: Json) -> set[Target]:
        namespace: str = binding["metadata"]["namespace"]
        name: str = binding["spec"]["serviceRef"]["name"]
        slices = [
            item
            for item in self._slices.objects()
            if item["metadata"]["namespace"] == namespace and labels(item).get("kubernetes.io/service-name") == name
        ]
        return wanted_targets(binding, self._services.get(namespace, name), slices)

    def _bring(self, arn: str, wanted: set[Target]) -> None:
        registered = self._registered.get(arn)
        if registered is None and (registered := self._describe(arn)) is None:
            return
        more, fewer = difference(registered, wanted)
        if fewer:  # first, so that a pod that ends loses no time
            self._client("elbv2").deregister_targets(TargetGroupArn=arn, Targets=fewer)
        if more:
            self._client("elbv2").register_targets(TargetGroupArn=arn, Targets=more)
        self._registered[arn] = wanted

    def _describe(self, arn: str) -> set[Target] | None:
        """The registered targets but those that drain; None where the target group does not exist."""
        try:
            answer: Json = self._client("elbv2").describe_target_health(TargetGroupArn=arn)
        except ClientError as error:
            if "TargetGroupNotFound" in str(error):
                return None
            raise
        return {
            (item["Target"]["Id"], item["Target"]["Port"])
            for item in sequence(answer, "TargetHealthDescriptions")
            if section(item, "TargetHealth").get("State") != "draining"
        }

    def _note(self, binding: Json) -> None:
        metadata: Json = binding["metadata"]
        generation = metadata.get("generation")
        if section(binding, "status").get("observedGeneration") == generation:
            return
        root = BINDINGS.rpartition("/")[0]
        path = f"{root}/namespaces/{metadata['namespace']}/targetgroupbindings/{metadata['name']}/status"
        try:
            self._api.merge(path, {"status": {"observedGeneration": generation}})
        except ApiError as error:
            if error.status != 404:  # deleted meanwhile
                raise
