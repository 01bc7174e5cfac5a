"""Writes `docs/security.md` from the rules and the exemptions, so that it says what is checked: `python -m` this."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.security import aws_rules, exemptions, kubernetes_rules
from tests.security.controls import Exemption, Rule

PAGE = Path(__file__).parents[2] / "docs" / "security.md"

HEAD = """\
# Security

What each environment does without being asked, the control that it satisfies, and what it leaves. This page is written
from the rules that `tests/security/test_walk.py` applies to every resource of `dev`, `staging` and `prod`, and to every
object of the charts (`python -m tests.security.document`); a resource without a rule, or an exception without a need,
fails that test.

Numbers: **AWS** is Security Hub's (Foundational Security Best Practices; KMS.4, S3.14, S3.17 and CloudWatch.16 are from
other standards of it), **CIS** the CIS Amazon EKS Benchmark's, **PSS** the restricted Pod Security Standard, **own**
ours.

## On AWS
"""

CLUSTER = """\
## In the cluster

Rendered by Helm from each stack's values. The namespace refuses any pod outside the restricted profile.
"""

NETWORK = """\
## Who reaches whom

| from | to | port | held by |
|---|---|---|---|
| callers | API Gateway | 443 | web ACL, TLS 1.2, an API key |
| API Gateway | load balancer | 80 | VPC link; the load balancer is internal and lets nothing else in |
| load balancer | gateway pods | 8080 | two security group rules, network policy `llm-gateway` |
| gateway pods, pods labelled `llm-serving/client: "true"` | model, embedding pods | 8080 | network policies of both |
| pods of the namespace `monitoring` | gateway, model and embedding pods | 8080 | network policies |
| gateway pods | an embedder outside, where `cache.semantic.embedderUrl` is set | that of its address | network policy |
| gateway pods | a collector of traces, where `gateway.traces` is set | that of its address | network policy |
| gateway pods | cache | 6379 | security group of the cache, network policy |
| model pods | S3 | 443 | network policy; the role reads one model's prefix |
| model pods | Pod Identity agent | 80 | network policy |
| API server | KEDA's adapter and webhook | 6443, 9443 | network policy of the namespace `keda` |
| KEDA's operator | Prometheus | 9090 | network policy |
| embedding pods | nothing | | network policy; they have no role |
| other pods | cluster DNS | 53 | network policy |

The VPC CNI enforces network policies (`enableNetworkPolicy`). The local environment has no CNI that does: there they
are accepted and have no effect.
"""

IAM = """\
## IAM

No role of ours has a wildcard but those below. `tests/security/test_iam.py` asks the emulator's policy simulation what
each role may do and what it may not, and reads a model's prefix under its enforced IAM as a pod's role.

What a person or a pipeline needs is in `docs/iam/`: `preview.json` to preview, `deploy.json`, `deploy-network.json` and
`deploy-edge.json` as managed policies, all three, to deploy and destroy. ACCOUNT, REGION and STACK are to be filled in,
DOMAIN and ZONE where the API has a domain name. They are written from what the emulator checks while prod's AWS part,
with a domain name, is previewed, made, changed and destroyed (`python -m
tests.security.iam_run`), and `test_iam_enforced.py` does all of that again as users who have these policies and no
other. What AWS checks and the emulator does not is in `tests/security/iam_documents.py`, with the reason, and was not
run. The state's bucket and key come besides.

`test_iam_deploy.py` holds what a deployment may not: change other roles, clusters, buckets, secrets, log groups,
topics, web ACLs, domain names or hosted zones, read models, use a key directly. What its policies do not prevent:

- **A deployment can give itself any right in the account.** `iam:CreateRole`, `iam:PutRolePolicy` and
  `iam:AttachRolePolicy` on the names of its own roles (`*-pods-*` and others) let it make a role with any policy, and
  say who may assume it; with `iam:PassRole`, pods or nodes run as it. Only a permissions boundary on the roles would
  end this, and the program sets none. Give these policies to a pipeline that runs reviewed changes, not to people.
- **Names and ids do not tell environments apart**: all of EC2, every REST API and every KMS key of the account in the
  region are within reach, and roles, buckets, secrets, caches and load balancers are named alike in every environment,
  but for their random end. Give each environment an account of its own.
- **What `prod` does not use was not seen**, OpenSearch for one, nor any change but those that the test makes.
"""

OUTSIDE = """\
## What this is not about

- **ECR repositories** are made by what builds the images: a stack looks its images up before it makes anything. They
  should have immutable tags, scan on push, a lifecycle policy and a KMS key of their own (AWS ECR.1 to ECR.3, ECR.5).
- **The account**: CloudTrail with S3 data events (S3.22, S3.23), GuardDuty, Config, Security Hub, EBS's default
  encryption and the blocking of public snapshots are set once for an account, not by an environment in it.
- **MFA delete** (S3.20) can only be set by the account's root user.
- **Nodes' operating system** (CIS 3) is AWS's image, replaced and never changed.
"""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _short(type_: str) -> str:
    return (
        f"`{type_.rpartition(':')[2]}`" if not type_.startswith("pulumi:") else f"`{type_.split(':', 2)[2]}` provider"
    )


def controls(rules: Mapping[str, Sequence[Rule]]) -> list[str]:
    """Return the rows of the table of controls; one control on several types is one row."""
    types: dict[tuple[str, str, str], list[str]] = {}
    for type_, each in rules.items():
        for rule in each:
            types.setdefault((rule.control, rule.title, rule.where), []).append(_short(type_))
    rows = [
        _row(control, title, ", ".join(dict.fromkeys(on)), "an exception, below" if where == "none" else where)
        for (control, title, where), on in types.items()
    ]
    return [_row("control", "what", "checked on", "satisfied by"), "|---|---|---|---|", *sorted(rows)]


def exceptions(given: Iterable[Exemption]) -> list[str]:
    """Return the rows of the table of exceptions."""
    rows = [
        _row(
            each.control,
            f"{_short(each.type)} `{each.name}`" + (f": `{each.detail}`" if each.detail != "*" else ""),
            ", ".join(each.stacks) if len(each.stacks) < 3 else "all",
            each.reason,
        )
        for each in given
    ]
    return [_row("control", "what", "stacks", "why"), "|---|---|---|---|", *rows]


def page() -> str:
    """Return the page."""
    left = ["## Exceptions", "", *exceptions([*exemptions.AWS, *exemptions.KUBERNETES]), ""]
    in_cluster = {**kubernetes_rules.PROGRAM_RULES, **kubernetes_rules.RULES}
    parts = [HEAD, *controls(aws_rules.RULES), "", CLUSTER, *controls(in_cluster), "", NETWORK, IAM, *left, OUTSIDE]
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
