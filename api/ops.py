"""What the operator's machinery asks."""

from __future__ import annotations

from typing import Final, Literal

from aiohttp import web
from pydantic import BaseModel

from api.answers import LEDGER_HEAD, json_response, ledger_head
from api.keys import CHAIN, LEDGER, RUNNER, SETTINGS
from api.routes import Route
from api.solana_link import SOLANA
from api.witnesses import WITNESSES, WitnessHealth

ChainWord = Literal["ready", "chain_unknown", "disabled"]


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
    payments: ChainWord
    settlement: ChainWord
    position: int
    lag: int
    witnesses: dict[str, WitnessHealth]


async def get_health(request: web.Request) -> web.Response:
    """Say that the service answers, and how far its views and its chain are."""
    app = request.app
    head, evm, solana = app[LEDGER].head, app[CHAIN], app[SOLANA]
    body = {
        "status": "ok",
        "timestamp": app[LEDGER].clock(),
        "origin": app[LEDGER].origin,
        "log_key": app[LEDGER].log_key.vkey,
        "network": app[SETTINGS].network,
        "dev_chain": app[SETTINGS].dev_chain,
        "payments": _word(configured=evm.chain is not None, known=evm.bound),
        "settlement": _word(configured=solana.rpc is not None, known=solana.proves),
        "position": head.size,
        "lag": max(0, head.size - app[RUNNER].position),
        "witnesses": app[WITNESSES].health(),
    }
    return json_response(body, headers={LEDGER_HEAD: ledger_head(head)})


def _word(*, configured: bool, known: bool) -> ChainWord:
    if not configured:
        return "disabled"
    return "ready" if known else "chain_unknown"


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
