"""`llm-serving fit`: exit status, JSON, text, and every way to ask wrongly."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from llm_serving.capacity import catalog
from tests.unit.cli.cli_runner import CONFIG, Answer, ask

KEYS = {
    "fits", "model", "instance", "runtime", "runtime_version", "tensor_parallel", "nodes", "max_total_tokens",
    "kv_pool_tokens", "max_context", "concurrent_requests", "per_gpu_gib", "findings",
}  # fmt: skip


def fit(capsys: pytest.CaptureFixture[str], model: str, instance: str, *more: str, runtime: str = "vllm") -> Answer:
    return ask(capsys, "fit", "--model", model, "--instance", instance, "--runtime", runtime, *more)


def test_a_model_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    answer = fit(capsys, "Llama-3.1-8B", "g6.xlarge", "--json")
    assert answer.status == 0
    assert answer.err == ""
    told = answer.json
    assert set(told) == KEYS
    assert told["fits"] is True
    assert (told["model"], told["instance"], told["runtime"]) == ("Llama-3.1-8B", "g6.xlarge", "vllm")
    assert told["tensor_parallel"] == 1
    budget = told["per_gpu_gib"]
    assert set(budget) == {"total", "usable", "weights", "kv_cache", "overhead", "headroom"}
    assert budget["usable"] == pytest.approx(budget["weights"] + budget["overhead"] + budget["kv_cache"], abs=0.002)
    assert told["concurrent_requests"] == told["kv_pool_tokens"] // told["max_total_tokens"]
    assert all(finding["severity"] != "error" for finding in told["findings"])


def test_a_model_that_does_not_fit_names_what_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    answer = fit(capsys, "Llama-3.1-70B", "g5.12xlarge", "--json", runtime="tgi")
    assert answer.status == 1
    assert answer.json["fits"] is False
    finding = next(each for each in answer.json["findings"] if each["code"] == "FIT_WEIGHTS")
    assert finding["severity"] == "error"
    assert finding["setting"] == "--instance"
    assert "largest context that fits: 0 tokens" in finding["message"]
    assert "g5.48xlarge" in finding["alternatives"]
    assert all(name in catalog.instances() for name in finding["alternatives"])


def test_the_default_split_is_all_gpus_of_the_instance(capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(capsys, "Llama-3.1-70B", "g6e.12xlarge", "--json").json["tensor_parallel"] == 4
    assert fit(capsys, "Llama-3.1-70B", "g6e.12xlarge", "--json", "--tp", "2").json["tensor_parallel"] == 2


def test_a_finding_of_a_rule_makes_it_unfit(capsys: pytest.CaptureFixture[str]) -> None:
    answer = fit(capsys, "Llama-3.1-8B", "g6.12xlarge", "--tp", "3", "--json")
    assert answer.status == 1
    assert "TP_HEADS" in answer.codes


def test_a_driver_that_does_not_know_the_gpu_makes_it_unfit(capsys: pytest.CaptureFixture[str]) -> None:
    assert "DRIVER_GPU" in fit(capsys, "Llama-3.1-8B", "g7.2xlarge", "--json").codes


def test_errors_come_before_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    answer = fit(capsys, "Llama-3.1-70B", "g5.12xlarge", "--json", "--quantization", "foo")
    ranks = [("error", "warning", "unchecked").index(finding["severity"]) for finding in answer.json["findings"]]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) > 1


def test_every_option_reaches_the_computation(capsys: pytest.CaptureFixture[str]) -> None:
    plain = fit(capsys, "Llama-3.1-8B", "g6e.xlarge", "--json").json

    def with_option(*more: str) -> dict[str, Any]:
        return fit(capsys, "Llama-3.1-8B", "g6e.xlarge", "--json", *more).json

    assert with_option("--quantization", "awq")["per_gpu_gib"]["weights"] < plain["per_gpu_gib"]["weights"]
    assert with_option("--kv-cache-dtype", "fp8")["kv_pool_tokens"] == pytest.approx(2 * plain["kv_pool_tokens"], abs=1)
    assert with_option("--gpu-memory-utilization", "0.5")["per_gpu_gib"]["usable"] == pytest.approx(
        plain["per_gpu_gib"]["total"] / 2, abs=0.001
    )
    assert with_option("--max-total-tokens", "100000")["concurrent_requests"] == plain["kv_pool_tokens"] // 100000
    assert with_option("--nodes", "2")["nodes"] == 2
    for option, value, code in (
        ("--dtype", "foo", "DTYPE_UNKNOWN"),
        ("--max-input-tokens", "9000", "TOKENS_INPUT"),
        ("--expected-concurrency", "9000", "FIT_CONCURRENCY"),
    ):
        assert code in [finding["code"] for finding in with_option(option, value)["findings"]]


@pytest.mark.parametrize("folder", [True, False])
def test_a_config_json_and_its_folder_are_models(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, folder: bool
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(CONFIG))
    answer = fit(capsys, str(tmp_path if folder else config), "g6.xlarge", "--json")
    own = fit(capsys, "Llama-3.1-8B", "g6.xlarge", "--json")
    assert answer.json["kv_pool_tokens"] == own.json["kv_pool_tokens"]


def test_everything_that_is_wrong_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--tp", "0", "--max-total-tokens", "many", "--gpu-memory-utilization", "1.5", "--nodes", "2000")
    answer = fit(capsys, "Llama-3.1-8", "g6.xlarg", *more, "--json", runtime="vlm")
    assert answer.status == 1
    assert answer.json["fits"] is False
    findings = {finding["setting"]: finding for finding in answer.json["findings"]}
    assert {setting: finding["code"] for setting, finding in findings.items()} == {
        "--model": "INPUT_UNKNOWN",
        "--instance": "INPUT_UNKNOWN",
        "--runtime": "INPUT_UNKNOWN",
        "--tp": "INPUT_RANGE",
        "--nodes": "INPUT_RANGE",
        "--max-total-tokens": "INPUT_RANGE",
        "--gpu-memory-utilization": "INPUT_RANGE",
    }
    assert "Llama-3.1-8B" in findings["--model"]["alternatives"]
    assert "g6.xlarge" in findings["--instance"]["alternatives"]
    assert findings["--runtime"]["alternatives"] == ["vllm"]
    assert findings["--tp"]["alternatives"] == ["1"]
    assert findings["--nodes"]["alternatives"] == ["1024"]
    assert findings["--gpu-memory-utilization"]["alternatives"] == ["1"]
    assert findings["--max-total-tokens"]["message"] == "'many' is no whole number from 2 to 100000000"
    assert len(answer.err.splitlines()) == len(findings)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "0", "-1", "", "1e400", "one", "0.05", "1.0001"])
def test_a_fraction_that_is_none_is_refused(capsys: pytest.CaptureFixture[str], value: str) -> None:
    answer = fit(capsys, "Llama-3.1-8B", "g6.xlarge", f"--gpu-memory-utilization={value}", "--json")
    assert answer.status == 1
    assert answer.codes == ["INPUT_RANGE"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "config.json"),
        ("[]", "config.json"),
        ("{}", "model_type"),
        ('{"model_type": "llama"}', "hidden_size"),
        (json.dumps({**CONFIG, "num_hidden_layers": "many"}), "num_hidden_layers"),
        ("\x00\x01", "config.json"),
    ],
)
def test_a_config_json_that_is_no_model_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    answer = fit(capsys, str(tmp_path), "g6.xlarge", "--json")
    assert answer.status == 1
    assert set(answer.codes) == {"INPUT_MODEL"}
    assert said in " ".join(finding["message"] for finding in answer.json["findings"])
    assert "Traceback" not in answer.err


def test_text_has_a_bar_of_a_whole_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    answer = fit(capsys, "Llama-3.1-8B", "g6.xlarge")
    lines = answer.out.splitlines()
    assert lines[0] == "Llama-3.1-8B on g6.xlarge (1 x L4) with vllm 0.33.0, tensor parallel 1"
    assert lines[-1] == "fits"
    bar = next(re.finditer(r"[█▓▒░]+", answer.out))[0]
    assert len(bar) == 32
    assert list(dict.fromkeys(bar)) == ["█", "▓", "▒", "░"]


def test_text_shows_what_is_too_much(capsys: pytest.CaptureFixture[str]) -> None:
    answer = fit(capsys, "Llama-3.1-70B", "g5.12xlarge")
    assert answer.status == 1
    assert "▚ too much" in answer.out
    assert answer.out.splitlines()[-1] == "does not fit"


def _numbers(pattern: str, text: str) -> list[float]:
    found = re.search(pattern, text)
    assert found, f"{pattern} is not in {text}"
    return [float(number) for number in found.groups()]


@pytest.mark.parametrize("runtime", ["tgi", "vllm", "tensorrt-llm"])
@pytest.mark.parametrize("instance", ["g6.xlarge", "g5.12xlarge", "g6e.12xlarge", "p5.48xlarge"])
def test_every_number_of_a_fit_message_is_one_of_the_answer(
    capsys: pytest.CaptureFixture[str], instance: str, runtime: str
) -> None:
    for model in catalog.models():
        told = fit(capsys, model, instance, "--json", runtime=runtime).json
        budget = told["per_gpu_gib"]
        for finding in told["findings"]:
            text = finding["message"]
            if finding["code"] == "FIT_WEIGHTS":
                named = _numbers(
                    r"([\d.]+) GiB for weights and ([\d.]+) GiB of overhead, and may use ([\d.]+) of", text
                )
                assert named == pytest.approx([budget["weights"], budget["overhead"], budget["usable"]], abs=0.006)
                assert told["max_context"] == 0
            elif finding["code"] == "FIT_KV_POOL":
                named = _numbers(r"leave each GPU ([\d.]+) of its ([\d.]+) GiB", text)
                assert named == pytest.approx([budget["kv_cache"], budget["total"]], abs=0.006)
                assert _numbers(r"largest context that fits: (\d+) tokens", text) == [told["max_context"]]
                assert finding["alternatives"][0] == str(told["max_context"])
            elif finding["code"] == "FIT_HEADROOM":
                assert _numbers(r"^([\d.-]+) GiB of each GPU", text) == pytest.approx([budget["headroom"]], abs=0.006)
