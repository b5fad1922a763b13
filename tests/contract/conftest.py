"""One service for all tests of a module, on the real chain."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scripts.devchain import DevChain
from tests.contract.kit import Service, serving


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def service(
    chain: DevChain, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Service]:
    async with serving(tmp_path_factory.mktemp("service"), chain) as running:
        yield running
