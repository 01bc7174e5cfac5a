"""A small client of the Kubernetes API: as much as the local environment needs, over one pool of connections."""

import json
import ssl
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Self

import httpx

from local.cluster import kubeconfigs, pki
from local.cluster.objects import Json, name

MANAGER = "llm-serving-local"
"""The field manager of server-side apply."""


class ApiError(Exception):
    """The API server refused a request. `status` is the HTTP status, 0 where the server did not answer at all."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gone(ApiError):  # noqa: N818  the API's own word
    """A watch's resource version is too old: list again."""


class Api:
    """The API server as one user sees it. Every method raises ApiError; a missing object has status 404."""

    def __init__(self, server: str, pair: pki.Pair, *, timeout: float = 10) -> None:
        context = ssl.create_default_context(cafile=str(pki.authority("ca").certificate))
        context.load_cert_chain(pair.certificate, pair.key)
        self._client = httpx.Client(base_url=server, verify=context, timeout=timeout, trust_env=False)
        self.server = server

    @classmethod
    def admin(cls, *, timeout: float = 10) -> Self:
        """The API as the cluster's administrator; the control plane need not run yet."""
        return cls(kubeconfigs.server(), kubeconfigs.admin_certificate(), timeout=timeout)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        media_type: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str | int] | None = None,
    ) -> Json:
        """One request; `query` are URL parameters."""
        content = None if body is None else json.dumps(body)
        headers = {"Accept": accept} if body is None else {"Accept": accept, "Content-Type": media_type}
        try:
            answer = self._client.request(method, path, content=content, headers=headers, params=query or {})
        except httpx.TransportError as error:
            raise ApiError(0, f"the API server at {self.server} does not answer: {error}") from error
        if answer.is_error:
            raise ApiError(answer.status_code, _message(answer))
        return answer.json() if answer.content[:1] == b"{" else {"text": answer.text}

    def is_ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.request("GET", "/readyz").get("text") == "ok"
        except ApiError:
            return False

    def get(self, path: str, **query: str | int) -> Json:
        """One object, or a whole list answer."""
        return self.request("GET", path, query=query)

    def find(self, path: str) -> Json | None:
        """One object, or None where it does not exist."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, path: str, **query: str | int) -> "list[Json]":
        """The items of a collection."""
        return self.get(path, **query)["items"]

    def names(self, path: str) -> set[str]:
        """The names in a collection, without the objects' contents: cheap for large ones."""
        accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        return {name(item) for item in self.request("GET", path, accept=accept)["items"]}

    def create(self, path: str, body: Json) -> Json:
        """Creates an object in a collection, or a subresource such as an eviction."""
        return self.request("POST", path, body)

    def merge(self, path: str, body: Json) -> Json:
        """Applies a JSON merge patch (RFC 7396)."""
        return self.request("PATCH", path, body, media_type="application/merge-patch+json")

    def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Deletes an object; one that is gone already is no fault."""
        body = None if grace_seconds is None else {"gracePeriodSeconds": grace_seconds}
        try:
            self.request("DELETE", path, body)
        except ApiError as error:
            if error.status != 404:
                raise

    def apply(self, manifest: Json) -> Json:
        """Applies a manifest server-side as `llm-serving-local`, and takes over fields that others set."""
        path = self._path(manifest)
        # JSON is YAML, and the media type of apply patches is YAML's.
        media_type = "application/apply-patch+yaml"
        query = {"fieldManager": MANAGER, "force": "true"}
        return self.request("PATCH", path, manifest, media_type=media_type, query=query)

    def watch(self, path: str, resource_version: str, *, seconds: int = 240) -> Iterator[Json]:
        """Events of a collection since a resource version, until the server ends the watch after `seconds`.

        Raises Gone where the resource version is too old.
        """
        query = {"watch": "true", "resourceVersion": resource_version, "timeoutSeconds": seconds}
        try:
            with self._client.stream("GET", path, params=query, timeout=seconds + 30) as answer:
                if answer.is_error:
                    answer.read()
                    kind = Gone if answer.status_code == 410 else ApiError
                    raise kind(answer.status_code, _message(answer))
                for line in answer.iter_lines():
                    event: Json = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        kind = Gone if status.get("code") == 410 else ApiError
                        raise kind(status.get("code", 0), status.get("message", "the watch failed"))
                    yield event
        except httpx.TransportError as error:
            raise ApiError(0, f"the watch of {path} broke: {error}") from error

    def _path(self, manifest: Json) -> str:
        version: str = manifest["apiVersion"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        plural, namespaced = self._resources(root)[manifest["kind"]]
        metadata: Json = manifest["metadata"]
        scope = f"/namespaces/{metadata.get('namespace', 'default')}" if namespaced else ""
        return f"{root}{scope}/{plural}/{metadata['name']}"

    @cache  # noqa: B019  an Api lives as long as its process
    def _resources(self, root: str) -> dict[str, tuple[str, bool]]:
        resources: list[Json] = self.get(root)["resources"]
        return {item["kind"]: (item["name"], item["namespaced"]) for item in resources if "/" not in item["name"]}


def _message(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}: {answer.text[:200]}"
