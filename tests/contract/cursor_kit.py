"""Talking to cursors in tests: one party, one cursor, and events that cost little to make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.contract.callers import Answer, Caller, signed_in
from tests.contract.kit import Service

CATALOG = """
provider = "fed"
[[services]]
type = "by_hand"
kind = "external"
price_usdc = "0.1"
estimated_delivery_hours = 1
"""


def write_catalog(folder: Path) -> Path:
    """Write a catalog whose services nothing in the process works for."""
    path = folder / "catalog.toml"
    path.write_text(CATALOG)
    return path


@dataclass
class Reader:
    """One reader of one cursor; remembers its token."""

    caller: Caller
    name: str = "one"
    holder: str = "a"
    token: int | None = None
    generation: int = 1
    seen: list[int] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"/v1/feeds/{self.caller.address}/cursors/{self.name}"

    async def open(self, **settings: object) -> Answer:
        return await self.caller.call("PUT", self.path, {"start": "earliest", **settings})

    async def fetch(self, *, keep: bool = False, **more: object) -> Answer:
        """Fetch, with the token of the last hand-out if `keep`."""
        body: dict[str, Any] = {"holder": self.holder, **more}
        if keep and self.token is not None:
            body["lease_token"] = self.token
        answer = await self.caller.post(self.path + "/fetch", body)
        if answer.status == 200:
            self.token = answer.body["lease_token"]
            self.generation = answer.body["generation"]
        return answer

    async def ack(self, through: int, token: int | None = None, **more: object) -> Answer:
        body = {"lease_token": token or self.token, "through": through, **more}
        return await self.caller.post(self.path + "/ack", {"generation": self.generation, **body})

    async def post(self, act: str, **body: object) -> Answer:
        return await self.caller.post(f"{self.path}/{act}", body)

    async def get(self, rest: str = "") -> dict[str, Any]:
        answer = await self.caller.get(self.path + rest)
        assert answer.status == 200, answer
        return answer.body


def positions(answer: Answer) -> list[int]:
    """Return the positions that were handed out."""
    assert answer.status == 200, answer.body
    return [event["pos"] for event in answer.body["events"]]


def attempts(answer: Answer) -> list[int]:
    """Return how often each event was handed out."""
    return [event["attempt"] for event in answer.body["events"]]


async def reader_of(service: Service, name: str) -> Reader:
    """Return a reader for a wallet that has signed in."""
    return Reader(await signed_in(service, name))


async def make_events(service: Service, party: str, count: int) -> list[str]:
    """Make so many events in a party's feed: quotes, which cost nothing to make."""
    return [await service.quote(service.buyer(party), "by_hand") for _ in range(count)]
