"""The GPU backend: the model as sentence-transformers loads it, on CUDA. It runs on a CPU too, to be compared there."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from embedder.backend import ON_CPU, ON_GPU, Ids, in_passes
from embedder.model import ModelError, Vectors


class TorchBackend:
    """Vectors by sentence-transformers on `cuda` or `cpu`."""

    name = "torch"

    def __init__(self, folder: Path, device: str = "cuda", threads: int | None = None) -> None:
        """Loads the model in `folder`; raises ModelError where it cannot be.

        :param threads: Threads that compute on a CPU; None for PyTorch's own choice.
        """
        self._torch: Any = importlib.import_module("torch")
        library: Any = importlib.import_module("sentence_transformers")
        # A bar that moves has no place in a log of one JSON object a line.
        importlib.import_module("transformers.utils.logging").disable_progress_bar()
        if threads:
            self._torch.set_num_threads(threads)
        try:
            self.model: Any = library.SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                # Else the weights keep the type that they are stored in, and the vectors are no longer the same.
                model_kwargs={"dtype": self._torch.float32},
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(f"{folder} cannot be loaded: {' '.join(str(error).split())}") from error
        self.model.eval()
        self.device = device
        self.dimensions = int(self.model.get_embedding_dimension())

    def embed(self, inputs: Sequence[Sequence[int]]) -> Vectors:
        """The vector of each input."""
        return in_passes(inputs, ON_CPU if self.device == "cpu" else ON_GPU, self.dimensions, self._run)

    def _run(self, ids: Ids, mask: Ids) -> Vectors:
        with self._torch.inference_mode():
            features = {
                "input_ids": self._torch.from_numpy(ids).to(self.device),
                "attention_mask": self._torch.from_numpy(mask).to(self.device),
            }
            vectors = self.model(features)["sentence_embedding"]
            return cast("Vectors", vectors.float().cpu().numpy())
