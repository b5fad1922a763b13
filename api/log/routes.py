"""The routes of the log in public."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from api.auth import EVERYBODY
from api.log.evidence import ZIP, EvidenceQuery, get_evidence
from api.log.keys import KeysResponse, get_keys, get_policy
from api.log.proofs import (
    OrderEventsResponse,
    OrderHeadResponse,
    get_consistency,
    get_event_proof,
    get_order_events,
    get_order_head,
)
from api.log.tiles import get_checkpoint, get_entries, get_tile
from api.routes import Route
from api.tokens import Role
from api.witnesses import NotWitnessed
from ledger.errors import NotFound

READERS: Final = frozenset({Role.AUDITOR, Role.OPERATOR})
PARTIES: Final = EVERYBODY - {Role.WORKER}
TEXT: Final = "text/plain"
BYTES: Final = "application/octet-stream"

Size = Annotated[int, Field(ge=0, lt=10**15)]


class SizeQuery(BaseModel):
    """The size of the tree to prove against; the newest without it."""

    model_config = ConfigDict(extra="ignore")

    size: Size | None = None


class ConsistencyQuery(BaseModel):
    """From which size to which; to the newest without `to`."""

    model_config = ConfigDict(extra="ignore")

    from_: Annotated[Size, Field(alias="from")]
    to: Size | None = None


LOG_ROUTES: Final = [
    Route(
        "GET",
        "/ledger/checkpoint",
        get_checkpoint,
        "Newest checkpoint",
        media_type=TEXT,
        errors=frozenset({NotWitnessed}),
    ),
    Route(
        "GET",
        "/ledger/tile/entries/{tile}",
        get_entries,
        "Bundle of entries",
        roles=READERS,
        media_type=BYTES,
        pattern="/ledger/tile/entries/{tile:.+}",
        errors=frozenset({NotFound}),
    ),
    Route(
        "GET",
        "/ledger/tile/{level}/{tile}",
        get_tile,
        "Tile of hashes",
        media_type=BYTES,
        pattern="/ledger/tile/{level}/{tile:.+}",
        errors=frozenset({NotFound}),
    ),
    Route(
        "GET",
        "/ledger/proof/consistency",
        get_consistency,
        "Proof that the log only grew",
        query=ConsistencyQuery,
        media_type=TEXT,
    ),
    Route("GET", "/ledger/keys", get_keys, "Keys of the log", response=KeysResponse),
    Route("GET", "/ledger/policy", get_policy, "Policy of the log", media_type=TEXT),
    Route(
        "GET",
        "/ledger/orders/{order_id}/events",
        get_order_events,
        "Exact events of an order",
        response=OrderEventsResponse,
        roles=PARTIES,
    ),
    Route(
        "GET",
        "/ledger/orders/{order_id}/head",
        get_order_head,
        "Signed end of an order",
        response=OrderHeadResponse,
    ),
    Route(
        "GET",
        "/ledger/orders/{order_id}/evidence",
        get_evidence,
        "Evidence bundle of an order",
        roles=PARTIES,
        query=EvidenceQuery,
        media_type=ZIP,
        shows_head=True,
        has_etag=True,
    ),
    Route(
        "GET",
        "/ledger/orders/{order_id}/events/{seq}/proof",
        get_event_proof,
        "Proof of one event",
        query=SizeQuery,
        media_type=TEXT,
    ),
]
