"""The in-process index: the same as comparing with every vector, and never larger than it may be."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from llm_gateway.vector_index import CANDIDATES, Entry, Vector, VectorIndex

DIMENSIONS = 6
FOREVER = 1e12


def unit(seed: int) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(DIMENSIONS).astype(np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def entry(key: int, partition: str = "p", seed: int | None = None) -> Entry:
    return Entry(str(key), partition, f"text {key}", unit(key if seed is None else seed))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("pq"), st.integers(0, 10_000)), max_size=120),
    st.integers(0, 10_000),
    st.floats(-1, 1),
    st.integers(1, 12),
    st.integers(1, 20),
)
def test_it_finds_what_comparing_with_all_finds(
    added: list[tuple[int, str, int]], sought: int, threshold: float, max_partition: int, max_entries: int
) -> None:
    index = VectorIndex(max_entries, max_partition)
    kept: dict[str, Entry] = {}
    for key, partition, seed in added:
        new = entry(key, partition, seed * 31 + key)
        index.add(new, FOREVER)
        kept.pop(new.key, None)
        of_partition = [each.key for each in kept.values() if each.partition == partition]
        if len(of_partition) >= max_partition:
            del kept[of_partition[0]]
        kept[new.key] = new
        while len(kept) > max_entries:
            del kept[next(iter(kept))]
    assert len(index) == len(kept)
    for partition in "pq":
        scores = {each.key: float(each.vector @ unit(sought)) for each in kept.values() if each.partition == partition}
        clear = {key: score for key, score in scores.items() if abs(score - threshold) > 1e-5}
        wanted = sorted((key for key, score in clear.items() if score >= threshold), key=lambda key: -scores[key])
        found = index.search(partition, unit(sought), threshold)
        assert [match.key for match in found if match.key in clear][: len(wanted)] == wanted[: len(found)][:CANDIDATES]
        assert all(abs(match.similarity - scores[match.key]) < 1e-5 for match in found)
        assert all(match.text == kept[match.key].text for match in found)


def test_what_has_expired_is_dropped() -> None:
    index = VectorIndex(10, 10)
    index.add(entry(1), 100)
    index.add(entry(2), 200)
    index.expire(150)
    assert len(index) == 1
    assert [match.key for match in index.search("p", unit(2), 0.99)] == ["2"]
    index.expire(200)
    assert (len(index), index.search("p", unit(2), 0.5)) == (0, [])


def test_vectors_of_another_length_are_not_compared() -> None:
    index = VectorIndex(10, 10)
    index.add(entry(1), FOREVER)
    assert index.search("p", np.ones(3, np.float32), 0.0) == []


def test_rows_are_used_again() -> None:
    index = VectorIndex(1000, 3)
    for key in range(100):
        index.add(entry(key), FOREVER)
    (partition,) = index._partitions.values()  # pyright: ignore[reportPrivateUsage]
    assert len(partition._matrix) < 20  # pyright: ignore[reportPrivateUsage]
    assert {match.key for match in index.search("p", unit(99), -1)} == {"97", "98", "99"}
