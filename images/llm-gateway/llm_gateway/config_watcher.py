"""Follows the configuration file: a mounted ConfigMap changes in place, and no request should notice.

Kubernetes replaces a mounted ConfigMap by moving a symbolic link, so the file is looked at, not subscribed to.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from llm_gateway.config import ConfigError, GatewayConfig, load
from llm_gateway.metrics import Metrics

_log = logging.getLogger("llm_gateway")


class ConfigWatcher:
    """Loads the file when it changes and hands each good configuration to `apply`.

    A file that cannot be used leaves the configuration before it in force; it is logged once and counted.
    """

    def __init__(
        self, path: Path, apply: Callable[[GatewayConfig], None], metrics: Metrics, *, interval: float = 2.0
    ) -> None:
        self._path = path
        self._apply = apply
        self._metrics = metrics
        self._interval = interval
        self._seen: tuple[int, int, int] | None = None
        self._missing_reported = False

    def check(self) -> None:
        """Loads the file if it differs from the one last seen."""
        signature = self._signature()
        if signature is None:
            self._report_missing()
            return
        self._missing_reported = False
        if signature == self._seen:
            return
        self._seen = signature
        try:
            config = load(self._path)
        except ConfigError as error:
            self._metrics.config_reloads.labels("refused").inc()
            _log.error("configuration refused", extra={"fields": {"problem": str(error)}})
            return
        self._apply(config)
        self._metrics.config_reloads.labels("applied").inc()
        _log.info("configuration applied", extra={"fields": {"models": sorted(config.models)}})

    async def run(self) -> None:
        """Checks for ever, every `interval` seconds."""
        while True:
            self.check()
            await asyncio.sleep(self._interval)

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _report_missing(self) -> None:
        if not self._missing_reported:
            self._missing_reported = True
            self._metrics.config_reloads.labels("missing").inc()
            _log.error("configuration missing", extra={"fields": {"path": str(self._path)}})
