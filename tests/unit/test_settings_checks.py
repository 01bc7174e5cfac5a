"""What the program makes of the checks: settings as they see them, and findings as Pulumi tells them."""

import json
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from infra import checks as program_checks
from infra.problems import SettingsError
from infra.settings import Settings
from llm_serving.capacity import catalog, checks, cloud
from llm_serving.capacity.cloud_facts import CloudFacts
from llm_serving.capacity.findings import Finding
from llm_serving.capacity.stack import Stack
from tests.unit.test_settings import changed, loaded, values

MODEL = "models.smollm2-135m"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}


def stack(settings: Settings, base: Path = program_checks.ROOT) -> Stack:
    return program_checks.stack_of(settings, "local", base)


def test_a_stack_as_the_checks_see_it() -> None:
    made = stack(loaded(values()))
    assert (made.name, made.region, made.zones) == ("local", "us-east-1", ("us-east-1a", "us-east-1b"))
    assert (made.system_pool.name, made.system_pool.gpu) == ("system", False)
    pool = made.gpu_pools["l4"]
    assert (pool.name, pool.instance_types, pool.desired_size, pool.max_size) == ("l4", ("g6.xlarge",), 2, 3)
    assert (pool.disk_gb, pool.gpu, pool.release_version) == (100, True, "1.36.2-20260714")
    service = made.services["smollm2-135m"]
    assert service.model == catalog.model("SmolLM2-135M")
    assert (service.model_reference, service.model_named, service.model_problem) == ("smollm2-135m", False, None)
    assert (made.cache.engine, made.cache.engine_version, made.cache.node_type) == ("valkey", "8.2", "cache.t4g.small")
    assert (made.response_transfer_mode, made.api_timeout_seconds, made.gateway_replicas) == ("STREAM", None, 2)
    assert not made.installs_device_plugin
    assert set(made.allow) == {"DEVICE_PLUGIN", "CACHE_RESERVED_MEMORY"}


def test_what_a_model_sets() -> None:
    settings = values()
    settings["models"]["smollm2-135m"] |= {
        "dtype": "float16",
        "kvCacheDtype": "fp8_e5m2",
        "gpuMemoryUtilization": 0.8,
        "maxBatchPrefillTokens": 2048,
        "expectedConcurrency": 8,
        "meanTotalTokens": 500,
        "allow": {"WEIGHT_SIZE": "the runtime loads another format"},
    }
    service = stack(loaded(settings)).services["smollm2-135m"]
    assert (service.dtype, service.quantization, service.kv_cache_dtype) == ("float16", None, "fp8_e5m2")
    assert (service.gpu_memory_utilization, service.max_batch_prefill_tokens) == (0.8, 2048)
    assert (service.expected_concurrency, service.mean_total_tokens) == (8, 500)
    assert service.allow == {"WEIGHT_SIZE": "the runtime loads another format"}
    (placement,) = checks.placements(stack(loaded(settings)), service)
    assert (placement.setting, placement.gpu_memory_utilization) == (MODEL, 0.8)
    assert (placement.target_concurrency, placement.mean_total_tokens) == (8, 500)


def test_a_model_by_the_path_of_its_config(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.json").write_text(json.dumps(CONFIG))
    for reference in ("ours", "ours/config.json"):
        service = stack(loaded(changed(f"{MODEL}.model", reference)), tmp_path).services["smollm2-135m"]
        assert service.model is not None
        assert (service.model.layers, service.model.kv_heads) == (12, 4)


@pytest.mark.parametrize("reference", ["Llama-3.1-7B", "nowhere/config.json", "broken"])
def test_a_model_that_is_not_there_is_an_error(reference: str, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    found = checks.check(stack(loaded(changed(f"{MODEL}.model", reference)), tmp_path), today=date(2026, 11, 25))
    (finding,) = [each for each in found if each.severity == "error"]
    assert (finding.code, finding.setting) == ("MODEL_UNKNOWN", f"{MODEL}.model")
    assert "\n" not in finding.message


def test_a_model_whose_name_says_nothing_is_not_checked() -> None:
    settings = values()
    settings["models"] = {"our-own": settings["models"]["smollm2-135m"]}
    found = checks.check(stack(loaded(settings)), today=date(2026, 11, 25))
    assert [each.severity for each in found if each.code == "MODEL_UNKNOWN"] == ["unchecked"]


class Log:
    """What was told to Pulumi."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[str] = []
        for level in ("warn", "info"):
            monkeypatch.setattr(f"pulumi.log.{level}", partial(self._add, level))

    def _add(self, level: str, text: str) -> None:
        self.lines.append(f"{level} {text}")


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(monkeypatch)


FINDINGS = [
    Finding("FIT_KV_POOL", "error", "models.a.maxTotalTokens", "8192 do not fit"),
    Finding("FIT_WEIGHTS", "error", "models.b.pool", "too little memory"),
    Finding("TP_PCIE", "warning", "models.a.gpus", "slow"),
    Finding("CLOUD_QUOTA_UNCHECKED", "unchecked", "cluster", "not compared"),
]


def test_all_errors_are_told_at_once_after_the_rest(log: Log) -> None:
    with pytest.raises(SettingsError) as caught:
        program_checks.report(FINDINGS)
    assert caught.value.problems == [
        "llm-serving:models.a.maxTotalTokens: 8192 do not fit [FIT_KV_POOL]",
        "llm-serving:models.b.pool: too little memory [FIT_WEIGHTS]",
    ]
    assert log.lines == [
        "warn llm-serving:models.a.gpus: slow [TP_PCIE]",
        "info unchecked: llm-serving:cluster: not compared [CLOUD_QUOTA_UNCHECKED]",
    ]


def test_without_errors_there_is_nothing_to_raise(log: Log) -> None:
    program_checks.report(FINDINGS[2:])
    program_checks.report([])
    assert len(log.lines) == 2


def test_the_account_of_the_stack_is_asked(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def gather(asked_of: Stack, *, account_id: str) -> CloudFacts:
        asked.append((asked_of.region, account_id))
        return CloudFacts.unchecked("nobody is there")

    monkeypatch.setattr(cloud, "gather", gather)
    program_checks.run(loaded(values()), "local")
    assert asked == [("us-east-1", "000000000000")]
    assert [line.rpartition("[")[2] for line in log.lines] == [
        "DEVICE_PLUGIN]",
        "ROLLOUT_ONE_REPLICA]",
        "CACHE_RESERVED_MEMORY]",
        "CLOUD_QUOTA_UNCHECKED]",
        "CLOUD_OFFERING_UNCHECKED]",
    ]


@pytest.mark.parametrize(
    ("autoscaler", "least", "autoscaled"),
    [("install", 0, True), ("existing", 0, True), ("none", 0, False), ("install", 3, False)],
)
def test_who_sets_a_pools_size(autoscaler: str, least: int, autoscaled: bool) -> None:
    known = loaded(values())
    pool = known.cluster.gpu_pools["l4"].model_copy(update={"min_size": least})
    cluster = known.cluster.model_copy(update={"node_autoscaler": autoscaler, "gpu_pools": {"l4": pool}})
    assert stack(known.model_copy(update={"cluster": cluster})).gpu_pools["l4"].autoscaled is autoscaled
