"""`llm-serving plan --model`: the choice, the runners-up and why the others are out, as the planner has them."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cli import plan_model
from llm_serving.capacity import catalog, planner
from llm_serving.capacity.throughput import Load
from tests.unit.cli.cli_runner import CONFIG, Answer, ask

OPTION = {
    "instance", "instances", "replicas", "tensor_parallel", "quantization", "kv_pool_tokens", "max_context",
    "concurrent_requests", "per_gpu_gib", "utilization", "seconds_per_output_token", "seconds_to_first_token",
    "usd_per_hour", "usd_per_month", "usd_per_million_output_tokens", "usd_per_thousand_requests",
}  # fmt: skip
LOAD = ("--rps", "2", "--input-tokens", "1000", "--output-tokens", "200")


def plan(capsys: pytest.CaptureFixture[str], *more: str, model: str = "Llama-3.1-70B", runtime: str = "vllm") -> Answer:
    return ask(capsys, "plan", "--model", model, "--runtime", runtime, *more)


def test_the_answer_is_the_planners(capsys: pytest.CaptureFixture[str], today: date) -> None:
    answer = plan(capsys, *LOAD, "--json")
    assert answer.status == 0
    told = answer.json
    chosen = planner.plan(
        catalog.model("Llama-3.1-70B"), catalog.runtime("vllm"), Load(2, 1000, 200), today=today, quantizations=(None,)
    )
    assert chosen.best is not None
    assert set(told["best"]) == OPTION
    assert told["best"]["instance"] == chosen.best.instance.name
    assert told["best"]["usd_per_hour"] == chosen.best.cost.usd_per_hour
    assert [option["instance"] for option in told["runners_up"]] == [each.instance.name for each in chosen.runners_up]
    assert told["ruled_out"] == dict(chosen.ruled_out)
    assert told["assumption"] == chosen.assumption
    named = [told["best"]["instance"], *(option["instance"] for option in told["runners_up"]), *told["ruled_out"]]
    assert sorted(named) == sorted(catalog.instances())


def test_every_type_of_the_catalog_is_in_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    answer = plan(capsys, *LOAD)
    assert answer.status == 0
    assert answer.out.startswith("Llama-3.1-70B with vllm 0.33.0: 2 requests/s of 1000 input and 200 output tokens\n")
    assert "USD an hour" in answer.out.splitlines()[1]
    assert all(name in answer.out for name in catalog.instances())
    assert "unknown" in next(line for line in answer.out.splitlines() if "p5e.48xlarge" in line)


def test_options_reach_the_planner(capsys: pytest.CaptureFixture[str]) -> None:
    def best(*more: str) -> dict[str, Any]:
        return plan(capsys, *LOAD, *more, "--json").json["best"]

    plain = best()
    quantized = best("--quantization", "awq", "--quantization", "gptq")
    assert plain["quantization"] is None
    assert quantized["quantization"] in ("awq", "gptq")
    assert quantized["usd_per_hour"] < plain["usd_per_hour"]
    assert best("--min-replicas", "9")["replicas"] == 9
    assert best("--max-total-tokens", "100000")["max_context"] >= 100000
    assert best("--gpu-memory-utilization", "0.8")["per_gpu_gib"]["usable"] < plain["per_gpu_gib"]["total"]


def test_what_to_know_of_the_choice_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "vision_config": {}}))
    told = plan(capsys, *LOAD, "--json", model=str(config))
    assert told.status == 0
    assert "FIT_OTHER_PARTS" in told.codes
    assert "has vision_config beside the language model" in plan(capsys, *LOAD, model=str(config)).out
    assert "FIT_OTHER_PARTS" not in plan(capsys, *LOAD, "--json").codes


def test_nothing_that_would_do_ends_with_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**CONFIG, "num_hidden_layers": 9_000}))
    answer = plan(capsys, *LOAD, "--json", model=str(config))
    assert answer.status == 1
    assert answer.json["best"] is None
    assert set(answer.json["ruled_out"]) == set(catalog.instances())
    text = plan(capsys, *LOAD, model=str(config))
    assert text.status == 1
    assert text.out.splitlines()[1] == "no instance type of the catalog would do"


def test_types_with_the_same_reason_are_together(today: date) -> None:
    chosen = planner.plan(catalog.model("Llama-3.1-70B"), catalog.runtime("tgi"), Load(2, 1000, 200), today=today)
    reasons = plan_model.by_reason(chosen)
    assert sorted(name for names in reasons.values() for name in names) == sorted(chosen.ruled_out)
    assert max(len(names) for names in reasons.values()) > 5
    for reason, names in reasons.items():
        for name in names:
            assert reason.replace("this type", name) == chosen.ruled_out[name]


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ((), {"--rps", "--input-tokens", "--output-tokens"}),
        (
            ("--rps", "0", "--input-tokens", "-5", "--output-tokens", "x"),
            {"--rps", "--input-tokens", "--output-tokens"},
        ),
        ((*LOAD, "--max-total-tokens", "500"), {"--max-total-tokens"}),
        ((*LOAD, "--max-total-tokens", "90000000"), {"--max-total-tokens"}),
        ((*LOAD, "--min-replicas", "0"), {"--min-replicas"}),
        ((*LOAD, "--html", "x.html", "--account"), {"--html", "--account"}),
        ((*LOAD, "--stack", "x.yaml"), {"--stack"}),
    ],
)
def test_wrong_options_are_told_at_once(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], settings: set[str]
) -> None:
    answer = plan(capsys, *arguments, "--json")
    assert answer.status == 1
    assert {finding["setting"] for finding in answer.json["findings"]} == settings
    assert len(answer.err.splitlines()) == len(settings)


def test_neither_stack_nor_model(capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "plan", "--json")
    assert answer.status == 1
    assert answer.codes == ["INPUT_OPTIONS"]


def test_unknown_names_have_near_ones(capsys: pytest.CaptureFixture[str]) -> None:
    answer = plan(capsys, *LOAD, "--json", model="Llama-3.1-7B", runtime="vlm")
    findings = {finding["setting"]: finding["alternatives"] for finding in answer.json["findings"]}
    assert "Llama-3.1-70B" in findings["--model"]
    assert findings["--runtime"] == ["vllm"]


@pytest.mark.parametrize(("option", "value"), [("--quantization", "foo"), ("--kv-cache-dtype", "foo")])
def test_a_name_that_the_runtime_does_not_know_is_refused(
    capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    answer = plan(capsys, *LOAD, option, value, "--json")
    assert answer.status == 1
    assert {finding["setting"] for finding in answer.json["findings"]} == {option}
