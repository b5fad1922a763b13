"""A shop for the clients of the protocol, and the helpers around them that are no client's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.keys import RUNNER, VIEWS
from projections.work import WorkKind
from scripts.devchain import DevChain
from tests.clients.sdk import SdkClient
from tests.clients.wallet import Wallet
from tests.contract.callers import ROLES, WORKER, signed_in
from tests.contract.kit import WAIT_SECONDS, Service, serving
from tests.support.chain import account_named, funded_account

BY_HAND = "by_hand"
"""Its content is handed in by a worker, so a test says when."""

_SHIPPED = Path("catalog.toml").read_text()
_OFFERS = f"""
[[services]]
type = "{BY_HAND}"
kind = "external"
price_usdc = "0.1"
estimated_delivery_hours = 1

[[services]]
type = "dear"
price_usdc = "1.5"
estimated_delivery_hours = 0.5
handler = "api.offerings.text:text_echo"
""" + "".join(
    f'[[services]]\ntype = "{name}"\nprice_usdc = "0.1"\nestimated_delivery_hours = 1\n'
    f'handler = "tests.contract.client_offerings:{name}"\n'
    for name in ("picture", "raw_echo", "breaks")
)


@asynccontextmanager
async def shop(folder: Path, chain: DevChain, **changes: object) -> AsyncIterator[Service]:
    """Run a service with every kind of offering; it may push to this machine."""
    catalog = folder / "catalog.toml"
    catalog.write_text(_SHIPPED + _OFFERS)
    settings = {"catalog": catalog, "push_allow_private": True, "push_schedule": "0,0", **ROLES}
    async with serving(folder, chain, **{**settings, **changes}) as service:
        yield service


def wallet(chain: DevChain, name: str, micros: int = 10_000_000) -> Wallet:
    """Return a wallet with USDC and gas. The chain is shared: name it after the test."""
    return Wallet(chain, funded_account(chain, name, micros))


def poor_wallet(chain: DevChain, name: str) -> Wallet:
    """Return a wallet that holds nothing."""
    return Wallet(chain, account_named(name))


IDLE_SECONDS = 2.0


class Pauses:
    """Stands in for a client's sleep: it lasts until the views have moved on. Remembers each.

    It ends also where nothing will move any more, because the work was done before the pause.
    """

    def __init__(self, service: Service) -> None:
        self.asked: list[float] = []
        self._runner = service.app[RUNNER]
        self._views = service.app[VIEWS]
        self._seen = 0

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        # What moved since the last pause may have been missed by the question in between.
        if not await self._runner.wait_for(self._seen + 1, IDLE_SECONDS):
            # Where nothing is left to do, the client has only not asked again yet.
            moved = self._idle() or await self._runner.wait_for(self._seen + 1, WAIT_SECONDS)
            assert moved, "nothing moves"
        self._seen = self._runner.position

    def _idle(self) -> bool:
        kinds = (WorkKind.CLAIM, WorkKind.HANDLER, WorkKind.PUSH)
        return not any(self._views.work(kind, limit=1) for kind in kinds)


async def no_pause(_seconds: float) -> None:
    """Go on at once."""


def sdk(service: Service, buyer: Wallet, url: str | None = None) -> SdkClient:
    """Return the SDK's client with this wallet, at the service or at another URL."""
    # With the longest jitter every time.
    return SdkClient(service.session, url or service.url, buyer, Pauses(service), lambda: 1.0)


async def hand_in(service: Service, order_id: str, content: str) -> None:
    """Hand in an order's content as a worker does over HTTP."""
    worker = await signed_in(service, WORKER)
    answer = await worker.post(f"/v1/work/{order_id}/deliverable", {"content": content})
    assert answer.status == 200, answer.body


async def waiting_order(service: Service, client: str) -> str:
    """Return the id of the one order of a wallet that a worker could take, once there is one."""
    worker = await signed_in(service, WORKER)
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            position = service.app[RUNNER].position
            orders = (await worker.get("/v1/work?limit=100")).body["orders"]
            for order in orders:
                view = service.app[VIEWS].order(order["order_id"])
                if view is not None and view.client.lower().endswith(client.lower()):
                    return str(view.order_id)
            await service.app[RUNNER].wait_for(position + 1, WAIT_SECONDS)
