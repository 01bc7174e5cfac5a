"""Stands for TensorRT-LLM 1.2.1 where there is no GPU: trtllm-serve's arguments, API and metrics over llama.cpp."""

VERSION = "1.2.1"
"""The version of TensorRT-LLM whose command line, server and metrics these are."""
