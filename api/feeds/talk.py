"""One connection of a reader's WebSocket: hand out, take acknowledgements, know when to end.

The lease, its tokens and the deciders are those of HTTP: a reader may use both in turn. Nothing is
remembered here but what was sent on this connection and waits to be acknowledged.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

import orjson
import structlog
from aiohttp import WSMessage, WSMsgType, web

from api.answers import ledger_block
from api.auth import CALLER
from api.feeds.acts import handed_json
from api.feeds.desk import DESK, Desk, Key
from api.feeds.events import Json
from api.feeds.frames import SocketQuery, act, error_frame
from api.feeds.handing import HandedOut, Wish, hand_out
from api.feeds.open import token_holds
from api.feeds.settings import millis
from api.keys import FOLLOWERS, LIMITS
from api.limits import RateLimited
from api.tokens import Role
from ledger.cursor_errors import (
    CursorBlocked,
    FeedMoved,
    GenerationChanged,
    LeaseHeld,
    StaleLease,
)
from ledger.cursor_events import CursorState
from ledger.errors import (
    InvalidInput,
    LedgerError,
    Misconfigured,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    StoreUnavailable,
)
from ledger.store_sqlite import STORE_ERRORS

SEND_SECONDS: Final = 30.0
CLOSE_SECONDS: Final = 5.0
POLL_SECONDS: Final = 1.0
"""How long a token that ended, or a wake-up that was lost, goes unnoticed."""
MAX_UNACKED: Final = 1000
"""Events on their way with `pipeline`; without it, one hand-out."""

GOING_AWAY: Final = 1001
BROKEN: Final = 1011
LATER: Final = 1013
NO_TOKEN: Final = 4401
NO_CURSOR: Final = 4404
NO_LEASE: Final = 4409

_CODES: Final[dict[type[LedgerError], int]] = {
    NotFound: NO_CURSOR,
    StaleLease: NO_LEASE,
    CursorBlocked: NO_LEASE,
    GenerationChanged: NO_LEASE,
    Misconfigured: LATER,
    OutcomeUnknown: LATER,
    Overloaded: LATER,
    RateLimited: LATER,
    StoreUnavailable: LATER,
}
"""The errors after which the connection ends; after any other it goes on."""
_STAFF: Final = frozenset({Role.OPERATOR, Role.WORKER})
_ENDS: Final = frozenset({WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR})

_log = structlog.get_logger(__name__)


class Closing(Exception):
    """Ends the connection with a code and a word."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code: Final = code
        self.reason: Final = reason


@dataclass(slots=True)
class Conversation:
    """One connection. `unacked` are the positions that were sent on it under `token`.

    `whole` says that these are all that the lease covers: only then can more be handed out on top.
    """

    request: web.Request
    socket: web.WebSocketResponse
    key: Key
    asked: SocketQuery
    address: str
    moved: asyncio.Event
    unacked: set[int] = field(default_factory=set)
    token: int | None = None
    whole: bool = False
    due: int | None = None
    held: bool = False

    @property
    def desk(self) -> Desk:
        """Where acts are done."""
        return self.request.app[DESK]

    async def run(self) -> None:
        """Talk until one side ends it."""
        code, reason = BROKEN, "the service failed"
        try:
            await self._talk()
        except Closing as end:
            code, reason = end.code, end.reason
        except ConnectionError:
            return
        except TimeoutError:
            code, reason = LATER, "slow"
        except STORE_ERRORS as error:
            _log.error("store unreadable", error=str(error))
            code, reason = LATER, StoreUnavailable.code
        except Exception:  # noqa: BLE001 - no middleware can answer on an upgraded connection
            _log.exception("socket failed")
        else:
            return
        await self._close(code, reason)

    async def _talk(self) -> None:
        incoming = self._listen()
        try:
            while True:
                self.moved.clear()
                self._require_open()
                if incoming.done():
                    if not await self._take(incoming.result()):
                        return
                    incoming = self._listen()
                    continue
                await self._look()
                if self._may_send_more():
                    await self._hand_out()
                await self._pause()
        finally:
            incoming.cancel()
            await asyncio.gather(incoming, return_exceptions=True)

    def _listen(self) -> asyncio.Task[WSMessage]:
        incoming = asyncio.create_task(self.socket.receive(), name="socket")
        incoming.add_done_callback(lambda _: self.moved.set())
        return incoming

    def _require_open(self) -> None:
        if self.request.app[FOLLOWERS].closing:
            raise Closing(GOING_AWAY, "the service ends")
        if not token_holds(self.request):
            raise Closing(NO_TOKEN, "the token has ended; sign in again")

    async def _look(self) -> None:
        """Learn what became of the hand-out: acknowledgements may come by HTTP as well."""
        self.due = None
        if not self.unacked:
            return
        state = await self.desk.state(self.key)
        self.unacked &= _outstanding(state, self.unacked, self.token)
        if state.failed is not None and state.token == self.token:
            self.unacked.clear()
        if not self.unacked:
            return
        if state.token != self.token or state.lease is None:
            await self._tell(StaleLease("the lease was taken over, or the cursor was moved"))
            raise Closing(NO_LEASE, StaleLease.code)
        if state.lease.until <= self.desk.ledger.clock():
            raise Closing(LATER, "slow: the lease ended without an acknowledgement")
        self.due = state.lease.until

    def _may_send_more(self) -> bool:
        if not self.unacked:
            return True
        room = len(self.unacked) + self.asked.limit <= MAX_UNACKED
        return self.asked.pipeline and self.whole and room

    async def _hand_out(self) -> None:
        goes_on = bool(self.unacked)
        lasts = self.asked.lease_seconds
        wish = Wish(
            holder=self.asked.holder,
            limit=self.asked.limit,
            token=self.token if goes_on else None,
            lease_ms=millis(lasts) if lasts is not None else None,
            pipeline=goes_on,
            transport="ws",
        )
        try:
            found = await hand_out(self.desk, self.key, wish)
        except LeaseHeld as error:
            if not self.held:
                await self._tell(error)
            self.held, self.due = True, _number(error.details.get("until_ms"))
            return
        except FeedMoved:
            return  # it is tried again in the next round
        except LedgerError as error:
            await self._tell(error)
            if type(error) in _CODES:
                raise Closing(_CODES[type(error)], error.code) from error
            raise Closing(LATER, error.code) from error
        self.held = False
        await self._send_events(found)

    async def _send_events(self, found: HandedOut) -> None:
        state = found.done.state
        if not found.events:
            self.due = state.retry_at if state.retry_at is not None else self.due
            return
        frame: Json = {"type": "event", **handed_json(found)}
        if found.receipt is not None:
            frame["ledger"] = ledger_block(self.desk.ledger, found.receipt)
        await self._send(frame)
        self.moved.set()
        if state.settings.mode == "ack":
            self.token = found.token
            self.unacked |= {int(str(event["pos"])) for event in found.events}
            lease = state.lease
            self.whole = lease is not None and not lease.replays and lease.to.pos in self.unacked

    async def _take(self, message: WSMessage) -> bool:
        """Do what a frame asks for; return False if the connection has ended."""
        if message.type in _ENDS:
            return False
        try:
            self._count()
            if message.type is not WSMsgType.TEXT:
                raise InvalidInput("a frame is text: one JSON object")
            frame, ends = await act(self.desk, self.key, str(message.data))
        except LedgerError as error:
            await self._tell(error)
            if type(error) in _CODES:
                raise Closing(_CODES[type(error)], error.code) from error
            return True
        if ends:
            self.unacked.clear()
        await self._send(frame)
        return True

    def _count(self) -> None:
        """Count a frame as the write that it would be over HTTP."""
        if self.request[CALLER].roles & _STAFF:
            return
        allowance = self.request.app[LIMITS].count_write(self.address)
        if allowance is not None and not allowance.granted:
            msg = "too many requests from this address"
            raise RateLimited(msg, retry_after=allowance.wait_seconds)

    async def _pause(self) -> None:
        """Wait for a frame, for the feed, or for a lease to end; not for ever."""
        seconds = POLL_SECONDS
        if self.due is not None:
            seconds = min(seconds, max(0.01, (self.due - self.desk.ledger.clock()) / 1000))
        try:
            async with asyncio.timeout(seconds):
                await self.moved.wait()
        except TimeoutError:
            return

    async def _tell(self, error: LedgerError) -> None:
        await self._send(error_frame(error))

    async def _send(self, frame: Json) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self.socket.send_str(orjson.dumps(frame).decode())

    async def _close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(2 * CLOSE_SECONDS):
                await self.socket.close(code=code, message=reason.encode(), drain=False)
        except (TimeoutError, ConnectionError):
            transport = self.request.transport
            if transport is not None:
                transport.abort()


def _outstanding(state: CursorState, sent: set[int], token: int | None) -> set[int]:
    """Return what of the positions sent under a token still waits to be acknowledged."""
    again = {place.pos for place in state.lease.replays} if state.lease else set()
    if state.token == token and again & sent:
        return again & sent
    skipped = {place.pos for place in state.skipped}
    return {pos for pos in sent if pos > state.acked.pos and pos not in skipped}


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
