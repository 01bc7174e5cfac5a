"""What every test needs."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Let Pulumi's SDKs be imported: they warn, whenever they are, about classes of theirs that nothing here uses."""
    config.addinivalue_line("filterwarnings", "ignore::DeprecationWarning:pulumi_(aws|eks)")
