"""What MiniStack lacks of each service, one module a service, in AWS's own shape.

Every module has `before` (answers a call, or None), `after` (amends MiniStack's answer), or both.
"""

from local.cloud import emulator
from local.cloud.handlers import (
    apigateway,
    cloudwatch,
    domains,
    ec2,
    eks,
    elasticache,
    elbv2,
    firehose,
    logs,
    servicequotas,
    ssm,
    wafv2,
)


def install() -> None:
    """Puts every module's functions around MiniStack's handlers; call once, before the first request."""
    emulator.install("apigateway", before=apigateway.before, after=apigateway.after)
    emulator.install("apigateway", before=domains.before, after=domains.after)
    emulator.install("ec2", before=ec2.before, after=ec2.after)
    emulator.install("eks", before=eks.before, after=eks.after)
    emulator.install("elasticache", after=elasticache.after)
    emulator.install("elasticloadbalancing", before=elbv2.before, after=elbv2.after)
    emulator.install("firehose", after=firehose.after)
    emulator.install("logs", before=logs.before, after=logs.after)
    emulator.install("monitoring", after=cloudwatch.after)
    emulator.add("servicequotas", servicequotas.TARGET, servicequotas.answer)
    emulator.install("ssm", before=ssm.before)
    emulator.install("wafv2", before=wafv2.before, after=wafv2.after)
    wafv2.name_resources()
