"""Every check there is, and all of them at once on a stack."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

from llm_serving import _node_groups
from llm_serving.capacity import (
    cache_rules,
    catalog,
    cloud_rules,
    cluster_rules,
    disk_rules,
    drivers,
    embedding_rules,
    fit,
    gateway_rules,
    kubernetes_support,
    legality,
    node_images,
)
from llm_serving.capacity.cloud_facts import CloudFacts
from llm_serving.capacity.findings import Check, Finding
from llm_serving.capacity.placement import Placement
from llm_serving.capacity.stack import Embedding, Service, Stack

ALLOW_UNUSED = Check("ALLOW_UNUSED", "warning", "A finding is accepted that there is not.")
RUNTIME_UNKNOWN = Check("RUNTIME_UNKNOWN", "unchecked", "A runtime is not in the catalog: its needs are not checked.")
CLOUD_PREFIX = "CLOUD_"


ALL: Mapping[str, Check] = {
    check.code: check
    for checks in (
        fit.CHECKS,
        legality.CHECKS,
        drivers.CHECKS,
        cluster_rules.CHECKS,
        disk_rules.CHECKS,
        gateway_rules.CHECKS,
        cache_rules.CHECKS,
        cloud_rules.CHECKS,
        (RUNTIME_UNKNOWN, ALLOW_UNUSED),
    )
    for check in checks
}
"""Every kind of finding by its code."""


def check(stack: Stack, *, today: date, cloud: CloudFacts | None = None) -> list[Finding]:
    """Return all that is wrong with a stack, worst first, with what the stack file accepts turned into warnings.

    :param today: The day that support dates are compared with.
    :param cloud: What the account says; None where nobody asked it.
    """
    return sorted(apply_allow(stack, find(stack, today=today, cloud=cloud)), key=_rank)


def _rank(finding: Finding) -> int:
    return ("error", "warning", "unchecked").index(finding.severity)


def find(stack: Stack, *, today: date, cloud: CloudFacts | None = None) -> list[Finding]:
    """Return all that is wrong with a stack, each thing once, whatever the stack file accepts."""
    facts = cloud or CloudFacts.unchecked("nobody asked the account")
    found = [
        *kubernetes_support.check(stack.kubernetes_version, today=today),
        *_node_images(stack),
        *_services(stack, today),
        *embedding_rules.check(stack, today=today),
        *cluster_rules.check(stack),
        *disk_rules.check(stack),
        *gateway_rules.check(stack),
        *cache_rules.check(stack),
        *cloud_rules.check(stack, facts),
    ]
    return list(dict.fromkeys(found))


def _node_images(stack: Stack) -> Iterator[Finding]:
    version = stack.kubernetes_version
    for name, pool in stack.gpu_pools.items():
        setting = f"cluster.gpuPools.{name}"
        yield from node_images.check_type(pool.ami_type, cluster_rules.instances(pool), setting=f"{setting}.amiType")
        yield from node_images.check_release(
            pool.ami_type, pool.release_version, version, setting=f"{setting}.releaseVersion"
        )
        # The program installs it where the image has none, and never brings the GPU operator.
        yield from node_images.device_plugin(
            pool.ami_type,
            installs_device_plugin=stack.installs_device_plugin and not _node_groups.has_device_plugin(pool.ami_type),
            installs_operator_driver=False,
            setting="images.devicePlugin",
        )


def _services(stack: Stack, today: date) -> Iterator[Finding]:
    for service in stack.services.values():
        if service.runtime not in catalog.runtimes():
            yield Finding(
                RUNTIME_UNKNOWN.code,
                RUNTIME_UNKNOWN.severity,
                f"{service.setting}.runtime",
                f"{service.runtime} is not in the catalog, so neither its memory nor its driver is checked",
            )
        pool = stack.gpu_pools[service.pool]
        image = drivers.node_image(pool.ami_type, pool.release_version, stack.kubernetes_version)
        for placement in placements(stack, service):
            yield from legality.check(placement)
            problems = fit.validate(placement)
            yield from problems or fit.findings(placement, fit.fit(placement))
            if image is not None:
                yield from drivers.check(placement, image, today=today)


def placements(stack: Stack, service: Service) -> Iterator[Placement]:
    """Yield a service's placement on each instance type of its pool that the catalog has, for a known model."""
    pool = stack.gpu_pools[service.pool]
    runtime = catalog.runtimes().get(service.runtime)
    if service.model is None or runtime is None:
        return
    for instance in cluster_rules.instances(pool):
        yield Placement(
            model=service.model,
            runtime=runtime,
            instance=instance,
            gpus=service.gpus,
            nodes=service.nodes,
            setting=service.setting,
            dtype=service.dtype,
            quantization=service.quantization,
            kv_cache_dtype=service.kv_cache_dtype,
            max_input_tokens=service.max_input_tokens,
            max_total_tokens=service.max_total_tokens,
            max_batch_prefill_tokens=service.max_batch_prefill_tokens,
            max_concurrent_requests=service.max_concurrent_requests,
            gpu_memory_utilization=service.gpu_memory_utilization,
            target_concurrency=service.expected_concurrency,
            mean_total_tokens=service.mean_total_tokens,
            adapter_ranks=service.adapter_ranks,
        )


def apply_allow(stack: Stack, findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings with those that the stack file accepts as warnings that give the reason.

    A model's `allow` is for what is found about that model, the stack's for everything. One that accepts nothing is a
    finding itself, unless it is about the account, which may not have been asked.
    """
    used: set[tuple[str, str]] = set()
    answered = [_allowed(stack, finding, used) for finding in findings]
    scopes = {"allow": stack.allow} | {each.allow_setting: each.allow for each in stack.workloads}
    unused = [
        Finding(
            ALLOW_UNUSED.code,
            ALLOW_UNUSED.severity,
            f"{scope}.{code}",
            "nothing of this kind was found; nearest valid value: none, remove it",
        )
        for scope, allow in scopes.items()
        for code in allow
        if (scope, code) not in used and not code.startswith(CLOUD_PREFIX)
    ]
    return answered + unused


def _is_about(finding: Finding, service: Service | Embedding) -> bool:
    """Whether a finding is about a service, or about its model as a whole."""
    setting = f"{finding.setting}."
    whole = setting.startswith(f"{service.model_setting}.") and ".versions." not in setting
    return whole or setting.startswith(f"{service.setting}.")


def _allowed(stack: Stack, finding: Finding, used: set[tuple[str, str]]) -> Finding:
    reason: str | None = None
    for service in stack.workloads:
        if _is_about(finding, service) and finding.code in service.allow:
            used.add((service.allow_setting, finding.code))
            reason = service.allow[finding.code]
    if finding.code in stack.allow:
        used.add(("allow", finding.code))
        reason = reason or stack.allow[finding.code]
    if reason is None:
        return finding
    severity = "warning" if finding.severity == "error" else finding.severity
    return replace(finding, severity=severity, message=f"{finding.message}; accepted: {reason}")
