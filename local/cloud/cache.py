"""The Redis behind the ElastiCache address: TLS only, closed until a replication group opens it with its AUTH token.

The emulator's process sees the tokens and hands them to Redis, logged in as an administrator whose password is this
machine's own. Redis keeps hashes only, in its ACL file. Tokens are in no command line and no log.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
import shutil
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from local.cloud import authority, emulator
from local.errors import LocalError
from local.paths import state
from local.processes import Daemon

log = logging.getLogger("cloud.cache")

DAEMON = Daemon("cache")
ADMINISTRATOR = "local-environment"
RETRY_SECONDS = 1.0

tokens_changed = asyncio.Event()
"""Set when a replication group's tokens may have changed."""


def is_installed() -> bool:
    """Whether this machine has a Redis server."""
    return shutil.which("redis-server") is not None


def start(address: str, port: int) -> None:
    """Starts Redis on a port of an address of this machine.

    Raises LocalError where there is no Redis, or it ends at once.
    """
    if not is_installed():
        raise LocalError("redis-server isn't installed", "apt-get install redis-server")
    folder = _folder()
    certificate, key = authority.issue("cache", [address])
    configuration = folder / "redis.conf"
    configuration.write_text("\n".join(_settings(address, port, certificate, key)) + "\n")
    _prepare_users(folder)
    DAEMON.start(["redis-server", configuration], ready=lambda: _accepts(address, port), timeout=20)


def _folder() -> Path:
    folder = state("cloud", "redis", "redis.conf").parent
    folder.chmod(0o700)
    return folder


def _settings(address: str, port: int, certificate: Path, key: Path) -> Iterator[str]:
    yield f"bind {address}"
    yield "port 0"
    yield f"tls-port {port}"
    yield f'tls-cert-file "{certificate}"'
    yield f'tls-key-file "{key}"'
    yield f'tls-ca-cert-file "{authority.ca_certificate()}"'
    yield "tls-auth-clients no"
    yield 'tls-protocols "TLSv1.2 TLSv1.3"'
    yield f'dir "{_folder()}"'
    yield f'aclfile "{_folder() / "users.acl"}"'
    yield "appendonly yes"
    yield "appendfsync everysec"
    yield 'save ""'
    # A full cache forgets what was used least, as the parameter group of a semantic cache does.
    yield "maxmemory 256mb"
    yield "maxmemory-policy allkeys-lru"
    yield "daemonize no"


def _prepare_users(folder: Path) -> None:
    """Makes the administrator, and keeps everybody else out, where Redis has no users yet."""
    password, users = folder / "administrator", folder / "users.acl"
    if password.exists() and users.exists():
        return
    secret = secrets.token_urlsafe(32)
    for path in (password, users):
        path.touch(mode=0o600)
    password.write_text(secret)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    users.write_text(f"user default off resetpass\nuser {ADMINISTRATOR} on #{digest} ~* &* +@all\n")


def _accepts(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


# In the emulator's process


async def follow_groups(cloud: Path, host: str, port: int) -> None:
    """Has the emulator's replication groups report Redis's address, and Redis accept their tokens as these change."""
    readdress(host, port)
    applied: list[str] | None = None
    while True:
        tokens_changed.clear()
        rules = _rules()
        if rules != applied:
            try:
                await _apply(cloud / "redis", (host, port), rules)
                applied = rules
            except (OSError, ssl.SSLError, asyncio.IncompleteReadError, KeyError) as error:
                log.info("Redis isn't there yet: %s", error)
        timeout = None if rules == applied else RETRY_SECONDS
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(tokens_changed.wait(), timeout)


def readdress(host: str, port: int) -> None:
    """Has every replication group report the address that Redis has this time: its port or host may have changed."""
    for _, group in emulator.service("elasticache")._replication_groups.all_items():
        for endpoint in _endpoints(group):
            endpoint.update(Address=host, Port=port)


def _endpoints(record: Any) -> Iterator[dict[str, Any]]:
    """Every endpoint in a record of MiniStack's."""
    if isinstance(record, dict):
        known = cast("dict[str, Any]", record)
        if known.keys() == {"Address", "Port"}:
            yield known
        for value in known.values():
            yield from _endpoints(value)
    elif isinstance(record, list):
        for value in cast("list[Any]", record):
            yield from _endpoints(value)


def _rules() -> list[str]:
    """The ACL rules of Redis's default user, with which clients of ElastiCache log in when they send a token."""
    groups: list[dict[str, Any]] = [
        record for _, record in emulator.service("elasticache")._replication_groups.all_items()
    ]
    if not groups:
        return ["reset", "off"]
    tokens = sorted({token for group in groups for token in group["_auth_tokens"]})
    open_to_all = any(group.get("_auth_optional") or not group["_auth_tokens"] for group in groups)
    passwords = ["nopass"] if open_to_all else [f">{token}" for token in tokens]
    return ["reset", "on", *passwords, "~*", "&*", "+@all", "-@admin", "-@dangerous", "+info", "+keys", "+flushdb"]


async def _apply(folder: Path, address: tuple[str, int], rules: list[str]) -> None:
    context = ssl.create_default_context(cafile=authority.ca_certificate())
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    try:
        password = (folder / "administrator").read_text()
        await _command(reader, writer, "AUTH", ADMINISTRATOR, password)
        await _command(reader, writer, "ACL", "SETUSER", "default", *rules)
        await _command(reader, writer, "ACL", "SAVE")
        if "off" in rules:
            # Deleting the last replication group deletes its data and ends its connections.
            await _command(reader, writer, "FLUSHALL")
            await _command(reader, writer, "CLIENT", "KILL", "USER", "default")
    finally:
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


async def _command(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *words: str) -> None:
    """Sends one command. Raises ConnectionError where Redis refuses it, without the words: they may be secret."""
    encoded = [word.encode() for word in words]
    writer.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
    await writer.drain()
    answer = await reader.readuntil(b"\r\n")
    if answer.startswith(b"-"):
        raise ConnectionError(f"Redis refused {words[0]}: {answer.split()[0].decode()}")
