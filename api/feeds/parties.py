"""Whose feed a path names, and whether the caller may have it."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from api.auth import CALLER
from api.keys import MARKET
from api.tokens import Caller, Role
from ledger.errors import InvalidInput, NotFound
from ledger.wallets import is_evm
from projections.feeds import PROVIDER, WORKERS

_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_READERS: Final = {
    PROVIDER: frozenset({Role.OPERATOR}),
    WORKERS: frozenset({Role.WORKER, Role.OPERATOR}),
}


def party_of(request: web.Request) -> str:
    """Return the party of the path as it is spelled; one that is not the caller's is not there."""
    party, caller = spelled(request.match_info["party"]), request[CALLER]
    if not (_may_read(party, caller) or _is_inbox_of(request, party, caller)):
        raise NotFound("no feed of this name is yours", code="NOT_FOUND")
    return party


def spelled(name: str) -> str:
    """Return the one spelling of a party: case says something in a Solana wallet alone."""
    folded = name.lower()
    return folded if folded in _READERS or is_evm(folded) else name


def cursor_of(request: web.Request) -> tuple[str, str]:
    """Return the party and the name of the cursor that the path names."""
    party, name = party_of(request), request.match_info["name"]
    if not _NAME.fullmatch(name):
        msg = "a cursor's name is 1 to 64 letters, digits and . _ : -"
        raise InvalidInput(msg, details={"field": "name"})
    return party, name


def _is_inbox_of(request: web.Request, party: str, caller: Caller) -> bool:
    """Whether it is the inbox of the caller's agent, or of the caller in a conversation."""
    kind, _, name = party.partition(":")
    if caller.order is not None or not name:
        return False
    market = request.app[MARKET]
    if kind == "agent":
        agent = market.agent(name)
        return agent is not None and agent.owner == caller.wallet
    talk = market.conversation(name) if kind == "conversation" else None
    return talk is not None and talk.client_wallet == caller.wallet


def _may_read(party: str, caller: Caller) -> bool:
    if caller.order is not None:  # a token for one order has proven no wallet
        return False
    roles = _READERS.get(party)
    return bool(roles & caller.roles) if roles is not None else party == caller.wallet
