"""Which keys sign this log, since and until when, and what a verifier should ask for."""

from __future__ import annotations

from base64 import b64encode

from aiohttp import web
from pydantic import BaseModel

from api.answers import LEDGER_HEAD, json_response, ledger_head
from api.keys import LEDGER
from api.log.words import CHECKPOINT_CACHE
from api.witnesses import WITNESSES


class KeyEvent(BaseModel):
    """One event of the stream `log`: exact text, place, and proof against the checkpoint."""

    position: int
    kind: str
    leaf: str
    entry: str
    proof: list[str]


class Genesis(BaseModel):
    """The keys that the log began with: pinned once, they lead to all that came after."""

    log_key: str
    wallet: str


class KeysResponse(BaseModel):
    """The keys in force, and the events that say so. Pin them from a source that you trust."""

    origin: str
    log_keys: list[str]
    wallets: list[str]
    payment_addresses: list[str]
    recovery: str
    closed: bool
    genesis: Genesis
    events: list[KeyEvent]
    checkpoint: str


async def get_keys(request: web.Request) -> web.Response:
    """Return the keys of the log with the events that brought and took them."""
    ledger = request.app[LEDGER]
    head, state = ledger.head, ledger.log_state
    opening = state.genesis
    body = {
        "origin": ledger.origin,
        "log_keys": sorted(state.log_keys),
        "wallets": sorted(state.wallets),
        "payment_addresses": sorted(state.payment_addresses),
        "recovery": opening.recovery,
        "closed": state.closed,
        "genesis": {"log_key": opening.log_key, "wallet": opening.wallet},
        "checkpoint": head.note,
        "events": [
            {
                "position": placed.position,
                "kind": placed.signed.event.kind,
                "leaf": placed.signed.leaf.hex(),
                "entry": placed.signed.entry.decode(),
                "proof": [
                    b64encode(sibling).decode()
                    for sibling in ledger.proofs.inclusion(placed.position, head.size)
                ],
            }
            for placed in ledger.key_events()
            if placed.position <= head.size
        ],
    }
    return json_response(body, headers={LEDGER_HEAD: ledger_head(head), **CHECKPOINT_CACHE})


async def get_policy(request: web.Request) -> web.Response:
    """Return the C2SP `tlog-policy` of this log: its keys, its witnesses, and their quorum."""
    policy = request.app[WITNESSES].policy(request.app[LEDGER].log_state.log_keys)
    return web.Response(text=policy, headers=CHECKPOINT_CACHE)
