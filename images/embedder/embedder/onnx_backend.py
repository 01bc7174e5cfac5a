"""The CPU backend: the graph that `onnx_model` wrote, run by ONNX Runtime.

Where the processor computes in bfloat16, ONNX Runtime has OpenVINO compute with it, in half the time: products are of
numbers rounded to 8 bits and summed in 32, and a vector stays as it was to 0.9999 (bench/semantic_cache.md). Elsewhere
it computes itself, in 32 bits: OpenVINO would do bfloat16 there, too, a hundred times as slowly.
"""

import importlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from embedder.backend import ON_CPU, Ids, in_passes
from embedder.cpus import available_cpus, computes_bfloat16
from embedder.model import GRAPH, ModelError, Vectors


class OnnxBackend:
    """Vectors by ONNX Runtime on the CPU."""

    name = "onnx"
    device = "cpu"

    def __init__(self, folder: Path, threads: int | None = None, *, bfloat16: bool | None = None) -> None:
        """Loads the graph in `folder`; raises ModelError where it cannot be.

        :param threads: Threads that compute; None for as many CPUs as the process may use.
        :param bfloat16: Whether it computes in bfloat16; None for what the processor does best.
        """
        # Since 1.29 the package reports its use to Microsoft over HTTPS and keeps an id on disk, unless this is set
        # before its first import; the call in its API that switches it off comes too late for the first report.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        runtime: Any = importlib.import_module("onnxruntime")
        options = runtime.SessionOptions()
        # Left to itself it takes a thread for each core of the node, and a container's limit then stops them all.
        threads = threads or available_cpus()
        options.intra_op_num_threads = threads
        # Nor may its threads wait for work in a loop: under such a limit that takes the time of the next request.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        rounds = computes_bfloat16() if bfloat16 is None else bfloat16
        provider = _openvino(threads) if rounds else "CPUExecutionProvider"
        path = folder / GRAPH
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=[provider])
        except Exception as error:  # the library's errors have no common class
            raise ModelError(f"{path} cannot be loaded: {' '.join(str(error).split())}") from error
        self.dimensions = int(self._session.get_outputs()[0].shape[1])

    def embed(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """The vector of each input."""
        return in_passes(inputs, ON_CPU, self.dimensions, self._run)

    def _run(self, ids: Ids, mask: Ids) -> Vectors:
        (vectors,) = self._session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
        return cast("Vectors", vectors)


def _openvino(threads: int) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's provider that computes in bfloat16, and its options."""
    properties = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": "1",
        # Two pods of a node would choose the same cores.
        "ENABLE_CPU_PINNING": "NO",
    }
    return "OpenVINOExecutionProvider", {"device_type": "CPU", "load_config": json.dumps({"CPU": properties})}
