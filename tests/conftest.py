"""What every test needs."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.cloud_harness import Cloud

# Before anything reads it: no test touches the state of the environment that a developer may have running.
os.environ["LLM_SERVING_STATE"] = str(Path(__file__).resolve().parent.parent / ".state" / "tests")

# A shell starts what runs in its background with Ctrl-C ignored, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine takes its time over an example, which is no fault of what is tested.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    """Let Pulumi's SDKs be imported: they warn, whenever they are, about classes of theirs that nothing here uses."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:pulumi_(aws|eks)")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Cloud]":
    """An emulated cloud of a test module's own."""
    from tests.cloud_harness import Cloud  # noqa: PLC0415  most tests need none of what it imports

    running = Cloud(tmp_path_factory.mktemp("cloud"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The certificate of an authority, in PEM."""
    from local import certificates  # noqa: PLC0415

    made = certificates.Pair.named(tmp_path_factory.mktemp("authority"), "authority")
    certificates.create_authority(made, "test")
    return made.certificate.read_text()
