"""The embedder: texts in, vectors of one length out, behind OpenAI's `/v1/embeddings`.

Two backends compute the same vectors from the same token ids: sentence-transformers on an NVIDIA GPU, ONNX Runtime on
a CPU. The backends need no HTTP, so that the gateway's semantic cache can embed in its own process with this code.
"""

__version__ = "0.1.0"
