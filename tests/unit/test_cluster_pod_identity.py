import base64
import datetime as dt
import json
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from local.cluster.controller import identity_servers
from local.cluster.controller.pod_identity import PodIdentity, Refused, patch

ENDPOINT = "http://10.89.0.1:4566"
TOKEN_FILE = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token"
ENV = [
    {"name": "AWS_STS_REGIONAL_ENDPOINTS", "value": "regional"},
    {"name": "AWS_DEFAULT_REGION", "value": "us-east-1"},
    {"name": "AWS_REGION", "value": "us-east-1"},
    {"name": "AWS_CONTAINER_CREDENTIALS_FULL_URI", "value": "http://169.254.170.23/v1/credentials"},
    {"name": "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "value": TOKEN_FILE},
    {"name": "AWS_ENDPOINT_URL", "value": ENDPOINT},
]
MOUNT = {
    "name": "eks-pod-identity-token",
    "mountPath": "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount",
    "readOnly": True,
}
VOLUME = {
    "name": "eks-pod-identity-token",
    "projected": {
        "sources": [
            {
                "serviceAccountToken": {
                    "audience": "pods.eks.amazonaws.com", "expirationSeconds": 86400, "path": "eks-pod-identity-token",
                }
            }
        ]
    },
}  # fmt: skip


def test_patch_of_a_bare_pod() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}}
    assert patch(pod, ENDPOINT) == [
        {"op": "add", "path": "/spec/volumes", "value": [VOLUME]},
        {"op": "add", "path": "/spec/containers/0/env", "value": ENV},
        {"op": "add", "path": "/spec/containers/0/volumeMounts", "value": [MOUNT]},
    ]


def test_patch_adds_to_what_is_there_and_keeps_what_the_pod_sets() -> None:
    own = {"name": "AWS_REGION", "value": "eu-west-1"}
    pod = {
        "metadata": {"name": "p"},
        "spec": {
            "volumes": [{"name": "token"}],
            "initContainers": [{"name": "i", "volumeMounts": [{"name": "token", "mountPath": "/t"}]}],
            "containers": [{"name": "c", "env": [own, *ENV[:2]]}],
        },
    }
    assert patch(pod, ENDPOINT) == [
        {"op": "add", "path": "/spec/volumes/-", "value": VOLUME},
        {"op": "add", "path": "/spec/initContainers/0/env", "value": ENV},
        {"op": "add", "path": "/spec/initContainers/0/volumeMounts/-", "value": MOUNT},
        {"op": "add", "path": "/spec/containers/0/env/-", "value": ENV[3]},
        {"op": "add", "path": "/spec/containers/0/env/-", "value": ENV[4]},
        {"op": "add", "path": "/spec/containers/0/env/-", "value": ENV[5]},
        {"op": "add", "path": "/spec/containers/0/volumeMounts", "value": [MOUNT]},
    ]


def test_patch_of_a_patched_pod_is_empty() -> None:
    container = {"name": "c", "env": ENV, "volumeMounts": [MOUNT]}
    assert patch({"spec": {"volumes": [VOLUME], "containers": [container]}}, ENDPOINT) == []


class FakeEks:
    def __init__(self) -> None:
        self.down = False

    def list_clusters(self) -> dict[str, Any]:
        if self.down:
            raise EndpointConnectionError(endpoint_url=ENDPOINT)
        return {"clusters": ["other", "llm"]}

    def list_pod_identity_associations(self, **asked: str) -> dict[str, Any]:
        wanted = {"clusterName": "llm", "namespace": "llm-serving", "serviceAccount": "loader"}
        found = {"namespace": "llm-serving", "serviceAccount": "loader", "associationId": "a-1"}
        return {"associations": [found] if asked == wanted else []}

    def describe_pod_identity_association(self, **asked: str) -> dict[str, Any]:
        assert asked == {"clusterName": "llm", "associationId": "a-1"}
        return {"association": {"roleArn": "arn:aws:iam::000000000000:role/loader"}}


class FakeSts:
    def assume_role(self, **asked: Any) -> dict[str, Any]:
        assert asked["RoleArn"] == "arn:aws:iam::000000000000:role/loader"
        assert asked["RoleSessionName"].startswith("eks-llm-web-0-")
        assert len(asked["RoleSessionName"]) <= 64
        expiration = dt.datetime(2026, 11, 25, 15, 0, 35, tzinfo=dt.UTC)
        keys = {"AccessKeyId": "ASIA", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expiration}
        return {"Credentials": keys}


class FakeApi:
    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
        assert body["spec"] == {"token": "secret", "audiences": ["pods.eks.amazonaws.com"]}
        return {"status": self.status}


def identity(eks: FakeEks, **status: Any) -> PodIdentity:
    api: Any = FakeApi(status)
    return PodIdentity(api, {"eks": eks, "sts": FakeSts()}.__getitem__, lambda: ENDPOINT)


def review(account: str, namespace: str = "llm-serving") -> dict[str, Any]:
    pod = {"metadata": {"generateName": "web-"}, "spec": {"serviceAccountName": account, "containers": [{"name": "c"}]}}
    request = {"uid": "u", "namespace": namespace, "object": pod}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def test_webhook_patches_associated_pods_only() -> None:
    answer = identity_servers.reviewed(review("loader"), identity(FakeEks()))
    assert (answer["apiVersion"], answer["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    response = answer["response"]
    assert (response["uid"], response["allowed"], response["patchType"]) == ("u", True, "JSONPatch")
    assert json.loads(base64.b64decode(response["patch"])) == patch(review("loader")["request"]["object"], ENDPOINT)
    for other in (review("default"), review("loader", "elsewhere")):
        assert identity_servers.reviewed(other, identity(FakeEks()))["response"] == {"uid": "u", "allowed": True}


def test_webhook_admits_with_a_warning_while_the_emulator_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100, 4))

    def sleep(_seconds: float) -> None: ...

    monkeypatch.setattr("local.cluster.controller.pod_identity.time.sleep", sleep)
    monkeypatch.setattr("local.cluster.controller.pod_identity.time.monotonic", lambda: next(clock))
    eks = FakeEks()
    eks.down = True
    response = identity_servers.reviewed(review("loader"), identity(eks))["response"]
    assert response["allowed"]
    assert "patch" not in response
    assert response["warnings"][0].startswith("no pod identity credentials: the AWS emulator does not answer")


USER = {
    "username": "system:serviceaccount:llm-serving:loader",
    "extra": {"authentication.kubernetes.io/pod-name": ["web-0"]},
}


def test_agent_answers_as_the_sdks_expect() -> None:
    given = identity(FakeEks(), authenticated=True, user=USER).credentials("secret")
    assert given == {
        "AccessKeyId": "ASIA",
        "SecretAccessKey": "s",
        "Token": "t",
        "AccountId": "000000000000",
        "Expiration": "2026-11-25T15:00:35Z",
    }


@pytest.mark.parametrize(
    ("token", "status", "code"),
    [
        ("", {}, 400),
        ("secret", {"authenticated": False}, 401),
        ("secret", {"authenticated": True, "user": {"username": "kubernetes-admin"}}, 401),
        ("secret", {"authenticated": True, "user": {"username": "system:serviceaccount:llm-serving:other"}}, 404),
    ],
)
def test_agent_refuses(token: str, status: dict[str, Any], code: int) -> None:
    with pytest.raises(Refused) as refused:
        identity(FakeEks(), **status).credentials(token)
    assert refused.value.status == code
