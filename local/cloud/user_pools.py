"""Cognito's user pools as issuers of OpenID Connect: the documents that a checker of tokens reads, over TLS.

They are at the name that they have on AWS: the cluster's DNS leads it here, and images built here trust the authority
that has signed its certificate. So a pod checks tokens of a pool as it does on AWS, down to the claim `iss`.
"""

import logging
import os
import re
import socket
from pathlib import Path

from hypercorn.config import Config

from local.addresses import ISSUER_HOST
from local.cloud import emulator

log = logging.getLogger("cloud.user_pools")

_DOCUMENT = re.compile(r"/([\w-]+)/\.well-known/(openid-configuration|jwks\.json)", re.ASCII)


def document(path: str) -> bytes | None:
    """A pool's document (JSON) by its path; None where there is no such pool, or it is another path."""
    found = _DOCUMENT.fullmatch(path)
    if found is None:
        return None
    pool, name = found.groups()
    cognito = emulator.service("cognito")
    if cognito._get_pool_unscoped(pool) is None:
        return None
    if name == "jwks.json":
        return cognito.well_known_jwks(pool)[2]
    return cognito.well_known_openid_configuration(pool, host=ISSUER_HOST, scheme="https")[2]


def listen(config: Config, address: tuple[str, int], certificate: Path, key: Path) -> None:
    """Has a server of plain HTTP listen with TLS, too.

    Where another program of this machine has the port, as web servers do, the rest of the cloud goes on without it.
    """
    try:
        listener = socket.create_server(address)
    except OSError as error:
        log.warning(
            "user pools are no issuers here, as %s:%d can't be had: %s", *address, os.strerror(error.errno or 0)
        )
        return
    config.insecure_bind, config.bind = config.bind, [f"fd://{listener.detach()}"]
    config.certfile, config.keyfile = str(certificate), str(key)
