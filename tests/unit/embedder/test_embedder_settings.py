"""The settings come from the environment, and what is wrong there is named by its variable."""

from pathlib import Path

import pytest
from embedder.config import ConfigError, Settings, load


def test_nothing_is_needed() -> None:
    assert load({"PATH": "/bin"}) == Settings()


def test_each_variable_is_a_field() -> None:
    settings = load(
        {
            "EMBEDDER_BACKEND": "torch",
            "EMBEDDER_DEVICE": "cuda",
            "EMBEDDER_MODEL_DIR": "/m",
            "EMBEDDER_TRUNCATE": "true",
        }
    )

    assert (settings.backend, settings.device, settings.model_dir) == ("torch", "cuda", Path("/m"))
    assert settings.truncate is True


def test_what_kubernetes_says_of_a_service_with_this_name_is_no_setting() -> None:
    links = {
        "EMBEDDER_PORT": "tcp://10.0.0.1:80",
        "EMBEDDER_SERVICE_HOST": "10.0.0.1",
        "EMBEDDER_SERVICE_PORT": "80",
        "EMBEDDER_SERVICE_PORT_HTTP": "80",
        "EMBEDDER_PORT_80_TCP": "tcp://10.0.0.1:80",
        "EMBEDDER_PORT_80_TCP_ADDR": "10.0.0.1",
        "EMBEDDER_CPU_SERVICE_HOST": "10.0.0.2",
        "EMBEDDER_CPU_PORT_8080_TCP_PROTO": "tcp",
    }

    assert load(links) == Settings()


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"EMBEDDER_BACKEND": "tensorflow"}, "EMBEDDER_BACKEND: Input should be 'onnx' or 'torch'"),
        ({"EMBEDDER_THREADS": "0"}, "EMBEDDER_THREADS: Input should be greater than or equal to 1"),
        ({"EMBEDDER_TRUNKATE": "true"}, "EMBEDDER_TRUNKATE: Extra inputs are not permitted"),
        ({"EMBEDDER_MODEL_NAME": "a b"}, "EMBEDDER_MODEL_NAME: String should match"),
        ({"EMBEDDER_DEVICE": "cuda"}, "device must be cpu with the backend onnx"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environment)

    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
