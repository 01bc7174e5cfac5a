"""The Pulumi program's entry: settings in, an environment out."""

import gc

gc.disable()  # before anything is imported: what a program makes, it needs to its end, and looking took half its time

import pulumi
from pulumi.runtime.config import CONFIG, get_config_env

from infra import checks
from infra.environment import Environment
from infra.problems import SettingsError
from infra.settings import load


def main() -> None:
    """Create the environment of this stack; ends with one line for each reason why it can't be, and no traceback."""
    try:
        settings = load({**get_config_env(), **CONFIG.get()})
        checks.run(settings, pulumi.get_stack())
    except SettingsError as error:
        raise pulumi.RunError(f"stack {pulumi.get_stack()} cannot be used:\n" + "\n".join(error.problems)) from None
    for name, value in Environment(settings).outputs.items():
        pulumi.export(name, value)


if __name__ == "__main__":
    main()
