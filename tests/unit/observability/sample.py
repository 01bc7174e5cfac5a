"""One environment that has everything a rule or dashboard can be about: what the tests of this folder share."""

from llm_serving.observability import MonitoredEmbedding, MonitoredModel, MonitoredPool, MonitoringInputs, Slo

NAMESPACE = "llm-serving"

INPUTS = MonitoringInputs(
    models=(
        MonitoredModel("qwen", "l4"),
        MonitoredModel("llama", "l40s", runtime="vllm", gpus=4, slo=Slo(first_token_seconds=4)),
    ),
    pools=(
        MonitoredPool("l4", {"g6.2xlarge": 0.978}),
        MonitoredPool("l40s", {"g6e.24xlarge": 15.066}),
        MonitoredPool("system", {"m7i.xlarge": None}),
    ),
    embeddings=(MonitoredEmbedding("minilm", "system"),),
    other_jobs=("dcgm-exporter", "kube-state-metrics"),
    other_usd_per_hour={"cache": 0.437},
    budget_usd_per_hour=100,
)
