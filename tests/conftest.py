"""Fixtures for every test."""

from collections.abc import Iterator

import pytest

from scripts.devchain import DevChain


@pytest.fixture(scope="session")
def chain() -> Iterator[DevChain]:
    """One real chain per test worker, shared by its tests: leave mining on when you are done."""
    with DevChain(slots_in_an_epoch=2) as running:
        yield running
