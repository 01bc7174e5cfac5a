"""Credentials in a stack file are found, named and not repeated; what only resembles one is let through."""

from typing import Any

import pytest

from infra.plain_secrets import problems

SECRETS = [
    ("AKIA" + "IOSFODNN7EXAMPLE", "an AWS access key"),
    ("ASIA" + "IOSFODNN7EXAMPLE", "an AWS access key"),
    ("ghp_" + "a1" * 18, "a GitHub token"),
    ("github_pat_" + "a" * 30, "a GitHub token"),
    ("glpat-" + "b" * 20, "a GitLab token"),
    ("hf_" + "C" * 34, "a Hugging Face token"),
    ("sk-" + "proj-" + "d" * 24, "an API key"),
    ("xoxb-" + "1234567890-abc", "a Slack token"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE", "a private key"),
    ("eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + "x", "a JSON web token"),
    ("rediss://user:" + "hunter2@cache:6379", "an address with a password"),
]

HARMLESS = [
    "us-east-1", "arn:aws:iam::111111111111:role/platform-team", "sha256:" + "a" * 64, "cache.r7g.xlarge",
    "http://127.0.0.1:4566/restapis/{api}/{stage}/_user_request_", "sk-team", "https://example.com/path@version",
]  # fmt: skip


@pytest.mark.parametrize(("secret", "what"), SECRETS, ids=[what for _, what in SECRETS])
def test_a_secret_is_named_and_not_repeated(secret: str, what: str) -> None:
    (line,) = problems({"tags": {"owner": secret}, "protect": True})
    assert line == (
        f"tags.owner: holds what looks like {what}; no setting takes a secret;"
        " nearest valid value: the name of a Secrets Manager secret"
    )
    assert secret not in line


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_is_let_through(text: str) -> None:
    assert list(problems({"tags": {"owner": text}, "replicas": 2})) == []


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"images": {"tgi": {"tag": {"secure": "v1:abc"}}}}, "images.tgi.tag: is encrypted"),
        ({"network": {"interfaceEndpoints": ["sts", SECRETS[0][0]]}}, "network.interfaceEndpoints.1: holds what"),
    ],
)
def test_it_is_found_wherever_it_is(values: dict[str, Any], path: str) -> None:
    (line,) = problems(values)
    assert line.startswith(path)
