"""One service for all tests of a module, on the real chain."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import structlog

from scripts.devchain import DevChain
from tests.contract.kit import Service, serving


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """Leave out the log: drawing the traceback of every planned failure takes most of the time."""
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    yield
    structlog.reset_defaults()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with serving(tmp_path_factory.mktemp("service"), chain) as running:
        yield running
