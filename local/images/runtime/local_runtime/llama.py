"""SmolLM2 or any other GGUF model on llama.cpp: continuous batching, KV slots and prefix reuse are llama.cpp's own.

Its server listens on a free port of the loopback interface inside the container, where nobody else is; a front end
talks to it over HTTP, so that a client that goes away frees its slot.
"""

import asyncio
import dataclasses
import importlib
import json
import os
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp

from local_runtime import lora
from local_runtime.engine import FinishReason, GenerationError, Sampling, Step, TemplateError, Token

THREADS = 2
"""Of the machine's cores, which all nodes share."""
TOKENIZERS = 2
"""Prompts tokenized at once, besides the requests that run."""
BATCH_TOKENS = 256
"""Prompt tokens read in one step: small, so that reading a long prompt doesn't hold up running answers for long."""
PENALTY_TOKENS = 4096
"""How far back repetition counts: the real ones look at the whole text."""
_FINISH: dict[str, FinishReason] = {"limit": "length", "eos": "eos_token", "word": "stop_sequence"}


class NoModelError(Exception):
    """A folder without a model that llama.cpp can load."""


def find_model(model_id: str) -> Path:
    """The GGUF file in a model's folder. Raises NoModelError where there isn't exactly one."""
    found = sorted(Path(model_id).glob("*.gguf"))
    if len(found) != 1:
        have = ", ".join(sorted(path.name for path in Path(model_id).glob("*"))) or "nothing"
        raise NoModelError(
            f"{model_id} must be a folder with one *.gguf file and has {have}:"
            " the local runtime loads no model from the hub and no safetensors"
        )
    return found[0]


class LlamaEngine:
    """llama.cpp's server and the client that talks to it. Made by `load`."""

    def __init__(
        self, server: Any, http: aiohttp.ClientSession, end: Token, trained_tokens: int, adapters: Sequence[str]
    ) -> None:
        self._server = server  # llama.cpp stops when nothing refers to it
        self._http = http
        self._end = end
        self._trained_tokens = trained_tokens
        self._adapters = {name: number for number, name in enumerate(adapters)}

    @classmethod
    async def load(
        cls, model: Path, *, slots: int, context_tokens: int, adapters: Mapping[str, Path] | None = None
    ) -> Self:
        """Loads and warms a model, with a KV cache of so many tokens that all slots share.

        `adapters` are folders of LoRA adapters by name. Raises lora.AdapterError for one that can't be served.
        """
        server = await asyncio.to_thread(_start, model, slots, context_tokens, adapters or {})
        http = aiohttp.ClientSession(
            server.listening_address,
            timeout=aiohttp.ClientTimeout(total=None),
            # Its server holds a thread for each connection and lets five wait: one beyond that would be refused. It
            # closes idle ones when it likes, which a request that is just being sent would not survive.
            connector=aiohttp.TCPConnector(limit=slots + TOKENIZERS, force_close=True),
            read_bufsize=2**20,
        )
        async with http.get("/props") as answer:
            text: str = (await answer.json())["eos_token"]
        async with http.post("/tokenize", json={"content": text, "parse_special": True}) as answer:
            identifier: int = (await answer.json())["tokens"][0]
        async with http.get("/v1/models") as answer:
            trained: int = (await answer.json())["data"][0]["meta"]["n_ctx_train"]
        return cls(server, http, Token(identifier, text, 0.0, special=True), trained, list(adapters or ()))

    @property
    def trained_tokens(self) -> int | None:
        """As the model's file says."""
        return self._trained_tokens

    async def token_ids(self, text: str, *, add_special: bool) -> list[tuple[int, str]]:
        """The model's own tokens of a text."""
        body = {"content": text, "add_special": add_special, "parse_special": True, "with_pieces": True}
        _, answer = await self._post("/tokenize", body)
        tokens: list[dict[str, Any]] = answer["tokens"]
        return [(token["id"], _piece(token["piece"])) for token in tokens]

    async def prompt(self, messages: Sequence[dict[str, Any]]) -> str:
        """The prompt that the model's own chat template makes of messages."""
        status, answer = await self._post("/apply-template", {"messages": list(messages)})
        if status != 200:
            raise TemplateError(answer["error"]["message"])
        return answer["prompt"]

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            async with self._http.post(path, json=body) as answer:
                return answer.status, await answer.json()
        except aiohttp.ClientError as error:
            raise GenerationError(str(error) or type(error).__name__) from error

    async def generate(self, prompt: str, sampling: Sampling) -> AsyncGenerator[Step]:
        """Streams llama.cpp's completion, in the interface's terms."""
        held: Step | None = None
        body = _request(prompt, sampling)
        if self._adapters:
            # llama.cpp goes on from what another adapter has read into a slot as if it were the same.
            body["cache_prompt"] = False
        if sampling.adapter in self._adapters:
            # Those that a request doesn't name have no part in its answer.
            body["lora"] = [{"id": self._adapters[sampling.adapter], "scale": 1.0}]
        try:
            async with self._http.post("/completion", json=body) as answer:
                async for line in answer.content:
                    if answer.status == 200 and not line.startswith((b"data: ", b"error: ")):
                        continue
                    chunk = _chunk(line)
                    if chunk["stop"]:
                        yield self._last(chunk, held)
                        return
                    if held is not None:
                        yield held
                    # The token that reaches the limit is the last one, and so may be one without text, which may begin
                    # a stop sequence: whether it is comes with the next chunk.
                    step = _step(chunk, sampling)
                    held = step if chunk["tokens_predicted"] >= sampling.limit or not step.token.text else None
                    if held is None:
                        yield step
        except aiohttp.ClientError as error:
            raise GenerationError(str(error) or type(error).__name__) from error
        raise GenerationError("the engine's stream ended early")

    def _last(self, chunk: dict[str, Any], held: Step | None) -> Step:
        reason = _FINISH[chunk["stop_type"]]
        last = held.token if held else Token(0, "", 0.0)
        if reason == "eos_token":
            last = self._end
        elif reason == "stop_sequence":
            last = dataclasses.replace(last, text=chunk["content"])
        return Step(
            last,
            top_tokens=held.top_tokens if held else [],
            finish_reason=reason,
            generated_tokens=chunk["tokens_predicted"],
            prefill_seconds=chunk["timings"]["prompt_ms"] / 1000,
            cached_tokens=chunk["timings"]["cache_n"],
            stop=chunk["stopping_word"] if reason == "stop_sequence" else "",
        )

    async def healthy(self) -> bool:
        """Whether llama.cpp's server answers."""
        try:
            async with self._http.get("/health", timeout=aiohttp.ClientTimeout(total=5)) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def close(self) -> None:
        """Closes the connections; llama.cpp ends with the process."""
        await self._http.close()


def _start(model: Path, slots: int, context_tokens: int, adapters: Mapping[str, Path]) -> Any:
    # Threads that wait for each other must sleep, not spin: spinning makes a token take a second where the machine's
    # cores are busy with other pods. Read when the library is loaded.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    # Imported by name and only here: it has no types, and the other engine needs none of its 100 MB.
    xllamacpp: Any = importlib.import_module("xllamacpp")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_parallel = slots
    parameters.n_ctx = context_tokens
    # Those of clients that went away are free again only once the server has noticed.
    parameters.n_threads_http = 2 * slots + TOKENIZERS
    parameters.kv_unified = True
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = THREADS
    parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
    parameters.cache_ram_mib = (
        0  # prompts of idle slots are kept in the KV cache only: memory is what there is least of
    )
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.ui = False
    parameters.verbosity = 0
    # llama.cpp reads them whole when it starts.
    with tempfile.TemporaryDirectory() as converted:
        infos: list[Any] = []
        for number, folder in enumerate(adapters.values()):
            path = Path(converted) / f"{number}.gguf"
            lora.write(folder, model.parent, path)
            infos.append(xllamacpp.CommonAdapterLoraInfo(str(path), 0.0))
        if infos:
            parameters.lora_adapters = infos
        return xllamacpp.Server(parameters)


def _request(prompt: str, sampling: Sampling) -> dict[str, Any]:
    body = {
        "prompt": prompt,
        "n_predict": sampling.limit,
        "stream": True,
        "return_tokens": True,
        "n_probs": max(1, sampling.top_n_tokens),
        "cache_prompt": True,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "typical_p": sampling.typical_p,
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": PENALTY_TOKENS,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "ignore_eos": sampling.ignore_eos,
        "seed": sampling.seed % 2**32,
        "stop": list(sampling.stop),
    }
    return body if sampling.schema is None else {**body, "json_schema": sampling.schema}


def _chunk(line: bytes) -> dict[str, Any]:
    text = line.decode().partition("{")
    try:
        chunk: dict[str, Any] = json.loads(text[1] + text[2])
    except ValueError:
        raise GenerationError(f"the engine answered {line[:200]!r}") from None
    if "stop" not in chunk:
        error: dict[str, Any] = chunk.get("error", chunk)
        raise GenerationError(str(error.get("message", error)))
    return chunk


def _step(chunk: dict[str, Any], sampling: Sampling) -> Step:
    entries: list[dict[str, Any]] = chunk.get("completion_probabilities") or []
    identifier = chunk["tokens"][-1] if chunk["tokens"] else 0
    logprob = sum(entry["logprob"] for entry in entries)
    top: list[dict[str, Any]] = entries[-1]["top_logprobs"] if entries and sampling.top_n_tokens else []
    return Step(
        Token(identifier, chunk["content"], logprob),
        [Token(entry["id"], entry["token"], entry["logprob"]) for entry in top],
    )


def _piece(piece: str | list[int]) -> str:
    # Part of a character comes as bytes.
    return piece if isinstance(piece, str) else bytes(piece).decode(errors="replace")
