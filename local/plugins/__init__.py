"""Pulumi's plugins where the official ones aren't installed: the Python language host, AWS, EKS, Kubernetes.

`install` puts them where the Pulumi CLI looks for plugins. The CLI starts each as a program of its own.
"""


def install() -> dict[str, str]:
    """Prepares Pulumi's home folder for this checkout. Returns the environment that the CLI needs.

    Quick where nothing changed. Raises LocalError where a program wasn't built or an SDK isn't installed.
    """
    # Imported here because each plugin is a module of this package that has no use for it, and must start quickly.
    from local.plugins import installation  # noqa: PLC0415

    return installation.install()


def require_aws() -> None:
    """Raises LocalError where this machine has neither the official AWS plugin nor what ours is made of."""
    from local.plugins import installation  # noqa: PLC0415

    installation.require_aws()


__all__ = ["install", "require_aws"]
