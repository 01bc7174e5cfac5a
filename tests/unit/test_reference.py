"""The configuration page says what the settings are."""

from infra import reference


def test_the_page_is_current() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run `python -m infra.reference`"


def test_every_key_has_a_row_with_its_meaning() -> None:
    page = reference.page()
    assert "| `NAME.replicas` | integer, 1 to 1000 | `1` | Pods. Not together with `autoscaling`. |" in page
    assert "| `gpuPools.NAME.instanceTypes` | list of string | required | " in page
    assert "| `region` | string | required | " in page
    assert "|  |\n" not in page
