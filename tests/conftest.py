"""Fixtures for every test."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from scripts.devchain import DevChain

# How long an example takes says more of what else the machine does than of the code.
settings.register_profile("ledger", deadline=None, print_blob=True)
settings.load_profile("ledger")


@pytest.fixture(scope="session")
def chain() -> Iterator[DevChain]:
    """One real chain per test worker, shared by its tests: leave mining on when you are done."""
    with DevChain(slots_in_an_epoch=2) as running:
        yield running
