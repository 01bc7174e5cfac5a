"""The runtimes: exact arguments, environment and files, budgets that suffice, versions that agree."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving import _values
from llm_serving.capacity import catalog
from llm_serving.runtimes import RUNTIMES, tensorrt_llm, vllm
from llm_serving.runtimes.launch import (
    DISK_BYTES_PER_SECOND,
    DRAIN_SECONDS,
    GB,
    MIB,
    STREAM,
    WEIGHTS_URL,
    Adapter,
    Launch,
    ServiceSpec,
    volume_mib,
)

SPEC = ServiceSpec(
    model="chat",
    weight_gb=10,
    gpus=1,
    max_input_tokens=1000,
    max_total_tokens=2000,
    max_concurrent_requests=64,
)
SPECS = st.builds(
    ServiceSpec,
    model=st.just("chat"),
    weight_gb=st.floats(0.001, 5000),
    gpus=st.integers(1, 8),
    max_input_tokens=st.integers(1, 4096),
    max_total_tokens=st.integers(4097, 131_072),
    max_concurrent_requests=st.integers(1, 2048),
)
ADAPTED = replace(SPEC, adapters=(Adapter("legal", 16, 0.1), Adapter("support", 33, 0.2)))
CACHES = {
    "HOME": "/cache",
    "TRITON_CACHE_DIR": "/cache/triton",
    "TORCHINDUCTOR_CACHE_DIR": "/cache/inductor",
    "FLASHINFER_WORKSPACE_BASE": "/cache",
    "HF_HUB_OFFLINE": "1",
}


SPANNING = replace(SPEC, gpus=8, nodes=2)


def option(launch: Launch, name: str) -> str:
    return launch.args[launch.args.index(name) + 1]


def test_vllm_over_two_nodes_deals_layers_to_them() -> None:
    launch = RUNTIMES["vllm"].launch(SPANNING)
    alone = RUNTIMES["vllm"].launch(replace(SPANNING, nodes=1))
    given = [
        *("--pipeline-parallel-size", "2"),
        *("--nnodes", "2"),
        *("--node-rank", "$(LWS_WORKER_INDEX)"),
        *("--master-addr", "$(LWS_LEADER_ADDRESS)"),
        *("--master-port", "29501"),
    ]
    at = launch.args.index("--pipeline-parallel-size")
    assert launch.args[at : at + len(given)] == given
    assert launch.args[:at] + launch.args[at + len(given) :] == alone.args
    assert (launch.worker_args, alone.worker_args) == (["--headless"], [])
    assert option(launch, "--tensor-parallel-size") == "8"


@pytest.mark.parametrize(
    ("runtime", "why"),
    [
        ("tgi", "TGI splits a model over the GPUs of one node only"),
        ("tensorrt-llm", "trtllm-serve spans nodes by MPI only, whose launcher logs in to each pod"),
    ],
)
def test_only_vllm_spans_nodes(runtime: str, why: str) -> None:
    with pytest.raises(ValueError, match=r"^chat\.nodes") as refused:
        RUNTIMES[runtime].launch(SPANNING)
    assert str(refused.value) == f"chat.nodes: 2, and {why}; nearest valid value: 1, or runtime vllm"


def test_vllm_that_streams() -> None:
    launch = RUNTIMES["vllm"].launch(SPEC)
    assert launch.args == [
        "$(WEIGHTS_URL)",
        *("--served-model-name", "chat"),
        *("--host", "0.0.0.0"),
        *("--port", "8080"),
        *("--tensor-parallel-size", "1"),
        *("--max-model-len", "2000"),
        *("--max-num-seqs", "64"),
        *("--max-num-queued-reqs", "64"),
        *("--load-format", "runai_streamer"),
        *("--shutdown-timeout", "90"),
        *("--disable-access-log-for-endpoints", "/health,/metrics"),
    ]
    assert launch.env == {
        **CACHES,
        "VLLM_CACHE_ROOT": "/cache/vllm",
        "USER": "vllm",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": "840",
        "RUNAI_STREAMER_MEMORY_LIMIT": "4294967296",
        "RUNAI_STREAMER_NO_BOTO3_SESSION": "0",
    }
    assert launch.startup_seconds == 600 + 240
    assert launch.health_path == "/health"
    assert launch.files == {}


def test_vllm_that_copies() -> None:
    streaming, copying = RUNTIMES["vllm"].launch(SPEC), RUNTIMES["vllm"].launch(replace(SPEC, weights="copy"))
    assert copying.args == [
        "/models/chat" if argument == WEIGHTS_URL else argument
        for argument in streaming.args
        if argument not in ("--load-format", "runai_streamer")
    ]
    assert {name for name in streaming.env if name not in copying.env} == {
        "RUNAI_STREAMER_MEMORY_LIMIT",
        "RUNAI_STREAMER_NO_BOTO3_SESSION",
    }


def test_vllm_on_several_gpus_reads_the_weights_once() -> None:
    launch = RUNTIMES["vllm"].launch(replace(SPEC, gpus=4))
    assert option(launch, "--tensor-parallel-size") == "4"
    assert json.loads(option(launch, "--model-loader-extra-config")) == {"distributed": True}
    assert launch.env["RUNAI_STREAMER_MEMORY_LIMIT"] == str(4 * 4096 * MIB)
    assert "--model-loader-extra-config" not in RUNTIMES["vllm"].launch(replace(SPEC, gpus=4, weights="copy")).args


def test_what_a_service_of_vllm_sets() -> None:
    spec = replace(
        SPEC,
        dtype="half",
        quantization="awq_marlin",
        kv_cache_dtype="fp8_e5m2",
        gpu_memory_utilization=0.85,
        max_batch_prefill_tokens=4096,
    )
    args = RUNTIMES["vllm"].launch(spec).args
    assert args[args.index("--dtype") : args.index("--load-format")] == [
        *("--dtype", "half", "--quantization", "awq_marlin", "--kv-cache-dtype", "fp8_e5m2"),
        *("--gpu-memory-utilization", "0.85", "--max-num-batched-tokens", "4096"),
    ]


def test_tensorrt_llm() -> None:
    launch = RUNTIMES["tensorrt-llm"].launch(replace(SPEC, gpus=2))
    assert launch.args == [
        "/models/chat",
        *("--host", "0.0.0.0"),
        *("--port", "8080"),
        *("--backend", "pytorch"),
        *("--tp_size", "2"),
        *("--max_seq_len", "2000"),
        *("--max_batch_size", "64"),
        *("--config", "/etc/runtime/trtllm.yaml"),
    ]
    assert launch.env == {**CACHES, "USER": "trtllm"}
    assert json.loads(launch.files["trtllm.yaml"]) == {
        "return_perf_metrics": True,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.9},
    }


def test_what_a_service_of_tensorrt_llm_sets() -> None:
    spec = replace(
        SPEC,
        dtype="bfloat16",
        quantization="fp8",
        kv_cache_dtype="fp8",
        gpu_memory_utilization=0.8,
        max_batch_prefill_tokens=4096,
    )
    launch = RUNTIMES["tensorrt-llm"].launch(spec)
    assert option(launch, "--max_num_tokens") == "4096"
    # Of the quantization nothing: the checkpoint has it.
    assert json.loads(launch.files["trtllm.yaml"]) == {
        "return_perf_metrics": True,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.8, "dtype": "fp8"},
        "dtype": "bfloat16",
    }
    built = RUNTIMES["tensorrt-llm"].launch(replace(spec, engine=True))
    assert option(built, "--backend") == "tensorrt"
    assert "dtype" not in json.loads(built.files["trtllm.yaml"])


def test_an_engine_is_named_by_what_it_was_built_for() -> None:
    assert tensorrt_llm.engine_key("sm90", 4, "bfloat16") == "sm90-1.2.1-tp4-bfloat16"
    keys = {
        tensorrt_llm.engine_key(architecture, gpus, dtype)
        for architecture in ("sm89", "sm90")
        for gpus in (1, 2)
        for dtype in ("float16", "bfloat16")
    }
    assert len(keys) == 8


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_version_is_the_one_that_checks_and_dashboards_know(name: str) -> None:
    runtime = RUNTIMES[name]
    assert runtime.repository == name
    assert runtime.version == catalog.runtimes()[name].version
    assert runtime.metrics.version == runtime.version


def test_metrics_are_where_prometheus_can_read_them() -> None:
    assert {name: runtime.metrics.path for name, runtime in RUNTIMES.items()} == {
        "tgi": "/metrics",
        "vllm": "/metrics",
        "tensorrt-llm": "/prometheus/metrics",
    }


@pytest.mark.parametrize("name", RUNTIMES)
@given(spec=SPECS)
def test_a_budget_is_enough_for_what_has_to_be_moved(name: str, spec: ServiceSpec) -> None:
    launch = RUNTIMES[name].launch(spec)
    reading = spec.weight_gb * GB / DISK_BYTES_PER_SECOND
    assert launch.startup_seconds >= 3 * reading + 120
    heavier = RUNTIMES[name].launch(replace(spec, weight_gb=spec.weight_gb * 1.5))
    assert heavier.startup_seconds >= launch.startup_seconds


@pytest.mark.parametrize("name", RUNTIMES)
@given(spec=SPECS)
def test_a_rollout_outlasts_everything_in_it(name: str, spec: ServiceSpec) -> None:
    launch = RUNTIMES[name].launch(spec)
    values = _values.inference_service(
        spec=spec,
        launch=launch,
        image="",
        loader_image="",
        weights="",
        replicas=1,
        cpu_millicores=1000,
        memory_mib=1024,
        pool="l4",
    )
    fetching = 0 if launch.streams_weights else spec.weight_gb * GB / DISK_BYTES_PER_SECOND
    waiting = values["loader"]["timeoutSeconds"]
    assert values["progressDeadlineSeconds"] > launch.startup_seconds + fetching + waiting
    assert values["modelVolumeMib"] == (0 if launch.streams_weights else volume_mib(spec.weight_gb))
    assert bool(values["sharedMemoryMib"]) == (spec.gpus > 1)


@pytest.mark.parametrize("name", RUNTIMES)
def test_requests_have_time_to_end(name: str) -> None:
    launch = RUNTIMES[name].launch(SPEC)
    draining = int(option(launch, "--shutdown-timeout")) if name == "vllm" else DRAIN_SECONDS
    outside = launch.pre_stop_seconds if name != "tensorrt-llm" else 0
    assert draining == DRAIN_SECONDS
    # What is left is for the process to end by itself.
    assert launch.grace_seconds - draining - outside >= 25
    assert name != "tensorrt-llm" or launch.pre_stop_seconds == DRAIN_SECONDS


def test_vllm_waits_for_its_engine_as_long_as_the_probe_does() -> None:
    launch = RUNTIMES["vllm"].launch(replace(SPEC, weight_gb=140))
    assert int(launch.env["VLLM_ENGINE_READY_TIMEOUT_S"]) == launch.startup_seconds > 600


def test_the_streams_buffer_holds_the_largest_tensor() -> None:
    """An embedding has vocabulary x width elements of 2 bytes; the streamer never reads less than a tensor."""
    largest = max(model.vocabulary * model.hidden * 2 for model in catalog.models().values())
    assert largest <= vllm.STREAM_BUFFER_MIB * MIB


def test_all_that_a_runtime_refuses_is_said_at_once() -> None:
    wrong = replace(SPEC, max_total_tokens=1, dtype="x", quantization="x", kv_cache_dtype="x", gpu_memory_utilization=2)
    for name in ("tgi", "tensorrt-llm"):
        with pytest.raises(ValueError, match=r"max_total_tokens") as caught:
            RUNTIMES[name].launch(replace(wrong, weights=STREAM))
        assert [line.split(":")[0] for line in str(caught.value).split("\n")] == [
            "chat.max_total_tokens",
            "chat.dtype",
            "chat.quantization",
            "chat.kv_cache_dtype",
            "chat.gpu_memory_utilization",
            "chat.weights",
        ]


@pytest.mark.parametrize("weights", ["copy", STREAM])
def test_vllm_with_adapters(weights: str) -> None:
    plain, launch = (vllm.launch(replace(spec, weights=weights)) for spec in (SPEC, ADAPTED))
    rest = iter(launch.args)
    assert [word for word in plain.args if word in rest] == plain.args
    at = launch.args.index("--enable-lora")
    assert launch.args[at : at + 8] == [
        "--enable-lora",
        *("--lora-modules", "legal=/models/legal", "support=/models/support"),
        *("--max-lora-rank", "64"),
        *("--max-loras", "2"),
    ]
    assert launch.streams_weights == (weights == STREAM)
    assert launch.startup_seconds > plain.startup_seconds


def test_tgi_with_adapters() -> None:
    launch = RUNTIMES["tgi"].launch(ADAPTED)
    assert launch.env["LORA_ADAPTERS"] == "legal=/models/legal,support=/models/support"
    assert launch.args == RUNTIMES["tgi"].launch(SPEC).args
    assert "LORA_ADAPTERS" not in RUNTIMES["tgi"].launch(SPEC).env


def test_adapters_that_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"adapters: trtllm-serve 1\.2\.1 knows no adapters by name; nearest valid value"
    ):
        tensorrt_llm.launch(ADAPTED)
    too_high = replace(SPEC, adapters=(Adapter("legal", 513, 0.1),))
    with pytest.raises(ValueError, match=r"legal\.rank: 513 is above 512, .*; nearest valid value: 512"):
        vllm.launch(too_high)
    assert RUNTIMES["tgi"].launch(too_high)
