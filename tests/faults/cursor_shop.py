"""One service process with a feed, for tests that kill and stop what reads it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from scripts.buyer import Buyer
from tests.contract.cursor_kit import write_catalog
from tests.support.chain import account_named
from tests.support.service import Service

READER = "killed reader"


@dataclass
class Shop:
    """One service process, a wallet with events in its feed, and its token."""

    service: Service
    session: aiohttp.ClientSession
    bearer: str = ""

    @property
    def buyer(self) -> Buyer:
        key = "0x" + account_named(READER).key.hex()
        return Buyer(self.session, self.service.url, key)

    async def start(self, *trap: str) -> None:
        command = ("tests.faults.dying", *trap) if trap else ()
        await asyncio.to_thread(self.service.start, *command)

    async def sign_in(self) -> None:
        address = self.buyer.address
        said = (await self.buyer.post("/v1/auth/challenge", {"address": address})).require(200)
        proof = {"message": said["message"], "signature": self.buyer.sign(str(said["message"]))}
        token = (await self.buyer.post("/v1/auth/token", proof)).require(200)
        self.bearer = str(token["token"])

    async def call(self, method: str, rest: str, body: dict[str, Any]) -> tuple[int, Any]:
        url = f"{self.service.url}/v1/feeds/{self.buyer.address}/cursors/{rest}"
        headers = {"Authorization": f"Bearer {self.bearer}"}
        async with self.session.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.json()


@asynccontextmanager
async def shop_with(folder: Path, events: int) -> AsyncIterator[Shop]:
    """Run a service in whose feed lie so many events of one wallet."""
    service = Service(folder, catalog=str(write_catalog(folder)))
    async with aiohttp.ClientSession(trust_env=False) as session:
        found = Shop(service, session)
        await found.start()
        try:
            for _ in range(events):
                (await found.buyer.request("by_hand", "x")).require(200)
            await found.sign_in()
            yield found
        finally:
            await asyncio.to_thread(service.stop)
