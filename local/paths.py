"""Where the local environment keeps things: what is built, outside the checkout; what runs, inside it."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-serving"
"""Built programs, image layers and the local certificate authority: shared by every checkout on the machine."""

STATE = Path(os.environ.get("LLM_SERVING_STATE") or ROOT / ".state")
"""What belongs to this checkout's environment: emulator and etcd data, Pulumi's state, process ids, logs, ports."""


def state(*parts: str) -> Path:
    """A path below the state folder, its parent folder made."""
    path = STATE.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def image_sources(*images: str) -> str:
    """The PYTHONPATH by which the code of these folders of `images/` runs outside of an image."""
    return os.pathsep.join(str(ROOT / "images" / each) for each in images)
