"""Inference runtimes: one pure module each, turning what is to be served into arguments, environment and probes."""

from collections.abc import Callable
from dataclasses import dataclass

from llm_serving.runtimes import tgi
from llm_serving.runtimes.launch import Launch, ServiceSpec


@dataclass(frozen=True)
class Runtime:
    """A runtime by its image and its way to launch a service."""

    repository: str
    """ECR repository of its image."""
    launch: Callable[[ServiceSpec], Launch]
    """Returns how to launch a service; raises ValueError for what the runtime would refuse at its start."""


RUNTIMES = {"tgi": Runtime(tgi.REPOSITORY, tgi.launch)}
"""The runtimes by the name that a model's settings give."""
