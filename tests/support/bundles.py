"""Evidence bundles of orders that were told, and a provider who forges them with its own keys."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Final

from ledger import commands as c
from ledger.checkpoint import LogKey
from ledger.content import digests_of, plain
from ledger.evidence import Wanted, assemble
from ledger.evidence_verify.bags import (
    MANIFEST,
    SIGNATURE_FILE,
    TAG_MANIFEST,
    Files,
    build_zip,
    read_zip,
    seal_text,
    signed_doc,
    with_manifests,
)
from ledger.evidence_verify.checks import Checks, Outcome
from ledger.evidence_verify.keys import Roots
from ledger.signing import Signer
from ledger.values import iso_of, new_content_id, order_stream
from tests.support.ledger_files import (
    CLIENT,
    LOG_SEED,
    ORIGIN,
    PRICE,
    WALLET_SECRET,
    LedgerFiles,
    Story,
    Teller,
    opening,
)

POLICY: Final = "policy"
PROVIDER: Final = Signer(WALLET_SECRET)
LOG_KEY: Final = LogKey(ORIGIN, LOG_SEED)
HOSTILE_WORD: Final = '../../etc/<script>alert("x")</script>'


async def confirmed(teller: Teller) -> Story:
    story = await teller.quote()
    await story.pay(endpoint=True)
    await story.hand_in()
    await story.push("refused")
    await story.push("accepted")
    await story.confirm(with_head=True)
    return story


async def disputed(teller: Teller) -> Story:
    story = await teller.quote()
    await story.pay()
    await story.hand_in("übergeben\n".encode())
    await story.collect()
    await story.dispute()
    return story


async def ruled(teller: Teller) -> Story:
    story = await disputed(teller)
    await story.answer()
    await story.rule(PRICE // 2)
    await story.give_back("b", PRICE // 2)
    return story


async def refunded(teller: Teller) -> Story:
    story = await disputed(teller)
    await story.give_back("b")
    return story


async def erased(teller: Teller) -> Story:
    story = await confirmed(teller)
    await story.erase()
    return story


async def hostile(teller: Teller) -> Story:
    """Hand in a megabyte that is no text, with words that look like paths and markup."""
    story = await teller.quote()
    await story.pay()
    raw = bytes(range(256)) * 4096
    digests = digests_of(raw, HOSTILE_WORD, story.terms.service)
    item = c.Deliverable(
        content_id=new_content_id(),
        raw=digests.raw,
        json_digest=digests.json_digest,
        legacy_digest=digests.legacy_digest,
        object_digest=digests.object_digest,
        size_bytes=len(raw),
        format=HOSTILE_WORD,
        content_type=HOSTILE_WORD,
    )
    row = plain(order_stream(story.order_id), item.content_id, raw)
    await story.do(c.HandIn(item, teller.tick()), row)
    return story


async def forked(teller: Teller) -> Story:
    """Let the client have signed a head of a history that this log does not have."""
    story = await teller.quote()
    await story.pay()
    await story.hand_in()
    now, named = teller.tick(), sha256(story.raw).hexdigest()
    head = teller.ledger.head.tree_head.model_copy(update={"root": "ab" * 32})
    text = (
        f"Order: {story.order_id} | Received: true | Hash: {named}"
        f" | Head: {head.size}:{head.root} | Timestamp: {iso_of(now)}"
    )
    await story.do(c.ConfirmDelivery(CLIENT.sign(text), now, named, None, head, None, now))
    return story


STORIES: Final[tuple[Callable[[Teller], Awaitable[Story]], ...]] = (
    confirmed,
    disputed,
    ruled,
    refunded,
    erased,
    hostile,
    forked,
)


@dataclass(slots=True)
class Told:
    """A ledger on disk with one order of each story, by the story's name."""

    files: LedgerFiles
    orders: dict[str, str] = field(default_factory=dict)
    size: int = 0
    note: str = ""

    def bundle(self, name: str, *redact: str) -> bytes:
        """Return the bundle of a story's order."""
        ledger = self.files.open()
        try:
            wanted = Wanted(self.orders[name], self.size, self.note, frozenset(redact), (POLICY,))
            return assemble(ledger.store, ledger.signer, wanted).data
        finally:
            ledger.close()


def tell(folder: Path) -> Told:
    """Write a ledger that holds every story."""
    told = Told(LedgerFiles(folder))
    ledger = told.files.open()
    ledger.start()
    try:
        teller = Teller(ledger)
        asyncio.run(_tell(told, teller))
        told.size, told.note = ledger.head.size, ledger.head.note
    finally:
        ledger.close()
    return told


async def _tell(told: Told, teller: Teller) -> None:
    await opening(teller)
    for story in STORIES:
        told.orders[story.__name__] = (await story(teller)).order_id


def roots(**changes: object) -> Roots:
    """Return what a reader knows who was told the right keys."""
    found = Roots()
    found.origin, found.log_keys, found.wallets = ORIGIN, [LOG_KEY.vkey], [PROVIDER.address]
    for name, value in changes.items():
        setattr(found, name, value)
    return found


def outcomes(data: bytes, trusted: Roots | None = None) -> list[Outcome]:
    """Return how the checks end."""
    checks = Checks(data, trusted or roots())
    checks.run()
    return checks.outcomes


def failed(data: bytes, trusted: Roots | None = None) -> list[str]:
    """Return the ids of the checks that fail."""
    return [outcome.name for outcome in outcomes(data, trusted) if not outcome.holds]


def opened(data: bytes) -> tuple[str, Files]:
    return read_zip(data)


def repacked(base: str, files: Files) -> bytes:
    """Put files back into a zip: what anybody can do."""
    return build_zip(base, files)


def resealed(base: str, files: Files, signer: Signer = PROVIDER) -> bytes:
    """Make the lists again and sign them: what only the provider can do."""
    kept = (MANIFEST, TAG_MANIFEST, SIGNATURE_FILE)
    fresh = with_manifests({name: data for name, data in files.items() if name not in kept})
    order_id, _, size = base.removeprefix("evidence-").rpartition("-")
    text = seal_text(ORIGIN, f"order/{order_id}", int(size), fresh[TAG_MANIFEST])
    signed = signed_doc(text, signer.address, signer.sign(text))
    return build_zip(base, {**fresh, SIGNATURE_FILE: signed})


def flipped(data: bytes, at: int, random: Random) -> bytes:
    """Return the bytes with another one at a place."""
    return data[:at] + bytes([data[at] ^ random.randint(1, 255)]) + data[at + 1 :]
