"""Adapters in a stack file: what each of them is, what is refused, and what the checks of a preview see of them."""

from pathlib import Path
from typing import Any

import pytest

from infra import checks
from llm_serving.runtimes.launch import Adapter
from tests.unit.test_settings import MODEL, changed, loaded, problems

NAME = MODEL.partition(".")[2]
LEGAL = {"revision": "7", "rank": 16, "weightGb": 0.05}


def adapters(**given: dict[str, Any]) -> dict[str, Any]:
    return changed(f"{MODEL}.adapters", given)


def test_every_version_serves_all_of_them() -> None:
    settings = adapters(legal={**LEGAL, "model": "legal-lora"}, support=LEGAL)
    settings["models"][NAME]["versions"] = {"stable": {"weight": 90}, "canary": {"weight": 10, "revision": "2"}}
    model = loaded(settings).models[NAME]
    assert (model.adapters["legal"].model, model.adapters["support"].model) == ("legal-lora", None)
    for version in model.services(NAME).values():
        assert version.spec(NAME).adapters == (Adapter("legal", 16, 0.05), Adapter("support", 16, 0.05))


def test_one_may_be_called_model() -> None:
    assert loaded(adapters(model=LEGAL))


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"Legal": LEGAL},
     ("adapters.Legal: is no name of up to 40 lower-case letters, digits and dashes that begins with a letter;"
      " nearest valid value: legal")),
    ({"legal": {**LEGAL, "rank": 0}}, "adapters.legal.rank: 0 is below 1; nearest valid value: 1"),
    ({NAME: LEGAL},
     (f"adapters.{NAME}: has the name of {MODEL}, and requests couldn't tell them apart;"
      f" nearest valid value: {NAME}-{NAME}")),
    ({"all-minilm-l6-v2": LEGAL},
     ("adapters.all-minilm-l6-v2: has the name of embeddings.all-minilm-l6-v2, and requests couldn't tell them apart;"
      f" nearest valid value: {NAME}-all-minilm-l6-v2")),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), BROKEN, ids=[message[:40] for _, message in BROKEN])
def test_broken(given: dict[str, Any], message: str) -> None:
    assert problems(changed(f"{MODEL}.adapters", given)) == [f"llm-serving:{MODEL}.{message}"]


def test_two_of_one_name_are_both_named() -> None:
    settings = adapters(legal=LEGAL)
    other = {key: value for key, value in settings["models"][NAME].items() if key != "autoscaling"}
    settings["models"]["other"] = {**other, "adapters": {"legal": LEGAL}}
    assert problems(settings) == [
        (
            f"llm-serving:models.other.adapters.legal: has the name of {MODEL}.adapters.legal, and requests couldn't"
            " tell them apart; nearest valid value: other-legal"
        )
    ]


@pytest.mark.parametrize(
    ("runtime", "given", "message"),
    [
        (
            "tensorrt-llm",
            LEGAL,
            (
                "adapters: trtllm-serve 1.2.1 knows no adapters by name; nearest valid value: none, or runtime vllm or"
                " tgi"
            ),
        ),
        (
            "vllm",
            {**LEGAL, "rank": 600},
            "adapters.legal.rank: 600 is above 512, the highest that vLLM serves; nearest valid value: 512",
        ),
    ],
)
def test_what_a_runtime_would_not_serve(runtime: str, given: dict[str, Any], message: str) -> None:
    settings = adapters(legal=given)
    settings["models"][NAME]["runtime"] = runtime
    assert f"llm-serving:{MODEL}.{message}" in problems(settings)


def test_the_checks_count_their_memory_and_their_disk() -> None:
    (service,) = checks.stack_of(loaded(adapters(legal=LEGAL, support=LEGAL)), "s", Path()).services.values()
    assert (service.adapter_ranks, service.adapters_gb) == ((16, 16), pytest.approx(0.1))
