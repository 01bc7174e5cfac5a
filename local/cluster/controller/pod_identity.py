"""EKS Pod Identity: pods of an associated service account get that association's role, and nothing else.

As on EKS in two parts. A webhook gives such pods a token and the agent's address; the agent trades the token for the
role's credentials. Locally the webhook also gives the emulator's address, which on AWS the SDK knows by itself.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from local.addresses import POD_IDENTITY_IP, REGION
from local.cluster.api import Api
from local.cluster.controller.aws import Client
from local.cluster.objects import Json, section, sequence

AUDIENCE = "pods.eks.amazonaws.com"
TOKEN_SECONDS = 86400
SESSION_SECONDS = 3600
"""How long credentials live. EKS gives 6 hours; the SDKs renew them in time."""
VOLUME = "eks-pod-identity-token"
MOUNT = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
_USER_PREFIX = "system:serviceaccount:"


class Refused(Exception):  # noqa: N818  an answer, not a fault
    """The agent does not give credentials. `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Association:
    """A service account's role."""

    cluster: str
    role_arn: str


def variables(endpoint: str) -> list[Json]:
    """The environment that EKS gives to a container, and the emulator's address."""
    values = {
        "AWS_STS_REGIONAL_ENDPOINTS": "regional",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{POD_IDENTITY_IP}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": f"{MOUNT}/{VOLUME}",
        "AWS_ENDPOINT_URL": endpoint,
    }
    return [{"name": name, "value": value} for name, value in values.items()]


def patch(pod: Json, endpoint: str) -> list[Json]:
    """The JSON patch (RFC 6902) of a pod that is associated; what the pod sets itself stays."""
    spec: Json = pod["spec"]
    source = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": VOLUME}
    volume = {"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": source}]}}
    operations: list[Json] = []
    if all(item["name"] != VOLUME for item in sequence(spec, "volumes")):
        operations += _append(spec, "volumes", "/spec/volumes", [volume])
    mount = {"name": VOLUME, "mountPath": MOUNT, "readOnly": True}
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(sequence(spec, kind)):
            path = f"/spec/{kind}/{index}"
            own = {item["name"] for item in sequence(container, "env")}
            lacking = [item for item in variables(endpoint) if item["name"] not in own]
            operations += _append(container, "env", f"{path}/env", lacking)
            if all(item["mountPath"] != MOUNT for item in sequence(container, "volumeMounts")):
                operations += _append(container, "volumeMounts", f"{path}/volumeMounts", [mount])
    return operations


def _append(parent: Json, field: str, path: str, items: list[Json]) -> list[Json]:
    if not items:
        return []
    if not parent.get(field):
        return [{"op": "add", "path": path, "value": items}]
    return [{"op": "add", "path": f"{path}/-", "value": item} for item in items]


class PodIdentity:
    """The associations in the emulator, and what follows from them. Looked up at each request: none is ever stale."""

    def __init__(self, api: Api, client: Client, endpoint: Callable[[], str]) -> None:
        self._api = api
        self._client = client
        self._endpoint = endpoint

    def find(self, namespace: str, account: str) -> Association | None:
        """The association of a service account, in any cluster of the emulator; None where it has none."""
        eks = self._client("eks")
        for cluster in eks.list_clusters()["clusters"]:
            found: list[Json] = eks.list_pod_identity_associations(
                clusterName=cluster, namespace=namespace, serviceAccount=account
            )["associations"]
            for item in found:
                if (item["namespace"], item["serviceAccount"]) == (namespace, account):
                    described: Json = eks.describe_pod_identity_association(
                        clusterName=cluster, associationId=item["associationId"]
                    )["association"]
                    return Association(cluster, described["roleArn"])
        return None

    def review(self, request: Json, *, seconds: float = 6) -> list[Json]:
        """The patch of a pod that is being created; empty for one whose service account isn't associated.

        Where the emulator does not answer it is asked again for `seconds`; after that its error is raised.
        """
        pod: Json = request["object"]
        account: str = pod["spec"].get("serviceAccountName") or "default"
        deadline = time.monotonic() + seconds
        while True:
            try:
                association = self.find(request["namespace"], account)
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return patch(pod, self._endpoint()) if association else []

    def credentials(self, token: str) -> Json:
        """The credentials for a pod's token, as the agent answers. Raises Refused for a token that isn't good."""
        user = self._authenticate(token)
        namespace, _, account = user["username"].removeprefix(_USER_PREFIX).partition(":")
        association = self.find(namespace, account)
        if association is None:
            raise Refused(404, f"the service account {namespace}/{account} has no pod identity association")
        extra: dict[str, list[str]] = section(user, "extra")
        pod = (extra.get("authentication.kubernetes.io/pod-name") or [account])[0]
        session = f"eks-{association.cluster}-{pod}"[:27] + f"-{uuid.uuid4()}"  # a session name has 64 characters
        given: Json = self._client("sts").assume_role(
            RoleArn=association.role_arn, RoleSessionName=session, DurationSeconds=SESSION_SECONDS
        )["Credentials"]
        expiration: datetime = given["Expiration"]
        return {
            "AccessKeyId": given["AccessKeyId"],
            "SecretAccessKey": given["SecretAccessKey"],
            "Token": given["SessionToken"],
            "AccountId": association.role_arn.split(":")[4],
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _authenticate(self, token: str) -> Json:
        if not token:
            raise Refused(400, "the Authorization header has no token")
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [AUDIENCE]},
        }
        status: Json = self._api.create("/apis/authentication.k8s.io/v1/tokenreviews", review)["status"]
        user = section(status, "user")
        if not status.get("authenticated") or not user.get("username", "").startswith(_USER_PREFIX):
            raise Refused(401, f"the token is not a pod's token for {AUDIENCE}")
        return user
