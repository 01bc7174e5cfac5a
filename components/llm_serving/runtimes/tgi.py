"""Text Generation Inference 3.3: launcher arguments, environment and probes of a model service. Pure."""

from llm_serving.runtimes.launch import MODELS_ROOT, PORT, Launch, ServiceSpec, check_tokens, startup_seconds

REPOSITORY = "tgi"

_ENVIRONMENT = {
    # Weights come from the model bucket. Without this the launcher asks the hub even for a local folder.
    "HF_HUB_OFFLINE": "1",
}


def launch(spec: ServiceSpec) -> Launch:
    """Return how to launch TGI for `spec`; raises ValueError for token limits that TGI refuses at its start.

    TGI answers on its port only once the model is loaded and warm, so health tells both apart from a slow start. On
    SIGTERM it lets running requests end, for up to 90 s.
    """
    check_tokens(spec.model, spec)
    return Launch(
        args=[
            *("--model-id", f"{MODELS_ROOT}/{spec.model}"),
            *("--hostname", "0.0.0.0"),  # noqa: S104 - a pod's own network namespace
            *("--port", str(PORT)),
            *("--num-shard", str(spec.gpus)),
            *("--max-input-tokens", str(spec.max_input_tokens)),
            *("--max-total-tokens", str(spec.max_total_tokens)),
            *("--max-concurrent-requests", str(spec.max_concurrent_requests)),
            *("--usage-stats", "off"),
            "--json-output",
        ],
        env=dict(_ENVIRONMENT),
        startup_seconds=startup_seconds(spec.weight_gb),
        grace_seconds=120,
    )
