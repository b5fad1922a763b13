"""The growing set: what is in it, and that older versions of it stay as they were."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ledger.keyset import KeySet


@given(st.lists(st.lists(st.integers(0, 50), max_size=5), max_size=30))
def test_it_holds_what_was_added_and_its_older_versions_do_not(batches: list[list[int]]) -> None:
    versions, expected = [KeySet[int]()], [set[int]()]
    for batch in batches:
        versions.append(versions[-1].adding(batch))
        expected.append(expected[-1] | set(batch))

    for version, held in zip(versions, expected, strict=True):
        assert set(version) == held
        assert all((key in version) is (key in held) for key in range(51))


def test_adding_one_by_one_keeps_few_parts() -> None:
    keys: KeySet[int] = KeySet()
    for number in range(10_000):
        keys = keys.adding([number])
        assert len(keys.parts) <= 15
    assert len(keys) == 10_000
