"""dcgm-exporter --collectors FILE, listening where DCGM_EXPORTER_LISTEN says."""

import argparse
import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any

from local_dcgm.readings import Counter, Gpu, Meter, counters, exposition

GPUS = Path("/var/lib/kubelet/pod-resources/gpus.json")
"""Written where a node of the local cluster is made: what its instance type has."""


class Exporter:
    """The node's GPUs and when they were last read."""

    def __init__(self, wanted: list[Counter], node: str, gpus: dict[str, Any]):
        self._wanted = wanted
        self._meter = Meter()
        self._gpus = [Gpu(memory_mib=float(gpus["memory_mib"])) for _ in range(int(gpus["count"]))]
        self._labels = [
            {
                "gpu": str(index),
                "UUID": f"GPU-{hashlib.sha256(f'{node} {index}'.encode()).hexdigest()[:32]}",
                "device": f"nvidia{index}",
                "modelName": str(gpus["product"]),
                "Hostname": node,
            }
            for index in range(len(self._gpus))
        ]
        self._read = time.monotonic()
        self._lock = threading.Lock()

    def metrics(self) -> str:
        """Return the metrics now."""
        with self._lock:
            now = time.monotonic()
            seconds, self._read = now - self._read, now
            usage = self._meter.read()
            values = [gpu.readings(usage, seconds) for gpu in self._gpus]
        return exposition(self._wanted, self._labels, values)


def handler(exporter: Exporter) -> type[BaseHTTPRequestHandler]:
    """Return what answers /metrics and /health."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"/metrics": exporter.metrics, "/health": lambda: "OK"}
            answer = answers.get(self.path)
            body = (answer() if answer else "Not Found").encode()
            self.send_response(200 if answer else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  as it is named there
            """Keep scrapes out of the log."""

    return Handler


def main() -> None:
    """Serve until told to stop; ends with 1 for a list of counters that it can't use."""
    parser = argparse.ArgumentParser(prog="dcgm-exporter")
    parser.add_argument("-f", "--collectors", type=Path, required=True, help="the list of counters")
    options = parser.parse_args()
    try:
        wanted = counters(options.collectors.read_text())
        gpus = json.loads(GPUS.read_text()) if GPUS.exists() else {"count": 0, "memory_mib": 0, "product": ""}
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    host, _, port = os.environ.get("DCGM_EXPORTER_LISTEN", ":9400").rpartition(":")
    exporter = Exporter(wanted, os.environ.get("NODE_NAME", ""), gpus)
    server = ThreadingHTTPServer((host, int(port)), handler(exporter))

    def stop(_signal: int, _frame: FrameType | None) -> None:
        threading.Thread(target=server.shutdown).start()  # it waits for the loop that this handler interrupts

    signal.signal(signal.SIGTERM, stop)
    server.serve_forever()


if __name__ == "__main__":
    main()
