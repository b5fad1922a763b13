"""Requests whose answers have to prove themselves before anything in them is believed.

Every request names the newest head that this client keeps. Every answer has to continue it; an
answer to a write also carries its event, signed and in the tree. A log whose key signed two
histories is refused from then on, and both signed heads are kept.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, TypeVar

from api.client.blocks import LEDGER_HEAD, Proven, consistency_of, head_of, prove
from api.client.errors import AnswerRefused, ForkedLog, LogBehind, ServiceError
from api.client.heads import Head, Heads
from api.client.http import Answer, HttpClient
from api.client.logkeys import ANYBODY, LogBook, read_log_book
from api.client.times import Clock, system_clock
from ledger.audit_keys import Trust
from ledger.checkpoint import Checkpoint
from ledger.errors import VerificationError
from ledger.merkle import verify_consistency
from ledger.proof_text import parse_consistency

T = TypeVar("T")
Send = Callable[[Mapping[str, str]], Awaitable[Answer]]
"""Sends a request with these headers beside its own."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer that was checked; `proven` is there if it carries an event."""

    answer: Answer
    proven: Proven | None

    @property
    def body(self) -> dict[str, object]:
        return self.answer.json()

    def event(self) -> Proven:
        """Return the event that the answer proves; an answer without one is refused."""
        if self.proven is None:
            raise AnswerRefused("the answer carries no proof of what it says")
        return self.proven


class ProvenClient:
    """One service whose log is known: trusted at first sight, or by keys from elsewhere."""

    def __init__(
        self, http: HttpClient, heads: Heads, *, trust: Trust = ANYBODY, clock: Clock = system_clock
    ) -> None:
        self.http: Final = http
        self.heads: Final = heads
        self.clock: Final = clock
        self._trust = trust
        self._book: LogBook | None = None

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Checked:
        """Ask a question; the answer has to be of a history that continues ours."""
        mine = headers or {}
        return await self._call(lambda head: self.http.get(path, {**mine, **head}))

    async def post(
        self,
        path: str,
        body: Mapping[str, object] | bytes,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        repeatable: bool = False,
    ) -> Checked:
        """Act; where the answer carries an event, that is proven."""

        def send(head: Mapping[str, str]) -> Awaitable[Answer]:
            sent = {**(headers or {}), **head}
            return self.http.post(path, body, headers=sent, key=key, repeatable=repeatable)

        return await self._call(send)

    async def book(self) -> LogBook:
        """Return the log of this service and its keys; ask for them if it was not met before."""
        if self._book is None:
            origin = self.heads.origin_of(self.http.base_url)
            kept = self.heads.keys(origin) if origin is not None else None
            self._book = (
                read_log_book(json.loads(kept), self._trust) if kept else await self._meet()
            )
        fork = self.heads.fork(self._book.origin)
        if fork is not None:
            raise fork
        return self._book

    async def _meet(self) -> LogBook:
        """Learn which log this is. What is kept of it from elsewhere has to fit."""
        book = await self._ask_for_keys()
        known = self.heads.keys(book.origin)
        if known is not None and not book.continues(read_log_book(json.loads(known))):
            raise AnswerRefused(f"another log named {book.origin} is known here, with other keys")
        fork = self.heads.fork(book.origin)
        if fork is not None:
            raise fork
        note = (await self.http.get("/ledger/checkpoint")).text
        checkpoint = self._verified(note, book)
        self.heads.meet(self.http.base_url, checkpoint, note, book.to_json())
        self._book = book
        await self._reconcile(checkpoint, note, None)
        return book

    async def _ask_for_keys(self) -> LogBook:
        return read_log_book((await self.http.get("/ledger/keys")).json(), self._trust)

    async def _call(self, send: Send) -> Checked:
        book = await self.book()
        held = self.heads.head(book.origin)
        try:
            answer = await send({LEDGER_HEAD: held.header})
        except ServiceError as error:
            await self._judge(error, held)
            raise
        return Checked(answer, await self._check(answer, held))

    async def _check(self, answer: Answer, held: Head) -> Proven | None:
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        body = answer.json() if is_json else {}
        if body.get("ledger") is not None:
            return await self._prove(body["ledger"], answer.headers, held)
        note = body.get("checkpoint")
        if isinstance(note, str):
            # Looked at before the header, which is not signed: here a fork would be evidence.
            checkpoint = await self.verified(lambda book: book.checkpoint(note))
            await self._reconcile(checkpoint, note, _hint(answer.headers, held))
        else:
            await self._check_header(answer.headers, held)
        return None

    async def _prove(self, block: object, headers: Mapping[str, str], held: Head) -> Proven:
        proven = await self.verified(lambda book: prove(block, book))
        await self._reconcile(proven.checkpoint, proven.note, _hint(headers, held))
        book = await self.book()
        self.heads.keep_entry(book.origin, proven.position, proven.event.leaf, proven.event.entry)
        return proven

    async def verified(self, check: Callable[[LogBook], T]) -> T:
        """Verify with the known keys; if that fails, with what the log says of its keys now."""
        book = await self.book()
        try:
            return check(book)
        except VerificationError:
            newer = await self._ask_for_keys()
            if newer.events == book.events:
                newer = book
            if newer.origin != book.origin or not newer.continues(book):
                raise AnswerRefused("the keys of the log do not carry on the known ones") from None
            try:
                found = check(newer)
            except VerificationError as error:
                raise AnswerRefused(f"the answer does not verify: {error.message}") from error
        self.heads.keep_keys(newer.origin, newer.to_json())
        self._book = newer
        return found

    async def _check_header(self, headers: Mapping[str, str], held: Head) -> None:
        """Check the head of an answer without an event. It is not signed, so it is not kept."""
        shown = head_of(headers)
        if shown is None:
            # Left out, by the service or by a proxy that passes on known headers only.
            await self.refresh()
            return
        if _continues((held.size, held.root), shown, consistency_of(headers, held.size)):
            return
        await self.refresh()
        raise AnswerRefused("the answer's head does not continue ours, and nobody signed it")

    async def refresh(self) -> None:
        """Take the newest signed head; if it does not continue ours, the log was forked."""
        book = await self.book()
        note = (await self.http.get("/ledger/checkpoint")).text
        await self._reconcile(self._verified(note, book), note, None)

    def _verified(self, note: str, book: LogBook) -> Checkpoint:
        try:
            return book.checkpoint(note)
        except VerificationError as error:
            raise AnswerRefused(f"the log's key did not sign this: {error.message}") from error

    async def _reconcile(
        self, new: Checkpoint, note: str, hint: tuple[Head, Sequence[bytes]] | None
    ) -> None:
        """Keep a signed head, proven to be of one history with the kept one, or raise the fork.

        Answers may come in another order than their requests left, so a smaller head is proven
        as well, and the larger one stays.
        """
        while True:
            kept = self.heads.head(new.origin)
            if kept.size == new.size:
                if kept.root != new.root:
                    self._forked(kept.note, note, "two roots of one size")
                return
            here, there = (kept.size, kept.root), (new.size, new.root)
            old, young = min(here, there), max(here, there)
            known = hint[1] if hint and (hint[0].size, young) == (old[0], there) else None
            if not _continues(old, young, known):
                await self._require_proof(old, young, (kept.note, note))
            if kept.size > new.size or self.heads.advance(kept, new, note):
                return

    async def _require_proof(
        self, old: tuple[int, bytes], young: tuple[int, bytes], notes: tuple[str, str]
    ) -> None:
        """Ask for the proof between two heads that were both signed."""
        path = f"/ledger/proof/consistency?from={old[0]}&to={young[0]}"
        try:
            text = (await self.http.get(path)).text
        except ServiceError as error:
            if error.code == "AHEAD":
                raise LogBehind("the service's log ends before a head that it signed") from error
            raise
        try:
            proof, _ = parse_consistency(text)
            verify_consistency(*old, *young, proof)
        except VerificationError:
            self._forked(*notes, "no proof leads from the one head to the other")

    async def _judge(self, error: ServiceError, held: Head) -> None:
        """Look at what a refusal proves: a fork, a log that lost its end, or a recorded event."""
        if error.code == "AHEAD":
            raise LogBehind("the service's log ends before a head that it signed") from error
        if error.code == "FORK":
            note = error.details.get("checkpoint_at_held_size")
            shown = self._verified(note if isinstance(note, str) else "", await self.book())
            kept = self.heads.head(shown.origin)
            for mine in (held, kept):
                if mine.size == shown.size and mine.root != shown.root:
                    self._forked(mine.note, str(note), "two roots of one size")
            raise AnswerRefused("the service speaks of a fork and shows none") from error
        if "ledger" in error.body:
            await self._prove(error.body["ledger"], error.headers, held)

    def _forked(self, held: str, shown: str, reason: str) -> NoReturn:
        """Keep both signed heads for good, and stop."""
        origin = held.partition("\n")[0]
        fork = ForkedLog(origin, held, shown, reason)
        raise self.heads.record_fork(fork, self.clock())


def _hint(headers: Mapping[str, str], held: Head) -> tuple[Head, Sequence[bytes]] | None:
    """Return the proof that came with an answer, and the head that it begins with."""
    proof = consistency_of(headers, held.size)
    return None if proof is None else (held, proof)


def _continues(
    old: tuple[int, bytes], young: tuple[int, bytes], proof: Sequence[bytes] | None
) -> bool:
    if proof is None and old[0] != young[0]:
        return False
    try:
        verify_consistency(*old, *young, proof or ())
    except VerificationError:
        return False
    return True
