"""A bridge that starts beside the engine, and is ready when the engine wants its plugin.

Bridge and Terraform provider take seconds to start, and the engine asks for the plugin only when the program has
imported its SDKs and checked its settings. The first plugin takes this bridge. Another one, as for a provider with
another configuration, starts its own: a bridge has one configuration.

Started by `started` as `python -m local.plugins.aws.warm FOLDER`.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import IO

from local.errors import LocalError
from local.plugins.lifetime import when_orphaned

VARIABLE = "LLM_SERVING_WARM_BRIDGE"
"""Names the folder that says where the bridge is."""
_WAIT_SECONDS = 0.05


@contextmanager
def started(environment: Mapping[str, str], log: IO[bytes]) -> Generator[dict[str, str]]:
    """Starts a bridge without waiting for it, and ends it after the block. Gives the variable that leads to it.

    Nothing is started where Pulumi's official plugin is installed. `environment` is what the engine is started with:
    the provider finds its cloud by it. What the programs print goes to `log`.
    """
    programs = Path(environment.get("PULUMI_HOME", os.devnull)).glob("plugins/resource-aws-v*/pulumi-resource-aws")
    if all(program.is_symlink() for program in programs):
        yield {}
        return
    with TemporaryDirectory(prefix="bridge-", ignore_cleanup_errors=True) as folder:
        Path(folder, "free").touch()
        command = [sys.executable, "-P", "-m", "local.plugins.aws.warm", folder]
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield {VARIABLE: folder}
        finally:
            process.terminate()
            process.wait()


class Warm:
    """The bridge that was started for this process alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.messages = f"unix:{folder / 'messages'}"
        """Where the bridge sends what it has to say: the address to listen at."""

    def port(self) -> int:
        """The bridge's port, once it is ready; 0 where it won't start."""
        port = self._folder / "port"
        while not port.exists():
            if not self._folder.exists():
                return 0
            time.sleep(_WAIT_SECONDS)
        return int(port.read_text())


def taken() -> Warm | None:
    """Takes the bridge that was started beside this engine; None where there is none, or another plugin has it."""
    if VARIABLE not in os.environ:
        return None
    folder = Path(os.environ[VARIABLE])
    try:
        (folder / "free").unlink()
    except FileNotFoundError:
        return None
    return Warm(folder)


def main() -> None:
    """Serves until the engine's own process has ended, or says so."""
    # Imported here: the engine's side has no use for it, and must start quickly.
    from local.plugins.aws.bridge import Bridge  # noqa: PLC0415

    folder = Path(sys.argv[1])
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    when_orphaned(stop.set)
    bridge = Bridge(Warm(folder).messages)

    def start() -> None:
        with suppress(LocalError):  # the plugin then tries by itself, and says what is wrong
            bridge.prepare()
        with suppress(FileNotFoundError):  # the engine has ended already
            draft = folder / "draft"
            draft.write_text(str(bridge.port))
            draft.replace(folder / "port")

    threading.Thread(target=start, daemon=True).start()
    stop.wait()
    bridge.end()
    os._exit(0)  # a start under way waits for a bridge that is gone


if __name__ == "__main__":
    main()
