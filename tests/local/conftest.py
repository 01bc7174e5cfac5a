"""One real environment for every test that is marked `environment`: its own state, brought up once, gone at the end."""

import shutil
from collections.abc import Iterator

import pytest

from local.cluster import network
from local.paths import STATE
from local.processes import reap_all
from tests.environment_harness import leftovers, run

ORDER = ("test_environment_stops.py", "test_environment_faults.py")
"""What starts with nothing running comes first, what destroys the stack last; else one `up` would not do."""
LAST = "test_environment_stack.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the environment's tests into the order in which they need one `up`."""

    def place(item: pytest.Item) -> int:
        if item.get_closest_marker("environment") is None:
            return -1
        name = item.path.name
        return ORDER.index(name) if name in ORDER else len(ORDER) + (name == LAST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def machine() -> Iterator[None]:
    """This machine, with no environment on it, before and after."""
    owner = network.owner()
    if owner and owner.runs and owner.state != STATE:
        pytest.fail(f"an environment runs on this machine (its state is in {owner.state}): stop it with `make down`")
    _clear()
    yield
    _clear()


def _clear() -> None:
    run("down")
    reap_all()
    assert not leftovers()
    shutil.rmtree(STATE, ignore_errors=True)


@pytest.fixture(scope="session")
def environment(machine: None) -> str:
    """The environment, up. What `up` printed."""
    return run("up")
