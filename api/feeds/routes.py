"""The routes of feeds and cursors. Every wallet may ask; whose feed it is decides what it gets."""

from __future__ import annotations

from typing import Final

from api.auth import EVERYBODY
from api.feeds.frames import SocketQuery
from api.feeds.limits import TooManyCursors
from api.feeds.models import (
    AckRequest,
    EmptyRequest,
    EventsQuery,
    FetchRequest,
    LeaseRequest,
    NackRequest,
    OpenRequest,
    PageQuery,
    ReceiptRequest,
    SeekRequest,
    SeenHeaders,
    SeenQuery,
)
from api.feeds.owner import (
    get_cursor,
    get_cursors,
    get_log,
    get_parked,
    post_replay,
    post_seek,
    put_cursor,
)
from api.feeds.reader import post_ack, post_fetch, post_lease, post_nack
from api.feeds.reading import get_events
from api.feeds.receipts import post_receipt
from api.feeds.responses import (
    AckResponse,
    CursorResponse,
    CursorsResponse,
    EventsResponse,
    FetchResponse,
    HandOutsResponse,
    LeaseResponse,
    NackResponse,
    ParkedResponse,
    ReceiptResponse,
    ReplayResponse,
    SeekResponse,
)
from api.feeds.socket import get_socket
from api.feeds.stream import get_cursor_stream
from api.routes import Route
from ledger.cursor_errors import (
    CursorBlocked,
    CursorExists,
    CursorRefused,
    FeedMoved,
    GenerationChanged,
    LeaseHeld,
    NotHandedOut,
    StaleLease,
)
from ledger.errors import Conflict, Overloaded

FEED: Final = "/v1/feeds/{party}"
CURSOR: Final = FEED + "/cursors/{name}"

FEED_ROUTES: Final[list[Route]] = [
    Route(
        "GET",
        FEED + "/events",
        get_events,
        "Read a feed",
        response=EventsResponse,
        query=EventsQuery,
        roles=EVERYBODY,
    ),
    Route(
        "GET",
        FEED + "/cursors",
        get_cursors,
        "List the cursors of a feed",
        response=CursorsResponse,
        roles=EVERYBODY,
    ),
    Route(
        "PUT",
        CURSOR,
        put_cursor,
        "Open a cursor",
        request=OpenRequest,
        response=CursorResponse,
        writes=True,
        roles=EVERYBODY,
        creates=True,
        errors=frozenset({CursorExists, TooManyCursors}),
    ),
    Route(
        "GET",
        CURSOR,
        get_cursor,
        "Show a cursor",
        response=CursorResponse,
        roles=EVERYBODY,
    ),
    Route(
        "POST",
        CURSOR + "/fetch",
        post_fetch,
        "Hand out events",
        request=FetchRequest,
        response=FetchResponse,
        roles=EVERYBODY,
        errors=frozenset(
            {LeaseHeld, StaleLease, CursorBlocked, CursorRefused, FeedMoved, Overloaded}
        ),
    ),
    Route(
        "POST",
        CURSOR + "/ack",
        post_ack,
        "Acknowledge events",
        request=AckRequest,
        response=AckResponse,
        roles=EVERYBODY,
        errors=frozenset({StaleLease, NotHandedOut, GenerationChanged, FeedMoved}),
    ),
    Route(
        "POST",
        CURSOR + "/nack",
        post_nack,
        "Refuse an event",
        request=NackRequest,
        response=NackResponse,
        roles=EVERYBODY,
        errors=frozenset({StaleLease, NotHandedOut, CursorRefused, FeedMoved}),
    ),
    Route(
        "POST",
        CURSOR + "/lease",
        post_lease,
        "Prolong or release a lease",
        request=LeaseRequest,
        response=LeaseResponse,
        roles=EVERYBODY,
        errors=frozenset({StaleLease, FeedMoved}),
    ),
    Route(
        "POST",
        CURSOR + "/seek",
        post_seek,
        "Move a cursor",
        request=SeekRequest,
        response=SeekResponse,
        writes=True,
        roles=EVERYBODY,
        errors=frozenset({FeedMoved}),
    ),
    Route(
        "GET",
        CURSOR + "/parked",
        get_parked,
        "List parked events",
        response=ParkedResponse,
        query=PageQuery,
        roles=EVERYBODY,
    ),
    Route(
        "POST",
        CURSOR + "/parked/{pos}/replay",
        post_replay,
        "Hand a parked event out again",
        request=EmptyRequest,
        response=ReplayResponse,
        writes=True,
        roles=EVERYBODY,
        body_optional=True,
        errors=frozenset({CursorRefused, FeedMoved}),
    ),
    Route(
        "GET",
        CURSOR + "/log",
        get_log,
        "Log of what was handed out",
        response=HandOutsResponse,
        query=PageQuery,
        roles=EVERYBODY,
    ),
    Route(
        "GET",
        CURSOR + "/stream",
        get_cursor_stream,
        "Read along with a cursor",
        query=SeenQuery,
        headers=SeenHeaders,
        roles=EVERYBODY,
        media_type="text/event-stream",
    ),
    Route(
        "GET",
        CURSOR + "/ws",
        get_socket,
        "Hand out events by WebSocket",
        query=SocketQuery,
        roles=EVERYBODY,
        upgrades=True,
    ),
    Route(
        "POST",
        "/v1/events/{event_id}/receipts",
        post_receipt,
        "Give a receipt for an event",
        request=ReceiptRequest,
        response=ReceiptResponse,
        writes=True,
        roles=EVERYBODY,
        creates=True,
        errors=frozenset({Conflict}),
    ),
]
