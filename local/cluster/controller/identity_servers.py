"""The two doors of Pod Identity: the webhook on the bridge (HTTPS) and the agent at the address that it has on EKS."""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

from local.addresses import HOST_IP, POD_IDENTITY_IP
from local.cluster import pki
from local.cluster.controller.loop import EXPECTED, log
from local.cluster.controller.pod_identity import PodIdentity, Refused
from local.cluster.objects import Json

WEBHOOK_PATH = "/mutate-pods"
AGENT_PORT = 80
MAX_BODY = 4 * 1024 * 1024
"""Bytes of an admission request; the API server's own limit on objects is 3 MiB."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    identity: ClassVar[PodIdentity]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Says nothing: requests are not news."""

    def answer(self, status: int, body: bytes, media_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Webhook(_Handler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path.partition("?")[0] != WEBHOOK_PATH or not 0 < length <= MAX_BODY:
            self.answer(404, b"not found\n", "text/plain")
            return
        review: Json = json.loads(self.rfile.read(length))
        self.answer(200, json.dumps(reviewed(review, self.identity)).encode(), "application/json")


def reviewed(review: Json, identity: PodIdentity) -> Json:
    """The answer to an AdmissionReview. A pod is never refused: without the emulator it is admitted with a warning."""
    request: Json = review["request"]
    response: Json = {"uid": request["uid"], "allowed": True}
    try:
        operations = identity.review(request)
    except EXPECTED as error:
        name: str = request["object"]["metadata"].get("generateName") or request["object"]["metadata"].get("name", "")
        log.warning("pod identity: %s in %s is admitted without credentials: %s", name, request["namespace"], error)
        response["warnings"] = [f"no pod identity credentials: the AWS emulator does not answer ({error})"]
    else:
        if operations:
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response}


class _Agent(_Handler):
    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/v1/credentials":
            self.answer(404, b"not found\n", "text/plain")
            return
        try:
            given = self.identity.credentials(self.headers.get("Authorization") or "")
        except Refused as refused:
            self.answer(refused.status, f"{refused}\n".encode(), "text/plain")
        except EXPECTED as error:
            log.warning("pod identity: no credentials given: %s", error)
            self.answer(503, f"{error}\n".encode(), "text/plain")
        else:
            self.answer(200, json.dumps(given).encode(), "application/json")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002  as the base class
        """A client that goes away is no news; anything else is."""
        log.debug("pod identity: a request broke", exc_info=True)


def _serve(name: str, server: _Server) -> None:
    threading.Thread(target=server.serve_forever, name=name, daemon=True).start()


def start(identity: PodIdentity, webhook_port: int) -> None:
    """Starts both servers, in threads. Raises OSError where an address can't be had."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = pki.issue("pod-identity-webhook", "pod-identity-webhook", sans=[HOST_IP], usages=[pki.SERVER])
    context.load_cert_chain(pair.certificate, pair.key)
    webhook = _Server((HOST_IP, webhook_port), type("Webhook", (_Webhook,), {"identity": identity}))
    # The handshake is left to the request's thread: a client that never finishes it holds nobody up.
    webhook.socket = context.wrap_socket(webhook.socket, server_side=True, do_handshake_on_connect=False)
    agent = _Server((POD_IDENTITY_IP, AGENT_PORT), type("Agent", (_Agent,), {"identity": identity}))
    _serve("webhook", webhook)
    _serve("agent", agent)
