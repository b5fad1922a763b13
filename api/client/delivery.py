"""Collecting the content, and holding it against what the provider signed.

The hash in the answer is not believed: the bytes have to be those of the signed `ready` event,
whose place in the log is proven, in a chain of events that begins with the quote we hold.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from pydantic import BaseModel, ConfigDict

from api.client.blocks import verify_order_head
from api.client.errors import AnswerRefused, WrongContent
from api.client.logkeys import LogBook
from api.client.proven import ProvenClient
from api.client.shapes import parsed
from api.client.signin import SignIn
from ledger.checkpoint import Checkpoint
from ledger.entry import SignedEvent, verify_entry
from ledger.errors import VerificationError
from ledger.merkle import verify_inclusion
from ledger.order_events import DeliverableReady
from ledger.proof_text import parse_inclusion
from ledger.values import ZERO_LEAF, order_stream


class _Placed(BaseModel):
    model_config = ConfigDict(frozen=True)
    position: int
    entry: str


class _Events(BaseModel):
    model_config = ConfigDict(frozen=True)
    events: list[_Placed]
    order_head: dict[str, str]
    checkpoint: str


class _Download(BaseModel):
    model_config = ConfigDict(frozen=True)
    order_id: str
    content: str
    content_type: str
    content_encoding: Literal["base64"] | None = None


@dataclass(frozen=True, slots=True)
class Deliverable:
    """Content whose bytes the provider signed for; `content_hash` is their SHA-256."""

    order_id: str
    content: bytes
    content_type: str
    format: str
    content_hash: str

    @property
    def text(self) -> str:
        """The content as text, where it is some."""
        return self.content.decode()


@dataclass(frozen=True, slots=True)
class Placed:
    """One event of an order and its place in the log."""

    position: int
    event: SignedEvent


@dataclass(frozen=True, slots=True)
class Story:
    """Every event of an order, verified, as of one checkpoint."""

    events: tuple[Placed, ...]
    checkpoint: Checkpoint


class Deliveries:
    """Downloads and verifies for one buyer at one service."""

    def __init__(self, client: ProvenClient, sign_in: SignIn) -> None:
        self._client = client
        self._sign_in = sign_in

    async def download(self, order_id: str) -> Deliverable:
        """Return the content, or raise `WrongContent` if it is not what was signed."""
        answer = await self._client.get(f"/ivxp/download/{order_id}")
        said = parsed(_Download, answer.body)
        content = _bytes_of(said)
        ready = await self._ready(order_id)
        digest = sha256(content).hexdigest()
        if said.order_id != order_id or (digest, len(content)) != (ready.raw, ready.size_bytes):
            raise WrongContent("the bytes are not those that the provider signed for")
        return Deliverable(order_id, content, ready.content_type, ready.format, digest)

    async def story(self, order_id: str) -> Story:
        """Return every event of an order, each signed, chained, and the last one proven so."""
        path = f"/ledger/orders/{order_id}/events"
        answer = await self._sign_in.call(lambda token: self._client.get(path, token))
        said = parsed(_Events, answer.body)
        story = await self._client.verified(lambda book: _verified(said, order_id, book))
        # A provider could sign two orders of one id: ours begins with the quote that we hold.
        first = story.events[0]
        kept = self._client.heads.entry(story.checkpoint.origin, first.position)
        if kept != first.event.entry:
            raise AnswerRefused("the order does not begin with a quote that was shown here")
        return story

    async def _ready(self, order_id: str) -> DeliverableReady:
        story = await self.story(order_id)
        for placed in story.events:
            if isinstance(placed.event.event, DeliverableReady):
                await self._require_place(order_id, placed, story.checkpoint)
                return placed.event.event
        raise WrongContent("there is content, and no event that the provider signed for it")

    async def _require_place(self, order_id: str, placed: Placed, checkpoint: Checkpoint) -> None:
        """Prove that an event stands in the log: so do all before it, which it is chained to."""
        seq, size = placed.event.seq, checkpoint.size
        path = f"/ledger/orders/{order_id}/events/{seq}/proof?size={size}"
        text = (await self._client.get(path)).answer.text
        try:
            said = parse_inclusion(text)
            leaf, index = placed.event.leaf, placed.position - 1
            verify_inclusion(leaf, index, size, said.proof, checkpoint.root)
        except VerificationError as error:
            raise AnswerRefused(f"the event's place is not proven: {error.message}") from error
        origin = checkpoint.origin
        self._client.heads.keep_entry(origin, placed.position, leaf, placed.event.entry)


def _verified(said: _Events, order_id: str, book: LogBook) -> Story:
    """Return the events of an order, or raise `VerificationError`."""
    checkpoint = book.checkpoint(said.checkpoint)
    placed: list[Placed] = []
    prev = ZERO_LEAF
    for seq, each in enumerate(said.events, start=1):
        # (1): signed for this log, by a wallet that may sign there.
        verified = verify_entry(each.entry.encode(), log=book.origin)
        event = verified.signed
        book.require_signer(event.signer, each.position)
        # (2): the order's next event, chained to the one before, further on in the log.
        if (event.stream, event.seq, verified.envelope.prev) != (order_stream(order_id), seq, prev):
            raise VerificationError("the events are no chain")
        if not (placed[-1].position if placed else 0) < each.position <= checkpoint.size:
            raise VerificationError("the events are out of order")
        placed.append(Placed(each.position, event))
        prev = event.leaf.hex()
    if not placed:
        raise VerificationError("the order has no event")
    # (3): the provider signed that nothing comes after the last one.
    verify_order_head(said.order_head, book, placed[-1].event, checkpoint)
    return Story(tuple(placed), checkpoint)


def _bytes_of(said: _Download) -> bytes:
    if said.content_encoding is None:
        return said.content.encode()
    try:
        return b64decode(said.content, validate=True)
    except ValueError as error:
        raise WrongContent("the content is said to be base64 and is not") from error
