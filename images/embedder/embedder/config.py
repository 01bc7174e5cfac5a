"""What the embedder is told, in environment variables: `EMBEDDER_` and a field's name in capitals."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

PREFIX = "EMBEDDER_"
_SERVICE_LINK = re.compile(r"(.*_)?(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)")
"""What Kubernetes puts into each container's environment about a Service with the name `embedder`."""
MIB = 1024 * 1024


class ConfigError(Exception):
    """Settings that cannot be used; the message names each variable that is wrong."""


class Settings(BaseModel):
    """The settings. Host, port and log level are on the command line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["onnx", "torch"] = "onnx"
    device: Literal["cpu", "cuda"] = "cpu"
    model_dir: Path = Path("/model")
    model_name: str = Field(default="all-MiniLM-L6-v2", pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")
    """The name that requests give."""
    threads: int | None = Field(default=None, ge=1)
    """Threads that compute on a CPU. By default as many as the container may use CPUs."""
    truncate: bool = False
    """Whether an input that is too long for the model is cut. By default it is refused, as OpenAI does."""
    max_inputs: int = Field(default=2048, ge=1)
    """Inputs of one request: OpenAI's limit."""
    max_body_bytes: int = Field(default=10 * MIB, ge=1)
    """API Gateway's own limit."""
    body_timeout_seconds: float = Field(default=30, gt=0)
    """Longest time for a caller to send its request's body."""
    request_timeout_seconds: float = Field(default=120, gt=0)
    """Longest time from a request's acceptance to its last vector."""
    max_queued_tokens: int = Field(default=524_288, ge=1)
    """Tokens that may wait; a request that finds more is refused with 503. One request alone is always taken."""
    max_batch_tokens: int = Field(default=16_384, ge=1)
    """Tokens that are computed at once. A small request waits for one batch at most behind a large one."""
    drain_quiet_seconds: float = Field(default=2, ge=0)
    """After SIGTERM, the process ends once no request has been in flight for this long."""
    drain_deadline_seconds: float = Field(default=130, ge=0)
    """After SIGTERM, the process ends at the latest after this time."""

    @model_validator(mode="after")
    def _device_of_backend(self) -> Self:
        if self.backend == "onnx" and self.device != "cpu":
            raise ValueError("device must be cpu with the backend onnx")
        return self


def load(environment: Mapping[str, str]) -> Settings:
    """The settings in `environment`; raises ConfigError with one line that says what is wrong."""
    fields = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and not _SERVICE_LINK.fullmatch(name.removeprefix(PREFIX))
    }
    try:
        return Settings.model_validate(fields)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(item["loc"], item["msg"]) for item in error.errors())) from error


def _problem(location: tuple[int | str, ...], message: str) -> str:
    name = PREFIX + str(location[0]).upper() if location else "settings"
    return f"{name}: {message.removeprefix('Value error, ')}"
