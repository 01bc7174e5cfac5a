"""The CPU backend: the graph that `onnx_model` wrote, run by ONNX Runtime."""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from embedder.backend import ON_CPU, Ids, in_passes
from embedder.cpus import available_cpus
from embedder.model import GRAPH, ModelError, Vectors


class OnnxBackend:
    """Vectors by ONNX Runtime on the CPU."""

    name = "onnx"
    device = "cpu"

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Loads the graph in `folder`; raises ModelError where it cannot be.

        :param threads: Threads that compute; None for as many CPUs as the process may use.
        """
        # Since 1.29 the package reports its use to Microsoft over HTTPS and keeps an id on disk, unless this is set
        # before its first import; the call in its API that switches it off comes too late for the first report.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        runtime: Any = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        # Left to itself it takes a thread for each core of the node, and a container's limit then stops them all.
        options.intra_op_num_threads = threads or available_cpus()
        # Nor may its threads wait for work in a loop: under such a limit that takes the time of the next request.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = folder / GRAPH
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's errors have no common class
            raise ModelError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error
        self.dimensions = int(self._session.get_outputs()[0].shape[1])

    def embed(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """The vector of each input."""
        return in_passes(inputs, ON_CPU, self.dimensions, self._run)

    def _run(self, ids: Ids, mask: Ids) -> Vectors:
        (vectors,) = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        return cast("Vectors", vectors)
