"""The newest block, for those who want to know it now and can do without it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ledger.chain_answers import Block
from ledger.errors import ChainUnavailable

PATIENCE_S: Final = 1.0


class NewestBlock:
    """Asks once for all who want to know it at the same time, and keeps nobody for long."""

    def __init__(
        self, ask: Callable[[], Awaitable[Block]], *, patience_s: float = PATIENCE_S
    ) -> None:
        self._ask = ask
        self._patience_s = patience_s
        self._under_way: asyncio.Task[Block | None] | None = None
        self._since = 0.0

    async def get(self) -> Block | None:
        """Return the newest block, or None if the chain does not say in time."""
        now = asyncio.get_running_loop().time()
        if self._under_way is None or self._under_way.done():
            self._under_way, self._since = asyncio.create_task(self._answer()), now
        try:
            # Who comes later waits no longer than the first one: a silent chain is no reason to
            # keep everybody.
            async with asyncio.timeout_at(self._since + self._patience_s):
                return await asyncio.shield(self._under_way)
        except TimeoutError:
            return None

    async def _answer(self) -> Block | None:
        try:
            return await self._ask()
        except ChainUnavailable:
            return None
