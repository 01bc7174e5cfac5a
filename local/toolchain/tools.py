"""Which programs the local environment uses, at which versions, and where each comes from.

The versions of built programs are pinned by `modules/NAME/go.mod` and `go.sum`; the ones here say what a program that
is already on PATH must answer to be used instead.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

MODULES = Path(__file__).parent / "modules"
KUBERNETES_VERSION = "v1.36.3"
PULUMI_VERSION = "v3.274.1"
"""A program built from a module doesn't know its version unless it is told; others ask it."""
PULUMI_YAML_VERSION = "v1.38.1"
LANGUAGE_HOST_YAML = "pulumi-language-yaml"
KUBERNETES_PROVIDER_VERSION = "4.34.2"
"""What the Kubernetes provider answers when asked for its version: that of the pulumi-kubernetes SDK."""

PROMETHEUS_VERSION = "3.16.0"
PROMETHEUS_OPERATOR_VERSION = "0.85.0"
KEDA_VERSION = "2.21.0"
LWS_VERSION = "0.8.0"


@dataclass(frozen=True)
class Fitting:
    """What makes a program on PATH good enough to use."""

    arguments: tuple[str, ...]
    """How to ask it for its version."""
    version: re.Pattern[str]
    """What its answer must contain."""


@dataclass(frozen=True)
class Module:
    """A Go module of `modules/` and the programs that are built from it in one go."""

    name: str
    programs: Mapping[str, str]
    """Go package by the program's name, which no other module's program has."""
    seconds: int
    """From an empty build cache on 2 cores, after the modules above it; what progress is estimated from.

    Measured on 2026-11-25, but for helm, pause, prometheus, prometheus-operator and kube-state-metrics, which are
    estimated, keda, which took 1260 s from an empty cache, as the first and beside other work, and lws, which took
    213 s beside other work.
    """
    disk_gb: float
    """GB that its sources (with their archives), compiled packages and programs add to those of the modules before it.

    Measured as the sizes of these files in Go's module and build caches, on Linux amd64 with Go 1.26; estimated for the
    same modules as `seconds`.
    """
    flags: str = ""
    """Further linker flags."""
    tags: str = ""
    """Further build tags, separated by spaces."""
    embedded: tuple[str, ...] = ()
    """Files of the module's first dependency that its main package embeds."""
    fitting: Fitting | None = None

    @property
    def folder(self) -> Path:
        """Its go.mod, go.sum and, where it has one, main package."""
        return MODULES / self.name


def _versions(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\d.]){pattern}(?![\d.])")


_KUBERNETES = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)

TOOLS = (
    Module(
        "keda",
        {
            "keda": "github.com/kedacore/keda/v2/cmd/operator",
            "keda-adapter": "github.com/kedacore/keda/v2/cmd/adapter",
        },
        seconds=900,
        disk_gb=5.8,
        flags=f"-X github.com/kedacore/keda/v2/version.Version={KEDA_VERSION}",
    ),
    Module(
        "kubernetes-provider",
        {"pulumi-resource-kubernetes": "."},
        seconds=410,
        disk_gb=5.6,
        flags=("-X github.com/pulumi/pulumi-kubernetes/provider/v4/pkg/version.Version=" + KUBERNETES_PROVIDER_VERSION),
        embedded=(
            "cmd/pulumi-resource-kubernetes/schema.json",
            "cmd/pulumi-resource-kubernetes/terraform-mapping.json",
        ),
    ),
    Module(
        "kubernetes",
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES},
        seconds=232,
        disk_gb=4.3,
        flags=" ".join(
            f"-X k8s.io/{package}/version.{name}={value}"
            for package in ("component-base", "client-go/pkg")
            for name, value in (("gitVersion", KUBERNETES_VERSION), ("gitMajor", "1"), ("gitMinor", "36"))
        ),
    ),
    Module(
        "lws",
        {"lws": "sigs.k8s.io/lws/cmd"},
        seconds=210,
        disk_gb=1.0,
        flags=f"-X sigs.k8s.io/lws/pkg/version.GitVersion=v{LWS_VERSION}",
    ),
    Module(
        "pulumi",
        {"pulumi": "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"},
        seconds=158,
        disk_gb=3.2,
        flags=f"-X github.com/pulumi/pulumi/sdk/v3/go/common/version.Version={PULUMI_VERSION}",
        fitting=Fitting(("version",), _versions(r"v3\.(27[2-9]|2[89]\d|[3-9]\d\d)\.\d+")),
    ),
    Module(
        "prometheus",
        {name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")},
        seconds=150,
        disk_gb=2.0,
        flags=f"-X github.com/prometheus/common/version.Version={PROMETHEUS_VERSION}",
        # Of two dozen ways to discover targets, the operator uses one.
        tags="remove_all_sd enable_kubernetes_sd",
    ),
    Module(
        "prometheus-operator",
        {
            "operator": "github.com/prometheus-operator/prometheus-operator/cmd/operator",
            "prometheus-config-reloader": (
                "github.com/prometheus-operator/prometheus-operator/cmd/prometheus-config-reloader"
            ),
        },
        seconds=90,
        disk_gb=1.0,
        flags=f"-X github.com/prometheus/common/version.Version={PROMETHEUS_OPERATOR_VERSION}",
    ),
    Module(
        "coredns",
        {"coredns": "github.com/coredns/coredns"},
        seconds=78,
        disk_gb=2.6,
    ),
    Module(
        "aws-bridge",
        {"aws-bridge": "github.com/pulumi/pulumi-terraform-bridge/v3/dynamic"},
        seconds=64,
        disk_gb=2.1,
    ),
    Module("kube-state-metrics", {"kube-state-metrics": "k8s.io/kube-state-metrics/v2"}, seconds=60, disk_gb=0.5),
    Module(
        "kwok",
        {"kwok": "sigs.k8s.io/kwok/cmd/kwok"},
        seconds=56,
        disk_gb=0.9,
        fitting=Fitting(("--version",), _versions(r"v0\.8\.\d+")),
    ),
    Module(
        "containerd",
        {
            name: f"github.com/containerd/containerd/v2/cmd/{name}"
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
        seconds=41,
        disk_gb=1.0,
        fitting=Fitting(("--version",), _versions(r"v?2\.2\.\d+")),
    ),
    Module(
        "etcd",
        {"etcd": "go.etcd.io/etcd/server/v3"},
        seconds=31,
        disk_gb=0.6,
        fitting=Fitting(("--version",), _versions(r"3\.7\.\d+")),
    ),
    Module(
        "pulumi-yaml",
        {LANGUAGE_HOST_YAML: "github.com/pulumi/pulumi-yaml/cmd/pulumi-language-yaml"},
        seconds=26,
        disk_gb=0.1,
        flags=f"-X github.com/pulumi/pulumi-yaml/pkg/version.Version={PULUMI_YAML_VERSION}",
    ),
    Module(
        "helm",
        {"helm": "helm.sh/helm/v3/cmd/helm"},
        seconds=60,
        disk_gb=0.8,
        fitting=Fitting(("version", "--short"), _versions(r"v3\.\d+\.\d+")),
    ),
    Module("pause", {"pause": "."}, seconds=5, disk_gb=0.1),
)
"""The slowest first, so that the rest of a build can be judged by it."""

S3_SERVER = Module("versitygw", {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}, seconds=70, disk_gb=1.0)
"""An S3 server that isn't slowed down by emulating the rest of AWS: only the bench of pushing a model needs it.

Its numbers are estimated.
"""

EXECUTOR = "pulumi-language-python-exec"
"""Pulumi's program that runs a Python program: a file of its SDK's Go module, not something to build."""
EXECUTOR_MODULE = "github.com/pulumi/pulumi/sdk/v3"
EXECUTOR_PATH = "python/cmd/pulumi-language-python-exec"


def module_of(program: str) -> Module:
    """The module that a program is built from. Raises KeyError for a program that no module has."""
    for module in TOOLS:
        if program in module.programs:
            return module
    raise KeyError(program)
