"""What every test needs."""

import os
from pathlib import Path

import pytest

# Before anything reads it: no test touches the state of the environment that a developer may have running.
os.environ["LLM_SERVING_STATE"] = str(Path(__file__).resolve().parent.parent / ".state" / "tests")


def pytest_configure(config: pytest.Config) -> None:
    """Let Pulumi's SDKs be imported: they warn, whenever they are, about classes of theirs that nothing here uses."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:pulumi_(aws|eks)")
