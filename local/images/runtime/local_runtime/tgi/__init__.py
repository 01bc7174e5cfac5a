"""Stands for Text Generation Inference 3.3.7 where there is no GPU: its arguments, API and metrics over llama.cpp."""

VERSION = "3.3.7"
"""The version of Text Generation Inference whose launcher, router and metrics these are."""
