"""Puts the Pulumi plugins where the CLI looks for them, so that it neither downloads nor warns.

Each plugin goes into Pulumi's own plugin cache, at the version that the installed SDK asks for. Where the official
one is installed (`~/.pulumi/plugins`, or the language host beside an official CLI), that one is used.
"""

import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from local import toolchain
from local.errors import LocalError
from local.paths import STATE, state
from local.plugins.interpreter import required_plugins
from local.plugins.language_host import EXECUTOR_VARIABLE
from local.toolchain.tools import LANGUAGE_HOST_YAML, PULUMI_YAML_VERSION

OWN_MODULES = {"aws": "local.plugins.aws", "eks": "local.plugins.eks"}
"""The plugins that are programs of this repository."""

BUILT_PROGRAMS = {"kubernetes": "pulumi-resource-kubernetes"}
"""The plugins that the toolchain builds."""

LANGUAGE_HOST = "pulumi-language-python"

LANGUAGE_HOST_VERSION = "0.0.1"
"""The CLI asks for no version of it: any will do."""


def install() -> dict[str, str]:
    """Prepares Pulumi's home folder for this checkout. Returns the environment that the CLI needs.

    Quick where nothing changed. Raises LocalError where a program wasn't built or an SDK isn't installed.
    """
    home = state("pulumi", "home")
    plugins = home / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    (STATE / "pulumi-state").mkdir(parents=True, exist_ok=True)
    cli = toolchain.program("pulumi")
    folders = {_install_provider(plugins, name, version) for name, version in _versions().items()}
    if not is_official(cli):
        folders.add(_install_language_host(plugins))
    for folder in _managed(plugins) - folders:
        shutil.rmtree(folder)
    return {
        "PULUMI_HOME": str(home),
        "PULUMI_BACKEND_URL": f"file://{STATE / 'pulumi-state'}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(_passphrase()),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_AUTOMATION_API_SKIP_VERSION_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_DISABLE_REGISTRY_RESOLVE": "true",
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_SUPPRESS_NEO_LINK": "true",
        "PATH": f"{cli.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def install_yaml() -> None:
    """Adds the language host for programs in YAML. No command here needs it; a program that uses a plugin may."""
    cli = toolchain.program("pulumi")
    if not is_official(cli):
        folder = state("pulumi", "home", "plugins") / f"language-yaml-{PULUMI_YAML_VERSION}"
        _link(folder / LANGUAGE_HOST_YAML, toolchain.program(LANGUAGE_HOST_YAML))


def require_aws() -> None:
    """Raises LocalError where this machine has neither the official AWS plugin nor what ours is made of."""
    if not _official("aws", _versions()["aws"]):
        toolchain.aws_provider_binary()


def is_official(cli: Path) -> bool:
    """Whether a Pulumi CLI came with its language host, as Pulumi's own releases do."""
    return (cli.resolve().parent / LANGUAGE_HOST).is_file()


def script(module: str, variables: Mapping[str, str] | None = None) -> str:
    """A program that runs a module of this repository on this Python, wherever it is started.

    `-P` keeps the folder that it is started in, the user's, out of the module search.
    """
    exports = [f"export {name}={shlex.quote(value)}" for name, value in (variables or {}).items()]
    command = f'exec {shlex.quote(sys.executable)} -P -m {module} "$@"'
    return "\n".join(["#!/bin/sh", *exports, command, ""])


def _versions() -> dict[str, str]:
    """The plugins to install, each at its SDK's version."""
    site_packages = [Path(entry) for entry in sys.path if entry.endswith("site-packages")]
    wanted = {plugin.name: plugin.version for plugin in required_plugins(site_packages)}
    versions: dict[str, str] = {}
    for name in (*OWN_MODULES, *BUILT_PROGRAMS):
        if name not in wanted:
            raise LocalError(f"the Python package pulumi-{name} is not installed", "run `uv sync`")
        versions[name] = wanted[name]
    return versions


def _managed(plugins: Path) -> set[Path]:
    """The folders in Pulumi's cache that this module made, of any version."""
    kinds = [*(f"resource-{name}-v*" for name in (*OWN_MODULES, *BUILT_PROGRAMS)), "language-python-v*"]
    return {folder for kind in kinds for folder in plugins.glob(kind) if folder.is_dir()}


def _install_provider(plugins: Path, name: str, version: str) -> Path:
    folder = plugins / f"resource-{name}-v{version}"
    program = folder / f"pulumi-resource-{name}"
    if official := _official(name, version):
        folder.mkdir(exist_ok=True)
        for entry in official.iterdir():
            _link(folder / entry.name, entry)
    elif name in OWN_MODULES:
        _write(program, script(OWN_MODULES[name]))
    else:
        _link(program, toolchain.program(BUILT_PROGRAMS[name]))
    return folder


def _official(name: str, version: str) -> Path | None:
    """The folder of the official plugin of this version; None where it isn't installed."""
    folder = Path.home() / ".pulumi" / "plugins" / f"resource-{name}-v{version}"
    return folder if (folder / f"pulumi-resource-{name}").exists() else None


def _install_language_host(plugins: Path) -> Path:
    folder = plugins / f"language-python-v{LANGUAGE_HOST_VERSION}"
    executor = toolchain.program("pulumi-language-python-exec")
    _write(folder / LANGUAGE_HOST, script("local.plugins.language_host", {EXECUTOR_VARIABLE: str(executor)}))
    return folder


def _passphrase() -> Path:
    """The file with the passphrase of this checkout's stacks, made on first use."""
    path = state("pulumi", "passphrase")
    if path.exists():
        return path
    draft = path.with_suffix(f".{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_urlsafe(32))
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass  # another command made it meanwhile; stacks may be encrypted with that one already
    finally:
        draft.unlink()
    return path


def _write(path: Path, text: str) -> None:
    """Writes an executable file whole or not at all, only where it differs."""
    if not path.is_symlink() and path.is_file() and path.read_text() == text:
        return
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(0o755)
    draft.replace(path)


def _link(path: Path, target: Path) -> None:
    """Makes `path` a symbolic link to `target`, only where it isn't."""
    if path.is_symlink() and path.readlink() == target:
        return
    path.parent.mkdir(exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.symlink_to(target)
    draft.replace(path)
