"""What the operator's machinery asks."""

from __future__ import annotations

from typing import Final, Literal

from aiohttp import web
from pydantic import BaseModel

from api.answers import LEDGER_HEAD, json_response, ledger_head
from api.keys import CHAIN, LEDGER, RUNNER, SETTINGS
from api.routes import Route
from api.witnesses import WITNESSES, WitnessHealth


class HealthResponse(BaseModel):
    """GET /health: times in Unix milliseconds, `lag` in events that the views lack.

    `origin` and `log_key` (C2SP verifier key) are what checkpoints are checked with; pin them from
    a source that you trust, the service itself is only the most convenient one.
    """

    status: Literal["ok"]
    timestamp: int
    origin: str
    log_key: str
    network: str
    dev_chain: bool
    payments: Literal["ready", "chain_unknown", "disabled"]
    position: int
    lag: int
    witnesses: dict[str, WitnessHealth]


async def get_health(request: web.Request) -> web.Response:
    """Say that the service answers, and how far its views and its chain are."""
    app = request.app
    head, link = app[LEDGER].head, app[CHAIN]
    payments = "disabled" if link.chain is None else ("ready" if link.bound else "chain_unknown")
    body = {
        "status": "ok",
        "timestamp": app[LEDGER].clock(),
        "origin": app[LEDGER].origin,
        "log_key": app[LEDGER].log_key.vkey,
        "network": app[SETTINGS].network,
        "dev_chain": app[SETTINGS].dev_chain,
        "payments": payments,
        "position": head.size,
        "lag": max(0, head.size - app[RUNNER].position),
        "witnesses": app[WITNESSES].health(),
    }
    return json_response(body, headers={LEDGER_HEAD: ledger_head(head)})


OPS_ROUTES: Final = [
    Route(
        "GET",
        "/health",
        get_health,
        "Is the service up",
        response=HealthResponse,
        shows_head=True,
    )
]
