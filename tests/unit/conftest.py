"""What the unit tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway_harness import RedisServer, redis_server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis of the test's own."""
    with redis_server(tmp_path) as server:
        yield server
