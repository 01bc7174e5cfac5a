"""A bucket of its own for each test, on one S3 server for all of them, and parts so small that tests are fast."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from llm_serving.registry import s3
from llm_serving.registry.s3 import Bucket
from tests.model_files import write_model
from tests.s3_harness import Server, s3_client


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    running = Server(tmp_path_factory.mktemp("s3"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def client(server: Server) -> Any:
    return s3_client(server.port)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", s3.MEBIBYTE)


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> Bucket:
    name = f"models-{abs(hash(request.node.nodeid)):x}"
    client.create_bucket(Bucket=name)
    return Bucket(name, client)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of six parts and three small files."""
    return write_model(tmp_path / "model", bytes(range(256)) * 4096 * 6)
