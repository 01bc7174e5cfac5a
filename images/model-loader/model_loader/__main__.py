"""`python -m model_loader s3://BUCKET/models/NAME/REVISION [DESTINATION] [--wait-seconds N]`."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from model_loader.errors import LoadError
from model_loader.load import load
from model_loader.manifest import parse
from model_loader.source import source


def main(arguments: Sequence[str] | None = None) -> int:
    """Loads a model; returns the exit status: 0 where the destination, or the revision itself, is complete, else 1."""
    parser = argparse.ArgumentParser("model_loader", description="Fetches a model's weights from the model bucket.")
    parser.add_argument("source", help="s3://BUCKET/models/NAME/REVISION")
    parser.add_argument(
        "destination",
        type=Path,
        nargs="?",
        help="folder to write the model's files to; without it, the loader only waits until the revision is there",
    )
    parser.add_argument(
        "--wait-seconds", type=float, default=600, help="how long to wait for the manifest (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        origin = source(options.source)
        manifest = parse(origin.wait_for_manifest(options.wait_seconds))
        if options.destination is None:
            logging.info("%s revision %s is there: %.1f MB", manifest.model, manifest.revision, manifest.size / 1e6)
        else:
            load(manifest, options.destination, origin.download)
    except LoadError as error:
        logging.error("%s", error)  # noqa: TRY400  its message says all; a traceback would bury it
        return 1
    return 0


def _terminate(*_: object) -> None:
    # The first process of a container ignores SIGTERM unless it handles it. Downloads aren't waited for: what they
    # leave is removed by the next start.
    os._exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
