"""Which errors a route can answer: they follow from what it takes and what it gives.

Who takes a signature can refuse it, who takes a transaction can find that it does not pay. So a
new route is described in full by its models; `Route.errors` holds only what they do not show.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, get_args

from pydantic import BaseModel

from api.body import BodyTimeout, BodyTooLarge
from api.errors import STATUS_OF
from api.feeds.limits import UpgradeRequired
from api.hooks import HookUnavailable
from api.idempotency import KeyInFlight, KeyReused
from api.limits import RateLimited
from api.log.held import Ahead, Fork
from api.openapi_parameters import EVENTS, has_key
from api.quoter import Screened
from api.routes import ORDER_PART, Route
from api.sync import ViewsBehind
from api.tokens import Forbidden, Role, TokenRefused
from ledger.errors import (
    ChainUnavailable,
    Conflict,
    Gone,
    InvalidInput,
    LedgerError,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PaymentPending,
    PaymentRefused,
    PaymentTooLate,
    Rejected,
    StoreUnavailable,
    Unauthorized,
)

Errors = frozenset[type[LedgerError]]

BODY: Final[Errors] = frozenset({InvalidInput, BodyTimeout, BodyTooLarge})
WRITTEN: Final[Errors] = frozenset({Overloaded, OutcomeUnknown, StoreUnavailable, Misconfigured})
DECIDED: Final[Errors] = frozenset({Conflict, Rejected})
RECORDED: Final[Errors] = frozenset(
    {PaymentRefused, PaymentPending, PaymentTooLate, Gone, ChainUnavailable}
)
"""What is answered to a notice of payment that is kept all the same: with the proof of that."""
COMPARED: Final[Errors] = frozenset({InvalidInput, Ahead, Fork})
"""What any request is answered that comes with a head of another history."""
QUOTED: Final[Errors] = frozenset({Screened, Conflict, HookUnavailable})

INTERNAL_ERROR: Final = 500
_MISSING: Final = {
    "conversation_id": "CONVERSATION_NOT_FOUND",
    "agent_id": "AGENT_NOT_FOUND",
    "agents": "AGENT_NOT_FOUND",
}
"""By a word of the path or of the body: the code if there is none."""


def errors_by_status(route: Route) -> dict[int, list[type[LedgerError]]]:
    """Return the errors of a route under the HTTP status that each has, both in order."""
    found: defaultdict[int, list[type[LedgerError]]] = defaultdict(list)
    for error in sorted(errors_of(route), key=lambda error: error.__name__):
        found[STATUS_OF.get(error, INTERNAL_ERROR)].append(error)
    return dict(sorted(found.items()))


def errors_of(route: Route) -> Errors:
    """Return every error that a route may answer with."""
    takes = taken_by(route)
    gives = set(route.response.model_fields) if route.response else set()
    rules: list[tuple[bool, Errors]] = [
        (bool(takes or route.body_types), BODY),
        (route.method == "GET", frozenset({ViewsBehind, StoreUnavailable})),
        (has_key(route), frozenset({KeyReused, KeyInFlight})),
        (route.media_type == EVENTS, frozenset({Overloaded})),
        (route.upgrades, frozenset({Overloaded, UpgradeRequired})),
        (route.writes, frozenset({RateLimited})),
        (bool(route.roles), frozenset({TokenRefused})),
        (_is_for_some(route), frozenset({Forbidden})),
        ("{" in route.path or "order_id" in takes, frozenset({NotFound})),
        (_may_be_signed(route), frozenset({RateLimited, Overloaded})),
        (is_proven(route), WRITTEN),
        (is_proven(route) and names_order(route), DECIDED),
        ("signature" in takes, frozenset({Unauthorized})),
        ({"signature", "tx_hash"} <= takes, RECORDED),
        ("budget_usdc" in takes, QUOTED),
        (ORDER_PART in route.path and "content" in gives, frozenset({Gone})),
    ]
    return (route.errors | COMPARED).union(*(errors for holds, errors in rules if holds))


def _may_be_signed(route: Route) -> bool:
    """Whether the request may be signed as a whole, because the order may be a marketplace's."""
    return route.method == "GET" and not route.roles and ORDER_PART in route.path


def is_proven(route: Route) -> bool:
    """Whether the answer holds the proof of what was written."""
    return route.response is not None and "ledger" in route.response.model_fields


def _is_for_some(route: Route) -> bool:
    """Whether some wallets are refused; where it is an order's route, they are told of no order."""
    return bool(route.roles) and Role.PARTY not in route.roles and ORDER_PART not in route.path


def names_order(route: Route) -> bool:
    """Whether the path or the body says which order it is about."""
    return ORDER_PART in route.path or "order_id" in taken_by(route)


def code_of(error: type[LedgerError], route: Route) -> str:
    """Return what an error is called on a route; what is not found is what the request names."""
    code = error.code
    if error is NotFound and not names_order(route):
        asked = taken_by(route) | {word.strip("{}") for word in route.path.split("/")}
        code = next((code for name, code in _MISSING.items() if name in asked), "NOT_FOUND")
    return route.words.get(code, code)


def taken_by(route: Route) -> set[str]:
    """Return the names in a request, those of its parts as well."""
    return set(_members(route.request)) if route.request else set()


def _members(model: type[BaseModel]) -> Iterator[str]:
    for name, info in model.model_fields.items():
        yield name
        for kind in (info.annotation, *get_args(info.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _members(kind)
