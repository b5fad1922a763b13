"""Fixtures of the fault tests."""

from collections.abc import Iterator

import pytest

from scripts.devchain import DevChain


@pytest.fixture(scope="module")
def chain() -> Iterator[DevChain]:
    """Give every module its own chain: other tests move the clock of the shared one."""
    with DevChain(slots_in_an_epoch=2) as running:
        yield running
