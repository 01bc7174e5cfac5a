"""The day on which every command runs: support dates must not make a test fail one day."""

from datetime import date

import pytest

from cli import options

TODAY = date(2026, 11, 25)


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> date:
    monkeypatch.setattr(options, "today", lambda: TODAY)
    return TODAY
