"""Stands for vLLM 0.33.0 where there is no GPU: its arguments, API and metrics over llama.cpp."""

VERSION = "0.33.0"
"""The version of vLLM whose command line, server and metrics these are."""
