"""What the client refuses of a provider that signs whatever it likes, and what its store keeps."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from api.client.blocks import Proven, prove
from api.client.delivery import _Events, _verified
from api.client.errors import AnswerRefused, Interleaved, QuoteRefused
from api.client.heads import Heads
from api.client.logkeys import LogBook, Trust, read_log_book
from api.client.payer import SignedTransfer
from api.client.purchases import Purchase, Purchases
from api.client.quote import Quote, checked_quote
from api.client.store import Store
from api.config import USDC
from ledger.canonical import canonical
from ledger.checkpoint import Checkpoint, LogKey
from ledger.entry import Draft, Seal, SignedEvent, seal
from ledger.errors import VerificationError
from ledger.event import ClientText, Event, TreeHead
from ledger.log_events import KeyAdded, KeyRevoked, LogOpened
from ledger.merkle import EMPTY_ROOT, inclusion_proof
from ledger.order_events import OrderQuoted, ProcessingStarted
from ledger.signing import ORDER_HEAD_PREFIX, Signer
from ledger.tiles import Tree
from ledger.values import LOG_STREAM, ZERO_LEAF, iso_of_seconds, usdc_number
from tests.unit import builders as b

ORIGIN = "ledger.example/client"
WALLET = Signer(b"\x01" * 32)
OTHER = Signer(b"\x02" * 32)
LOG_KEY = LogKey(ORIGIN, b"\x03" * 32)
POLICY = "refund policy"
TERMS = b.terms().model_copy(update={"token": USDC["base-sepolia"]})


class _Nodes:
    def __init__(self, leaves: list[bytes]) -> None:
        self._leaves = leaves

    def node(self, level: int, index: int) -> bytes:
        width = 1 << level
        return Tree().append(self._leaves[index * width : (index + 1) * width]).root


class Log:
    """A log whose provider signs any event, with any of its wallets, in any stream."""

    def __init__(self, **genesis: Any) -> None:  # noqa: ANN401 - fields of the genesis
        self.events: list[SignedEvent] = []
        opened: dict[str, Any] = {
            "origin": ORIGIN,
            "network": "base-sepolia",
            "log_key": LOG_KEY.vkey,
            "wallet": WALLET.address,
            "payment_address": f"{b.CHAIN}:{b.PAYMENT_ADDRESS}",
            "recovery": b.Key("recovery").address,
            "dev_chain": True,
        }
        self.add(LogOpened(**{**opened, **genesis}), LOG_STREAM)

    def add(
        self,
        event: Event,
        stream: str = b.STREAM,
        signer: Signer = WALLET,
        **place: Any,  # noqa: ANN401 - parts of the seal
    ) -> SignedEvent:
        of_stream = [e for e in self.events if e.stream == stream]
        last = of_stream[-1] if of_stream else None
        values: dict[str, Any] = {
            "log": ORIGIN,
            "stream": stream,
            "seq": last.seq + 1 if last else 1,
            "prev": last.leaf.hex() if last else ZERO_LEAF,
            "at": b.QUOTED_AT,
            "base": TreeHead(size=0, root=EMPTY_ROOT.hex()),
        }
        signed = seal(Draft(event), Seal(**{**values, **place}), signer)
        self.events.append(signed)
        return signed

    @property
    def leaves(self) -> list[bytes]:
        return [event.leaf for event in self.events]

    @property
    def note(self) -> str:
        return LOG_KEY.sign_checkpoint(ORIGIN, len(self.events), Tree().append(self.leaves).root)

    def keys(self) -> dict[str, Any]:
        placed = enumerate(self.events, start=1)
        events = [
            {"position": position, "entry": event.entry.decode()}
            for position, event in placed
            if event.stream == LOG_STREAM
        ]
        return {"origin": ORIGIN, "events": events}

    def book(self, trust: Trust = Trust()) -> LogBook:  # noqa: B008 - it is frozen
        return read_log_book(self.keys(), trust)

    def order_head(self, event: SignedEvent, signer: Signer = WALLET) -> dict[str, str]:
        said = {
            "log": ORIGIN,
            "stream": event.stream,
            "seq": event.seq,
            "leaf": event.leaf.hex(),
            "size": len(self.events),
        }
        text = ORDER_HEAD_PREFIX + canonical(said)
        return {"text": text.decode(), "signer": signer.address, "signature": signer.sign(text)}

    def block(self, event: SignedEvent, signer: Signer = WALLET) -> dict[str, Any]:
        index = self.events.index(event)
        proof = inclusion_proof(index, len(self.events), _Nodes(self.leaves))
        return {
            "position": index + 1,
            "leaf": event.leaf.hex(),
            "entry": event.entry.decode(),
            "checkpoint": self.note,
            "proof": [b64encode(sibling).decode() for sibling in proof],
            "order_head": self.order_head(event, signer),
        }


def proven(log: Log, event: SignedEvent) -> Proven:
    return prove(log.block(event), log.book())


def added(signer: Signer, possession: ClientText | None = None) -> KeyAdded:
    return KeyAdded(purpose="wallet", key=signer.address, possession=possession)


def revoked(signer: Signer, last: int) -> KeyRevoked:
    return KeyRevoked(purpose="wallet", key=signer.address, last_position=last)


def test_an_event_of_a_known_wallet_in_the_tree_is_proven() -> None:
    log = Log()
    quoted = log.add(TERMS)
    log.add(ProcessingStarted(reason="worker"))

    found = prove(log.block(quoted), log.book())

    assert (found.position, found.event.leaf) == (2, quoted.leaf)


def test_an_event_of_an_unknown_wallet_is_not_proven() -> None:
    log = Log()
    quoted = log.add(TERMS, signer=OTHER)

    with pytest.raises(VerificationError, match="may not sign"):
        prove(log.block(quoted), log.book())


def test_an_order_head_of_an_unknown_wallet_proves_nothing() -> None:
    log = Log()
    quoted = log.add(TERMS)

    with pytest.raises(VerificationError, match="may not sign"):
        prove(log.block(quoted, signer=OTHER), log.book())


def test_an_order_head_of_another_event_proves_nothing() -> None:
    log = Log()
    quoted = log.add(TERMS)
    started = log.add(ProcessingStarted(reason="worker"))
    block = {**log.block(quoted), "order_head": log.order_head(started)}

    with pytest.raises(VerificationError, match="of another event"):
        prove(block, log.book())


def test_an_event_at_another_place_is_not_proven() -> None:
    log = Log()
    quoted = log.add(TERMS)
    started = log.add(ProcessingStarted(reason="worker"))
    block = {**log.block(quoted), "proof": log.block(started)["proof"]}

    with pytest.raises(VerificationError, match="proof"):
        prove(block, log.book())


def test_a_rotated_wallet_speaks_from_its_event_on_and_a_revoked_one_no_more() -> None:
    log = Log()
    early = log.add(TERMS, signer=OTHER)
    log.add(added(OTHER), LOG_STREAM)
    late = log.add(TERMS, b.OTHER_STREAM, signer=OTHER)
    log.add(revoked(WALLET, 4), LOG_STREAM, signer=OTHER)
    after = log.add(ProcessingStarted(reason="worker"), b.OTHER_STREAM)

    assert prove(log.block(late, OTHER), log.book()).position == 4
    for event in (early, after):
        with pytest.raises(VerificationError, match="may not sign"):
            prove(log.block(event, OTHER), log.book())


def test_keys_that_a_stranger_added_are_refused() -> None:
    log = Log()
    log.add(added(OTHER), LOG_STREAM, signer=OTHER)

    with pytest.raises(AnswerRefused, match="may not sign"):
        log.book()


def test_keys_that_somebody_signed_in_anothers_name_are_refused() -> None:
    log = Log()
    log.add(added(OTHER), LOG_STREAM, signer=OTHER)
    keys = log.keys()
    entry = keys["events"][1]["entry"]
    keys["events"][1]["entry"] = entry.replace(
        f'"by":"{OTHER.address}"', f'"by":"{WALLET.address}"'
    )

    with pytest.raises(AnswerRefused, match="the signature is"):
        read_log_book(keys)


def test_a_wallet_that_did_not_prove_itself_is_refused() -> None:
    log = Log()
    log.add(added(OTHER, b.STRANGER.text("Add key")), LOG_STREAM)

    with pytest.raises(AnswerRefused, match="signed by"):
        log.book()


def test_keys_out_of_order_without_genesis_or_of_another_stream_are_refused() -> None:
    log = Log()
    log.add(added(OTHER), LOG_STREAM)
    swapped, headless, empty = log.keys(), log.keys(), log.keys()
    swapped["events"][1]["position"] = 1
    headless["events"].pop(0)
    empty["events"] = []
    forged = log.keys()
    forged["events"][1]["entry"] = forged["events"][1]["entry"].replace("wallet", "log")
    elsewhere = Log()
    elsewhere.add(added(OTHER), b.STREAM)
    foreign = elsewhere.keys()
    foreign["events"].append({"position": 2, "entry": elsewhere.events[1].entry.decode()})

    for keys in (swapped, headless, empty, forged, foreign, {"origin": ORIGIN}):
        with pytest.raises(AnswerRefused):
            read_log_book(keys)


def test_keys_that_are_known_from_elsewhere_have_to_be_those_of_the_genesis() -> None:
    assert Log().book(Trust(LOG_KEY.vkey, WALLET.address)).genesis.origin == ORIGIN
    for trust in (Trust(wallet=OTHER.address), Trust(LogKey(ORIGIN, b"\x09" * 32).vkey)):
        with pytest.raises(AnswerRefused, match="genesis names"):
            Log().book(trust)


def test_a_book_continues_only_what_it_begins_with() -> None:
    log = Log()
    short = log.book()
    log.add(added(OTHER), LOG_STREAM)

    assert log.book().continues(short)
    assert not short.continues(log.book())
    assert not Log(dev_chain=False).book().continues(short)


def asked(**changes: Any) -> Purchase:  # noqa: ANN401 - fields of a purchase
    request: dict[str, object] = {"service_request": {"type": TERMS.service}}
    values: dict[str, Any] = {
        "reference": "one",
        "url": "http://shop",
        "request": request,
        "key": "k",
        "budget_micros": TERMS.price,
    }
    return Purchase(**{**values, **changes})


def answer(terms: OrderQuoted) -> dict[str, Any]:
    return {
        "order_id": b.ORDER_ID,
        "quote": {
            "price_usdc": usdc_number(terms.price),
            "estimated_delivery": iso_of_seconds(terms.deliver_by),
            "payment_address": terms.payment_address,
            "network": "base-sepolia",
            "token_contract": terms.token,
        },
        "terms": {"payment_timeout": terms.pay_by - b.NOON, "refund_policy": POLICY},
    }


def quoted(terms: OrderQuoted, purchase: Purchase | None = None, now: int = b.NOW) -> Quote:
    """Return the quote of a provider that signs these terms and says the same."""
    log = Log()
    found = proven(log, log.add(terms))
    at = type(b.NOW)(now)
    return checked_quote(
        answer(terms), found, purchase or asked(), b.CLIENT.address, log.book(), at
    )


def test_a_quote_is_made_of_the_signed_terms() -> None:
    quote = quoted(TERMS)

    assert quote.price_micros == TERMS.price
    assert quote.transfer.recipient == b.PAYMENT_ADDRESS
    assert (quote.pay_by, quote.arbiter) == (TERMS.pay_by, b.ARBITER.address)
    assert quote.refund_policy == sha256(POLICY.encode()).hexdigest()


SIGNED_LIES: dict[str, tuple[dict[str, Any], str]] = {
    "a token of its own": ({"token": "0x" + "70" * 20}, "not USDC"),
    "another recipient": ({"payment_address": "0x" + "66" * 20}, "recipient"),
    "another client": ({"client": f"{b.CHAIN}:0x" + "55" * 20}, "client"),
    "another service": ({"service": "something_else"}, "service"),
    "more than the budget": ({"price": TERMS.price + 1}, "budget"),
    "another chain": ({"chain": "eip155:1", "client": "eip155:1:0x" + "55" * 20}, "no network"),
}


@pytest.mark.parametrize("lie", SIGNED_LIES)
def test_signed_terms_that_nobody_asked_for_are_refused(lie: str) -> None:
    changes, complaint = SIGNED_LIES[lie]

    with pytest.raises(QuoteRefused, match=complaint):
        quoted(TERMS.model_copy(update=changes))


def test_a_quote_that_is_over_or_has_another_arbiter_is_refused() -> None:
    with pytest.raises(QuoteRefused, match="over"):
        quoted(TERMS, now=TERMS.pay_by * 1000)
    with pytest.raises(QuoteRefused, match="arbiter"):
        quoted(TERMS, asked(arbiter="0x" + "44" * 20))
    assert quoted(TERMS, asked(arbiter=b.ARBITER.address)).arbiter == b.ARBITER.address


def test_an_event_that_is_no_quote_or_does_not_open_the_order_is_refused() -> None:
    log = Log()
    started = proven(log, log.add(ProcessingStarted(reason="worker")))
    second = proven(log, log.add(TERMS))

    for event, complaint in ((started, "not a quote"), (second, "order")):
        with pytest.raises(QuoteRefused, match=complaint):
            checked_quote(answer(TERMS), event, asked(), b.CLIENT.address, log.book(), b.NOW)


def story(log: Log, events: list[SignedEvent], **changes: Any) -> _Events:  # noqa: ANN401
    placed = [
        {"position": log.events.index(event) + 1, "entry": event.entry.decode()} for event in events
    ]
    body = {
        "events": placed,
        "order_head": log.order_head(events[-1]) if events else {},
        "checkpoint": log.note,
    }
    return _Events.model_validate({**body, **changes})


def test_the_story_of_an_order_is_a_chain_that_ends_where_the_provider_signed() -> None:
    log = Log()
    first, second = log.add(TERMS), log.add(ProcessingStarted(reason="worker"))

    found = _verified(story(log, [first, second]), b.ORDER_ID, log.book())

    assert [placed.position for placed in found.events] == [2, 3]


def broken_stories() -> dict[str, tuple[Log, _Events]]:
    log = Log()
    first, second = log.add(TERMS), log.add(ProcessingStarted(reason="worker"))
    other = log.add(TERMS, b.OTHER_STREAM)
    forger = Log()
    theirs = [forger.add(TERMS), forger.add(ProcessingStarted(reason="worker"), signer=OTHER)]
    torn = Log()
    loose = [torn.add(TERMS), torn.add(ProcessingStarted(reason="worker"), prev="11" * 32)]
    late = story(log, [first, second])
    late.events[1] = late.events[1].model_copy(update={"position": 99})
    swapped = story(log, [first, second])
    swapped.events[1] = swapped.events[1].model_copy(update={"position": 1})
    return {
        "the first is missing": (log, story(log, [second])),
        "the last is missing": (log, story(log, [first], order_head=log.order_head(second))),
        "another order's": (log, story(log, [other])),
        "nothing": (log, story(log, [])),
        "beyond the checkpoint": (log, late),
        "out of order": (log, swapped),
        "a stranger's": (forger, story(forger, theirs)),
        "not chained": (torn, story(torn, loose)),
    }


@pytest.mark.parametrize("what", broken_stories())
def test_a_story_with_a_fault_is_refused(what: str) -> None:
    log, said = broken_stories()[what]

    with pytest.raises(VerificationError):
        _verified(said, b.ORDER_ID, log.book())


def test_of_two_who_carry_on_a_purchase_one_is_refused(tmp_path: Path) -> None:
    signed = SignedTransfer("0x" + "55" * 20, 1, "0x" + "11" * 32, "0x02")
    with Store(tmp_path / "s.db") as here, Store(tmp_path / "s.db") as there:
        first = Purchases(here).begin(asked())
        second = Purchases(there).begin(asked(key="another"))
        assert first == second
        kept = Purchases(here).put(replace(first, payment=signed, state="signed"))
        with pytest.raises(Interleaved):
            Purchases(there).put(replace(second, state="signed"))
        assert Purchases(there).find("one") == kept
        assert kept.payment == signed


def test_a_head_moves_only_from_the_one_that_was_looked_at(tmp_path: Path) -> None:
    def checkpoint(size: int) -> Checkpoint:
        return Checkpoint(ORIGIN, size, bytes([size]) * 32)

    with Store(tmp_path / "s.db") as store:
        heads = Heads(store)
        heads.meet("http://a", checkpoint(1), "note 1", "{}")
        heads.meet("http://b", checkpoint(9), "note 9", "{}")
        first = heads.head(ORIGIN)
        moved = heads.advance(first, checkpoint(3), "note 3")
        again = heads.advance(first, checkpoint(2), "note 2")
        newest = heads.head(ORIGIN)
        heads.keep_entry(ORIGIN, 1, b"\x01" * 32, b"an entry")
        with pytest.raises(AnswerRefused, match="another entry"):
            heads.keep_entry(ORIGIN, 1, b"\x02" * 32, b"other words")

    assert first.size == 1
    assert (moved, again) == (True, False)
    assert (newest.size, newest.note) == (3, "note 3")
