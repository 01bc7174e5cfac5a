"""What instances cost, per hour, month, token and request."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_serving.capacity import catalog
from llm_serving.capacity.catalog import InstanceType
from llm_serving.capacity.cost import Cost, cost, usd
from llm_serving.capacity.throughput import Load


def priced(usd_per_hour: float | None) -> InstanceType:
    return dataclasses.replace(catalog.instance("g5.xlarge"), usd_per_hour=usd_per_hour)


def test_known_amounts() -> None:
    # 2 requests/s of 250 tokens: 7,200 requests and 1.8 million tokens an hour, for 3.60 USD.
    amount = cost(priced(1.2), 3, Load(2, 1000, 250))
    assert amount.usd_per_hour == pytest.approx(3.6)
    assert amount.usd_per_month == pytest.approx(2628)
    assert amount.usd_per_million_output_tokens == pytest.approx(2.0)
    assert amount.usd_per_thousand_requests == pytest.approx(0.5)


def test_an_unknown_price_stays_unknown() -> None:
    assert cost(priced(None), 3, Load(2, 1000, 250)) == Cost(None, None, None, None)


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, "unknown"), (0.12345, "0.1235"), (1.0, "1.00"), (12345.678, "12,345.68"), (0.99996, "1.0000")],
)
def test_amounts_as_text(amount: float | None, text: str) -> None:
    assert usd(amount) == text


@given(st.floats(0.01, 200), st.integers(1, 100), st.floats(0.001, 1000), st.integers(1, 100000))
def test_the_amounts_agree(hourly: float, instances: int, rate: float, tokens: int) -> None:
    amount = cost(priced(hourly), instances, Load(rate, 100, tokens))
    assert amount.usd_per_hour is not None
    assert amount.usd_per_thousand_requests is not None
    assert amount.usd_per_million_output_tokens is not None
    assert amount.usd_per_hour == pytest.approx(hourly * instances)
    assert amount.usd_per_thousand_requests * rate * 3.6 == pytest.approx(amount.usd_per_hour)
    assert amount.usd_per_million_output_tokens * tokens / 1e3 == pytest.approx(amount.usd_per_thousand_requests)
