"""Runs a command of `llm-serving` in this process."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from cli.main import main

CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}
"""The config.json of a Llama of 8B."""


@dataclass(frozen=True)
class Answer:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def codes(self) -> list[str]:
        return [finding["code"] for finding in self.json["findings"]]


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Answer:
    status = main(arguments)
    captured = capsys.readouterr()
    return Answer(status, captured.out, captured.err)
