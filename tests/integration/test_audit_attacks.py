"""Each attack trips its check, and no other: the attacker holds the provider's keys and the files.

Every attack is an honest ledger carried on with the real keys; rows, tiles, frontier, claims and
guard fit together, so that only the check itself can tell.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256

import pytest

from ledger.audit import audit_snapshot
from ledger.audit_keys import Trust
from ledger.audit_report import Report
from ledger.batch import claims_of
from ledger.canonical import canonical
from ledger.checkpoint import LogKey
from ledger.content import commitment, plain, salted
from ledger.entry import Draft, Seal, SignedEvent, read_entry, seal
from ledger.event import ClientText, Event, Transfer, TransferKey, TreeHead
from ledger.log_events import ChainBound, KeyAdded, KeyRevoked, LogClosed, PolicySet
from ledger.merkle import leaf_hash
from ledger.order_events import (
    AcceptanceLapsed,
    AnswerLapsed,
    ContentErased,
    DeliverableCollected,
    DeliverablePosted,
    DeliverableReady,
    DeliveryConfirmed,
    DeliveryDisputed,
    DeliveryFailed,
    DisputeRuled,
    DisputeWithdrawn,
    OrderQuoted,
    OrderRefunded,
    ProcessingStarted,
    PushAttempted,
    QuoteExpired,
)
from ledger.payment_events import (
    PaymentClaimed,
    PaymentFinalized,
    PaymentLate,
    PaymentOrphaned,
    PaymentOverpaid,
    PaymentPartial,
    PaymentRestored,
    PaymentVerified,
    RefundRecorded,
)
from ledger.signing import EVENT_PREFIX, Signer
from ledger.store_sqlite import ContentRow
from ledger.tiles import Tree
from ledger.values import (
    LOG_STREAM,
    ZERO_LEAF,
    UnixMs,
    iso_of,
    new_order_id,
    order_stream,
    stream_key,
)
from tests.support import ledger_files as lf

WALLET = Signer(lf.WALLET_SECRET)
OTHER = lf.Wallet("other")
OTHER_WALLET = Signer(OTHER.secret)
NEVER = UnixMs(0)
NOON = "2026-01-01T12:00:00Z"
POLICY = PolicySet(name="refund", digest="ab" * 32)
STRANGER = lf.Wallet("stranger")
RECOVERY = lf.Wallet("recovery")
RAW = b"the deliverable"
RAW_DIGEST = sha256(RAW).hexdigest()
JSON_DIGEST = sha256(b'"the deliverable"').hexdigest()


@dataclass
class Forge:
    """Carries a ledger on with the provider's own keys, rules or no rules."""

    db: sqlite3.Connection
    now: UnixMs = NEVER
    leaves: list[bytes] = field(default_factory=list)
    heads: dict[str, tuple[int, str]] = field(default_factory=dict)
    claiming: bool = True

    def __post_init__(self) -> None:
        for (entry,) in self.db.execute("SELECT state FROM stored_events ORDER BY rowid"):
            signed = read_entry(entry)
            self.leaves.append(signed.leaf)
            self.heads[signed.stream] = (signed.seq, signed.leaf.hex())
            self.now = signed.at

    def head(self) -> TreeHead:
        return TreeHead(size=len(self.leaves), root=Tree().append(self.leaves).root.hex())

    def add(
        self,
        stream: str,
        event: Event,
        commit: dict[str, str] | None = None,
        *,
        signer: Signer = WALLET,
        edit: Callable[[Seal], Seal] = lambda place: place,
    ) -> SignedEvent:
        """Append an event; `edit` changes its honest place."""
        self.now = UnixMs(self.now + 1000)
        seq, leaf = self.heads.get(stream, (0, ZERO_LEAF))
        place = edit(Seal(lf.ORIGIN, stream, seq + 1, leaf, self.now, self.head()))
        signed = seal(Draft(event, commit or {}), place, signer)
        self.put(signed, signed.entry)
        return signed

    def put(self, signed: SignedEvent, entry: bytes) -> None:
        """Append bytes as the entry of an event, with the rows that belong to it."""
        self.leaves.append(leaf_hash(entry))
        self.heads[signed.stream] = (signed.seq, leaf_hash(entry).hex())
        row = (len(self.leaves), stream_key(signed.stream), signed.seq, signed.event.kind, entry)
        self.db.execute(
            "INSERT INTO stored_events"
            " (rowid, originator_id, originator_version, topic, state) VALUES (?,?,?,?,?)",
            row,
        )
        for key in claims_of(signed.event) if self.claiming else ():
            values = (*key, signed.stream, len(self.leaves))
            self.db.execute("INSERT OR IGNORE INTO claims VALUES (?,?,?,?,?)", values)

    def content(self, row: ContentRow) -> None:
        values = (row.content_id, row.stream, row.field, row.salt, row.value)
        self.db.execute("INSERT INTO content VALUES (?,?,?,?,?)", values)

    def guard(self) -> bytes:
        """Make tiles and frontier fit and return the signed head."""
        growth = Tree().append(self.leaves)
        tiles = [(tile.level, tile.index, tile.hashes) for tile in growth.tiles]
        self.db.executemany("INSERT OR REPLACE INTO tiles VALUES (?,?,?)", tiles)
        self.db.execute("UPDATE frontier SET size=?, nodes=?", (growth.size, growth.frontier))
        key = LogKey(lf.ORIGIN, lf.LOG_SEED)
        return key.sign_checkpoint(lf.ORIGIN, growth.size, growth.root).encode()

    def quoted(self, **changes: object) -> "Case":
        """Begin an order."""
        order_id = new_order_id()
        description = salted(order_stream(order_id), "description", "work to do")
        seconds = self.now // 1000
        terms = OrderQuoted(
            service="code_review",
            client=lf.CLIENT.account,
            price=lf.PRICE,
            chain=lf.CHAIN,
            token=lf.TOKEN,
            payment_address=lf.PAYMENT_ADDRESS,
            pay_by=seconds + 3600,
            deliver_by=seconds + 7200,
            acceptance_window=86_400,
            answer_window=43_200,
            refund_policy=sha256(b"policy").hexdigest(),
            arbiter=lf.ARBITER.address,
            description_id=description.content_id,
        ).model_copy(update=changes)
        case = Case(self, order_id, terms)
        case.add(terms, {"description": commitment(description)})
        self.content(description)
        return case

    def paid(self) -> "Case":
        case = self.quoted()
        return case.add(case.payment()).add(case.started())

    def ready(self) -> "Case":
        case = self.paid()
        self.content(case.deliverable())
        return case.add(case.made())

    def delivered(self) -> "Case":
        return self.ready().add(DeliverableCollected(by="bearer", content_hash=RAW_DIGEST))


@dataclass
class Case:
    """One order in the forge, and the events that would be right for it."""

    forge: Forge
    order_id: str
    terms: OrderQuoted
    content_id: str = "c0" * 16

    def add(
        self,
        event: Event,
        commit: dict[str, str] | None = None,
        *,
        edit: Callable[[Seal], Seal] = lambda place: place,
    ) -> "Case":
        self.forge.add(order_stream(self.order_id), event, commit, edit=edit)
        return self

    def story(self) -> lf.Story:
        teller = lf.Teller.__new__(lf.Teller)
        teller.blocks, teller.now = 500, self.forge.now
        return lf.Story(teller, self.order_id, self.terms)

    def transfer(self, name: str = "a", amount: int = lf.PRICE, **changes: object) -> Transfer:
        return self.story().transfer(name, amount).model_copy(update=changes)

    def payment(self, **changes: object) -> PaymentVerified:
        return PaymentVerified(
            transfers=(self.transfer(),),
            payer=lf.CLIENT.account,
            price=lf.PRICE,
            total=lf.PRICE,
            overpaid=0,
            finality="sealed",
        ).model_copy(update=changes)

    def notice(
        self, name: str = "a", *, order_id: str | None = None, by: lf.Wallet = lf.CLIENT
    ) -> ClientText:
        tx_hash, stamp = self.story().tx(name), "2026-01-01T12:00:00.000Z"
        return by.sign(
            f"Order: {order_id or self.order_id} | Payment: {tx_hash} | Timestamp: {stamp}"
        )

    def started(self, **changes: object) -> ProcessingStarted:
        return ProcessingStarted(
            reason="notice", notice=self.notice(), tx_hash=self.story().tx("a")
        ).model_copy(update=changes)

    def claimed(self, **changes: object) -> PaymentClaimed:
        return PaymentClaimed(
            tx_hash=self.story().tx("a"), notice=self.notice(), reason="not_found"
        ).model_copy(update=changes)

    def deliverable(self, raw: bytes = RAW) -> ContentRow:
        return plain(order_stream(self.order_id), self.content_id, raw)

    def made(self, **changes: object) -> DeliverableReady:
        return DeliverableReady(
            content_id=self.content_id,
            raw=RAW_DIGEST,
            json_digest=JSON_DIGEST,
            size_bytes=len(RAW),
            format="text",
            content_type="text/plain",
        ).model_copy(update=changes)

    def receipt(
        self, *, order_id: str | None = None, digest: str = RAW_DIGEST, by: lf.Wallet = lf.CLIENT
    ) -> DeliveryConfirmed:
        text = (
            f"Order: {order_id or self.order_id} | Received: true | Hash: {digest}"
            f" | Timestamp: {self.stamp}"
        )
        return DeliveryConfirmed(client=by.sign(text), binds="content", content_hash=digest)

    @property
    def stamp(self) -> str:
        """The present time, as a party writes it into a text."""
        return iso_of(self.forge.now)

    def withdrawal(self, stamp: str = "") -> DisputeWithdrawn:
        text = f"Withdraw dispute: {self.order_id} | Timestamp: {stamp or self.stamp}"
        return DisputeWithdrawn(client=lf.CLIENT.sign(text))

    def ruling(self, outcome: str, amount: int) -> DisputeRuled:
        text = (
            f"Rule dispute: {self.order_id} | Outcome: {outcome} | Amount: {amount}"
            f" | Timestamp: {self.stamp}"
        )
        return DisputeRuled(arbiter=lf.ARBITER.sign(text), outcome=outcome, amount=amount)  # type: ignore[arg-type]

    def complaint(self, stamp: str = "", **changes: object) -> DeliveryDisputed:
        text = (
            f"Dispute delivery: {self.order_id} | Reason: other | Hash: none"
            f" | Statement: none | Timestamp: {stamp or self.stamp}"
        )
        return DeliveryDisputed(client=lf.CLIENT.sign(text), reason="other").model_copy(
            update=changes
        )

    def back(self, amount: int = lf.PRICE, **changes: object) -> RefundRecorded:
        transfer = self.story().refund("back", amount).model_copy(update=changes)
        return RefundRecorded(transfers=(transfer,), amount=amount)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    """Return a whole ledger with a recovery key that these tests hold."""
    files = lf.write_ledger(
        tmp_path_factory.mktemp("honest"), events=100, recovery=RECOVERY.address
    )
    return lf.in_memory(files.database)


@pytest.fixture
def forge(honest: sqlite3.Connection) -> Iterator[Forge]:
    with lf.undone(honest):
        yield Forge(honest)


def checks_of(report: Report) -> set[str]:
    return {finding.check for finding in report.findings}


# What the rules allow, forged or not, is no finding


def an_order_to_the_end(f: Forge) -> None:
    f.delivered().add(PushAttempted(attempt=1, target="contact_endpoint", outcome="refused"))


def a_confirmed_order(f: Forge) -> None:
    case = f.delivered()
    case.add(case.receipt())


def added(
    key: str = OTHER.address, *, by: lf.Wallet = OTHER, log: str = lf.ORIGIN, text: str = ""
) -> KeyAdded:
    """Return the event that adds a wallet; `text` is what it signs instead of the right words."""
    said = text or f"Add key: {OTHER.address} | Log: {log} | Timestamp: {NOON}"
    return KeyAdded(purpose="wallet", key=key, possession=by.sign(said))


def revoked(last: int, *, key: str = WALLET.address, log: str = lf.ORIGIN) -> KeyRevoked:
    """Return the event that revokes a wallet with the recovery key's word."""
    text = f"Revoke key: {WALLET.address} | Log: {log} | Last position: {last} | Timestamp: {NOON}"
    recovery = RECOVERY.sign(text)
    return KeyRevoked(purpose="wallet", key=key, last_position=last, recovery=recovery)


def closed(*, by: lf.Wallet = RECOVERY, log: str = lf.ORIGIN, reason: str = "moved") -> LogClosed:
    text = f"Close log: {log} | Reason: moved | Timestamp: {NOON}"
    return LogClosed(reason=reason, recovery=by.sign(text))


def a_wallet_change(f: Forge) -> None:
    f.add(LOG_STREAM, added())
    last = len(f.leaves)
    by_word = KeyRevoked(purpose="wallet", key=WALLET.address, last_position=last)
    f.add(LOG_STREAM, by_word, signer=OTHER_WALLET)
    f.add(LOG_STREAM, PolicySet(name="refund", digest="ab" * 32), signer=OTHER_WALLET)


def the_end_of_the_log(f: Forge) -> None:
    f.add(LOG_STREAM, closed())


def a_stolen_wallet_revoked(f: Forge) -> None:
    f.add(LOG_STREAM, added())
    last = len(f.leaves)
    f.add(LOG_STREAM, POLICY, signer=OTHER_WALLET)
    f.add(LOG_STREAM, revoked(last), signer=OTHER_WALLET)


def two_disputes(f: Forge) -> None:
    case = f.paid().add(DeliveryFailed(reason="handler_failed", attempts=1))
    case.add(case.complaint())
    case.add(case.withdrawal())
    f.content(case.deliverable())
    case.add(case.made())
    case.add(case.complaint())
    case.add(case.withdrawal())


@pytest.mark.parametrize(
    "story",
    [
        an_order_to_the_end,
        a_confirmed_order,
        a_wallet_change,
        a_stolen_wallet_revoked,
        the_end_of_the_log,
        two_disputes,
    ],
)
def test_what_is_legal_is_no_finding(forge: Forge, story: Callable[[Forge], None]) -> None:
    story(forge)

    assert audit_snapshot(forge.db, forge.guard()).findings == []


# The bytes


def a_repeated_key(f: Forge) -> None:
    signed = f.add(LOG_STREAM, PolicySet(name="refund", digest="ab" * 32))
    replace_last(f, signed, signed.entry.replace(b'"v":1', b'"v":1,"v":1'))


def another_encoding(f: Forge) -> None:
    signed = f.add(LOG_STREAM, PolicySet(name="refund", digest="ab" * 32))
    replace_last(f, signed, signed.entry.replace(b'"v":1', b'"v": 1'))


def replace_last(f: Forge, signed: SignedEvent, entry: bytes) -> None:
    f.db.execute("DELETE FROM stored_events WHERE rowid=?", (len(f.leaves),))
    f.leaves.pop()
    f.put(signed, entry)


def an_amount_as_a_number(f: Forge) -> None:
    case = f.quoted()
    signed = f.add(order_stream(case.order_id), case.payment())
    event = json.loads(signed.entry)["event"]
    event["body"]["price"] = lf.PRICE
    sig = {
        "alg": "eip191",
        "by": WALLET.address,
        "value": WALLET.sign(EVENT_PREFIX + canonical(event)),
    }
    f.db.execute("DELETE FROM claims WHERE position=?", (len(f.leaves),))
    f.claiming = False
    replace_last(f, signed, canonical({"event": event, "sig": sig}))


def a_wallet_added_without_its_consent(f: Forge) -> None:
    f.add(LOG_STREAM, added(by=STRANGER))


def another_log(f: Forge) -> None:
    policy = PolicySet(name="refund", digest="ab" * 32)
    f.add(LOG_STREAM, policy, edit=lambda place: replace(place, log="other.example/log"))


# Keys


def a_foreign_key(f: Forge) -> None:
    f.add(LOG_STREAM, PolicySet(name="refund", digest="ab" * 32), signer=OTHER_WALLET)


def a_revoked_key(f: Forge) -> None:
    a_wallet_change(f)
    f.add(LOG_STREAM, PolicySet(name="refund", digest="ab" * 32))


def a_key_before_its_time(f: Forge) -> None:
    f.add(LOG_STREAM, PolicySet(name="refund", digest="ab" * 32), signer=OTHER_WALLET)
    f.add(LOG_STREAM, added())


def an_end_without_the_recovery_key(f: Forge) -> None:
    f.add(LOG_STREAM, closed(by=STRANGER))


def a_wallet_added_with_other_words(f: Forge) -> None:
    f.add(LOG_STREAM, added(text="hello"))


def a_wallet_added_with_its_word_on_another_log(f: Forge) -> None:
    f.add(LOG_STREAM, added(log="other.example/log"))


def a_wallet_added_without_a_word(f: Forge) -> None:
    f.add(LOG_STREAM, KeyAdded(purpose="wallet", key=OTHER.address))


def an_end_with_the_word_on_another_log(f: Forge) -> None:
    f.add(LOG_STREAM, closed(log="other.example/log"))


def an_end_for_another_reason(f: Forge) -> None:
    f.add(LOG_STREAM, closed(reason="bankrupt"))


def a_wallet_revoked_with_the_word_on_another_log(f: Forge) -> None:
    f.add(LOG_STREAM, added())
    last = len(f.leaves)
    f.add(LOG_STREAM, revoked(last, log="other.example/log"), signer=OTHER_WALLET)


def a_wallet_revoked_with_the_word_on_another_position(f: Forge) -> None:
    f.add(LOG_STREAM, added())
    f.add(LOG_STREAM, POLICY, signer=OTHER_WALLET)
    other = revoked(len(f.leaves) - 1).model_copy(update={"last_position": len(f.leaves)})
    f.add(LOG_STREAM, other, signer=OTHER_WALLET)


def a_log_key_revoked_from_the_first_event_on(f: Forge) -> None:
    vkey = LogKey(lf.ORIGIN, b"\x09" * 32).vkey
    f.add(LOG_STREAM, KeyAdded(purpose="log", key=vkey))
    f.add(LOG_STREAM, KeyRevoked(purpose="log", key=vkey, last_position=1))


def a_key_revoked_from_a_position_to_come(f: Forge) -> None:
    vkey = LogKey(lf.ORIGIN, b"\x09" * 32).vkey
    f.add(LOG_STREAM, KeyAdded(purpose="log", key=vkey))
    f.add(LOG_STREAM, KeyRevoked(purpose="log", key=vkey, last_position=len(f.leaves) + 2))


# Places and links


def a_gap_in_a_stream(f: Forge) -> None:
    policy = PolicySet(name="refund", digest="ab" * 32)
    f.add(LOG_STREAM, policy, edit=lambda place: replace(place, seq=place.seq + 1))


def wrong_prev(place: Seal) -> Seal:
    return replace(place, prev="ab" * 32)


def a_wrong_previous(f: Forge) -> None:
    f.quoted().add(QuoteExpired(scanned_block=1, scanned_block_time=2**39), edit=wrong_prev)


def a_base_with_another_root(f: Forge) -> None:
    head = f.head()
    base = TreeHead(size=head.size - 9, root=head.root)
    f.add(LOG_STREAM, POLICY, edit=lambda place: replace(place, base=base))


def a_base_that_is_not_older(f: Forge) -> None:
    base = TreeHead(size=len(f.leaves) + 1, root="ab" * 32)
    f.add(LOG_STREAM, POLICY, edit=lambda place: replace(place, base=base))


def two_roots_of_one_size(f: Forge) -> None:
    head = f.head()
    f.add(LOG_STREAM, POLICY)
    base = TreeHead(size=head.size, root="ab" * 32)
    f.add(LOG_STREAM, POLICY, edit=lambda place: replace(place, base=base))


def a_backdated_event(f: Forge) -> None:
    f.add(LOG_STREAM, POLICY, edit=lambda place: replace(place, at=UnixMs(place.at - 5000)))


def a_log_bound_twice(f: Forge) -> None:
    chain = ChainBound(
        chain=lf.CHAIN, genesis_hash="0x" + "0e" * 32, token=lf.TOKEN, block_number=9
    )
    f.add(LOG_STREAM, chain)


def an_event_after_the_end(f: Forge) -> None:
    the_end_of_the_log(f)
    f.add(LOG_STREAM, POLICY)


# The lifecycle


def confirmed_without_a_deliverable(f: Forge) -> None:
    case = f.paid()
    case.add(case.receipt())


def collected_before_it_was_ready(f: Forge) -> None:
    f.paid().add(DeliverableCollected(by="bearer", content_hash=RAW_DIGEST))


def other_bytes_collected(f: Forge) -> None:
    f.ready().add(DeliverableCollected(by="bearer", content_hash="ab" * 32))


def work_without_payment(f: Forge) -> None:
    f.quoted().add(ProcessingStarted(reason="worker"))


def a_retry_after_the_deliverable(f: Forge) -> None:
    case = f.ready().add(DeliveryFailed(reason="push_exhausted", attempts=1))
    case.add(ProcessingStarted(reason="retry"))


def a_second_deliverable(f: Forge) -> None:
    case = f.ready()
    f.content(replace(case.deliverable(), content_id="c1" * 16))
    case.add(case.made(content_id="c1" * 16))


def work_while_orphaned(f: Forge) -> None:
    case = f.paid()
    case.add(PaymentOrphaned(transfers=keys(case), head_number=900))
    f.content(case.deliverable())
    case.add(case.made())


def a_push_out_of_count(f: Forge) -> None:
    f.ready().add(DeliverablePosted(attempt=3, content_hash=RAW_DIGEST, response_status=200))


def a_refund_of_half(f: Forge) -> None:
    case = f.paid()
    case.add(case.back(lf.PRICE // 2)).add(OrderRefunded(reason="returned", amount=lf.PRICE // 2))


def work_after_the_refund(f: Forge) -> None:
    case = f.paid()
    case.add(case.back()).add(OrderRefunded(reason="returned", amount=lf.PRICE))
    case.add(DeliveryFailed(reason="handler_failed", attempts=1))


def an_early_dispute(f: Forge) -> None:
    case = f.paid()
    case.add(case.complaint())


def an_answer_lapsed_too_early(f: Forge) -> None:
    case = f.delivered()
    case.add(case.complaint())
    case.add(AnswerLapsed(window_ended=f.now // 1000 + 43_200))


def an_acceptance_lapsed_too_early(f: Forge) -> None:
    case = f.delivered()
    case.add(AcceptanceLapsed(window_ended=(f.now - 1000) // 1000 + 86_400))


def a_withdrawal_without_a_dispute(f: Forge) -> None:
    case = f.delivered()
    case.add(case.withdrawal())


def a_ruling_that_gives_back_otherwise_than_it_says(f: Forge) -> None:
    case = f.delivered()
    case.add(case.complaint())
    case.add(case.ruling("provider", lf.PRICE))


def foreign_content_erased(f: Forge) -> None:
    f.delivered().add(ContentErased(content_ids=("ee" * 16,), reason="operator"))


def too_many_claims(f: Forge) -> None:
    case = f.quoted()
    for name in "abcd":
        tx_hash = case.story().tx(name)
        case.add(case.claimed(tx_hash=tx_hash, notice=case.notice(name)))


# Money


def one_transfer_for_two_orders(f: Forge) -> None:
    first = f.paid()
    stolen = first.transfer()
    case = f.quoted()
    case.add(case.payment(transfers=(stolen,)))


def a_payment_that_claims_nothing(f: Forge) -> None:
    f.claiming = False
    f.paid()


def a_claim_from_nowhere(f: Forge) -> None:
    values = (lf.CHAIN, "0x" + "ab" * 32, 0, LOG_STREAM, 1)
    f.db.execute("INSERT INTO claims VALUES (?,?,?,?,?)", values)


def a_claim_of_another_position(f: Forge) -> None:
    f.paid()
    f.db.execute("UPDATE claims SET position=position-1 WHERE position=?", (len(f.leaves) - 1,))


def an_underpaid_payment(f: Forge) -> None:
    case = f.quoted()
    case.add(case.payment(transfers=(case.transfer(amount=lf.PRICE - 1),)))


def a_late_payment_as_in_time(f: Forge) -> None:
    case = f.quoted()
    late = case.transfer(block_time=case.terms.pay_by + 1)
    case.add(case.payment(transfers=(late,)))


def a_payment_in_time_as_late(f: Forge) -> None:
    case = f.quoted()
    case.add(PaymentLate(transfers=(case.transfer(),), refund_due=lf.PRICE))


def a_payment_of_a_stranger(f: Forge) -> None:
    case = f.quoted()
    foreign = case.transfer(sender=STRANGER.address)
    case.add(case.payment(transfers=(foreign,), payer=STRANGER.account))


def a_payment_to_another_address(f: Forge) -> None:
    case = f.quoted()
    case.add(case.payment(transfers=(case.transfer(recipient=STRANGER.address),)))


def a_wrong_rest(f: Forge) -> None:
    case = f.quoted()
    part = case.transfer(amount=lf.PRICE - 5)
    case.add(PaymentPartial(transfers=(part,), amount_due=6))


def a_wrong_excess(f: Forge) -> None:
    case = f.paid()
    case.add(PaymentOverpaid(transfers=(case.transfer("b", 4),), overpaid=5))


def an_unknown_transfer_orphaned(f: Forge) -> None:
    case = f.quoted()
    case.add(PaymentOrphaned(transfers=keys(case), head_number=900))


def an_unknown_transfer_finalized(f: Forge) -> None:
    case = f.quoted()
    case.add(PaymentFinalized(transfers=keys(case), finality="finalized"))


def a_smaller_transfer_restored(f: Forge) -> None:
    case = f.paid()
    case.add(PaymentOrphaned(transfers=keys(case), head_number=900))
    case.add(PaymentRestored(transfers=(case.transfer(amount=1),), finality="sealed"))


def a_refund_to_a_stranger(f: Forge) -> None:
    case = f.paid()
    case.add(case.back(recipient=STRANGER.address))


def an_early_expiry(f: Forge) -> None:
    case = f.quoted()
    case.add(QuoteExpired(scanned_block=1, scanned_block_time=case.terms.pay_by))


def an_expiry_of_a_claimed_quote(f: Forge) -> None:
    case = f.quoted()
    case.add(case.claimed())
    case.add(QuoteExpired(scanned_block=1, scanned_block_time=case.terms.pay_by + 1))


def keys(case: Case) -> tuple[TransferKey, ...]:
    transfer = case.transfer()
    return (TransferKey(chain=lf.CHAIN, tx_hash=transfer.tx_hash, ordinal=transfer.ordinal),)


# Signatures of the parties


def a_receipt_of_a_stranger(f: Forge) -> None:
    case = f.delivered()
    case.add(case.receipt(by=STRANGER))


def a_receipt_with_a_broken_signature(f: Forge) -> None:
    case = f.delivered()
    receipt = case.receipt()
    same_moment = receipt.client.text.removesuffix("Z") + "+00:00"
    text = receipt.client.model_copy(update={"text": same_moment})
    case.add(receipt.model_copy(update={"client": text}))


def a_receipt_for_another_order(f: Forge) -> None:
    case = f.delivered()
    case.add(case.receipt(order_id=new_order_id()))


def a_receipt_for_other_bytes(f: Forge) -> None:
    case = f.delivered()
    case.add(case.receipt(digest="ab" * 32))


def a_receipt_that_binds_less_than_it_says(f: Forge) -> None:
    case = f.delivered()
    case.add(case.receipt().model_copy(update={"binds": "order_only"}))


def a_receipt_of_no_known_form(f: Forge) -> None:
    case = f.delivered()
    case.add(case.receipt().model_copy(update={"client": lf.CLIENT.sign("thanks")}))


def a_notice_for_another_transaction(f: Forge) -> None:
    case = f.quoted()
    case.add(case.payment()).add(case.started(notice=case.notice("b")))


def a_notice_with_an_invented_nonce(f: Forge) -> None:
    case = f.quoted()
    case.add(case.payment()).add(case.started(nonce="nonce-0123456789"))


def a_notice_of_a_stranger(f: Forge) -> None:
    case = f.quoted()
    case.add(case.payment()).add(case.started(notice=case.notice(by=STRANGER)))


def a_dispute_for_another_reason(f: Forge) -> None:
    case = f.delivered()
    case.add(case.complaint(reason="wrong_content"))


def disputed_again(f: Forge, ending: Callable[[Case], Event]) -> tuple[Case, Event]:
    """Return an order whose first dispute ended, and whose second one is open."""
    case = f.paid().add(DeliveryFailed(reason="handler_failed", attempts=1))
    case.add(case.complaint())
    ended = ending(case)
    case.add(ended)
    f.content(case.deliverable())
    case.add(case.made())
    case.add(case.complaint())
    return case, ended


def an_old_withdrawal_again(f: Forge) -> None:
    case, ended = disputed_again(f, Case.withdrawal)
    case.add(ended)


def an_old_ruling_again(f: Forge) -> None:
    case, ended = disputed_again(f, lambda case: case.ruling("client", lf.PRICE))
    case.add(ended)


def a_withdrawal_from_before(f: Forge) -> None:
    case = f.delivered()
    early = iso_of(UnixMs(f.now - 400_000))
    case.add(case.complaint())
    case.add(case.withdrawal(early))


def a_dispute_from_the_time_to_come(f: Forge) -> None:
    case = f.delivered()
    case.add(case.complaint(iso_of(UnixMs(f.now + 62_000))))


# Content


def a_swapped_deliverable(f: Forge) -> None:
    f.ready()
    f.db.execute("UPDATE content SET value=? WHERE content_id=?", (b"The deliverable", "c0" * 16))


def a_wrong_json_digest(f: Forge) -> None:
    case = f.paid()
    f.content(case.deliverable())
    case.add(case.made(json_digest="ab" * 32))


def a_deleted_description(f: Forge) -> None:
    case = f.quoted()
    f.db.execute("DELETE FROM content WHERE content_id=?", (case.terms.description_id,))


def another_description(f: Forge) -> None:
    case = f.quoted()
    where = (b"other work", case.terms.description_id)
    f.db.execute("UPDATE content SET value=? WHERE content_id=?", where)


def erased_content_kept(f: Forge) -> None:
    case = f.delivered()
    case.add(ContentErased(content_ids=(case.content_id,), reason="request"))


def content_of_no_event(f: Forge) -> None:
    f.content(salted(LOG_STREAM, "description", "nobody's"))


def a_commitment_to_nothing(f: Forge) -> None:
    f.add(LOG_STREAM, POLICY, {"description": "ab" * 32})


ATTACKS: dict[Callable[[Forge], None], set[str]] = {
    a_repeated_key: {"C01"},
    another_encoding: {"C02"},
    an_amount_as_a_number: {"C01"},
    another_log: {"C03"},
    a_foreign_key: {"C04"},
    a_wallet_added_without_its_consent: {"C04"},
    a_revoked_key: {"C04"},
    a_key_before_its_time: {"C04"},
    an_end_without_the_recovery_key: {"C04"},
    a_wallet_added_with_other_words: {"C04"},
    a_wallet_added_with_its_word_on_another_log: {"C04"},
    a_wallet_added_without_a_word: {"C04"},
    an_end_with_the_word_on_another_log: {"C04"},
    an_end_for_another_reason: {"C04"},
    a_wallet_revoked_with_the_word_on_another_log: {"C04"},
    a_wallet_revoked_with_the_word_on_another_position: {"C04"},
    a_log_key_revoked_from_the_first_event_on: {"C04"},
    a_key_revoked_from_a_position_to_come: {"C04"},
    a_gap_in_a_stream: {"C06"},
    a_wrong_previous: {"C07"},
    a_base_with_another_root: {"C09"},
    a_base_that_is_not_older: {"C09"},
    two_roots_of_one_size: {"C09", "C21"},
    a_backdated_event: {"C10"},
    a_log_bound_twice: {"C08"},
    an_event_after_the_end: {"C08"},
    confirmed_without_a_deliverable: {"C08", "C16"},
    collected_before_it_was_ready: {"C08"},
    other_bytes_collected: {"C08"},
    work_without_payment: {"C08"},
    a_retry_after_the_deliverable: {"C08"},
    a_second_deliverable: {"C08"},
    work_while_orphaned: {"C08"},
    a_push_out_of_count: {"C08"},
    a_refund_of_half: {"C08"},
    work_after_the_refund: {"C08"},
    an_early_dispute: {"C08"},
    an_answer_lapsed_too_early: {"C08"},
    an_acceptance_lapsed_too_early: {"C08"},
    a_withdrawal_without_a_dispute: {"C08"},
    a_ruling_that_gives_back_otherwise_than_it_says: {"C08"},
    foreign_content_erased: {"C08"},
    too_many_claims: {"C08"},
    one_transfer_for_two_orders: {"C12"},
    a_payment_that_claims_nothing: {"C12"},
    a_claim_from_nowhere: {"C12"},
    a_claim_of_another_position: {"C12"},
    an_underpaid_payment: {"C13"},
    a_late_payment_as_in_time: {"C13"},
    a_payment_in_time_as_late: {"C13"},
    a_payment_of_a_stranger: {"C13"},
    a_payment_to_another_address: {"C13"},
    a_wrong_rest: {"C13"},
    a_wrong_excess: {"C13"},
    an_unknown_transfer_orphaned: {"C13"},
    an_unknown_transfer_finalized: {"C13"},
    a_smaller_transfer_restored: {"C13"},
    an_early_expiry: {"C14"},
    an_expiry_of_a_claimed_quote: {"C14"},
    a_swapped_deliverable: {"C15"},
    a_wrong_json_digest: {"C15"},
    a_receipt_of_a_stranger: {"C16"},
    a_receipt_with_a_broken_signature: {"C16"},
    a_receipt_for_another_order: {"C16"},
    a_receipt_for_other_bytes: {"C16"},
    a_receipt_that_binds_less_than_it_says: {"C16"},
    a_receipt_of_no_known_form: {"C16"},
    a_notice_for_another_transaction: {"C16"},
    a_notice_with_an_invented_nonce: {"C16"},
    a_notice_of_a_stranger: {"C16"},
    a_dispute_for_another_reason: {"C16"},
    an_old_withdrawal_again: {"C16"},
    an_old_ruling_again: {"C16"},
    a_withdrawal_from_before: {"C16"},
    a_dispute_from_the_time_to_come: {"C16"},
    a_deleted_description: {"C27"},
    another_description: {"C27"},
    erased_content_kept: {"C27"},
    content_of_no_event: {"C27"},
    a_commitment_to_nothing: {"C27"},
    a_refund_to_a_stranger: {"C29"},
}


@pytest.mark.parametrize("attack", list(ATTACKS), ids=lambda attack: attack.__name__)
def test_each_attack_trips_its_check_and_no_other(
    forge: Forge, attack: Callable[[Forge], None]
) -> None:
    attack(forge)

    report = audit_snapshot(forge.db, forge.guard())

    assert checks_of(report) == ATTACKS[attack], report.findings


# What was signed before


def test_a_history_other_than_the_signed_one_is_found(forge: Forge) -> None:
    with lf.undone(forge.db):
        Forge(forge.db).add(LOG_STREAM, POLICY)
        other = Forge(forge.db).guard()
    forge.add(LOG_STREAM, PolicySet(name="other", digest="ab" * 32))
    forge.guard()

    assert checks_of(audit_snapshot(forge.db, other)) == {"C20"}


def test_a_guard_signed_by_another_key_is_found(forge: Forge) -> None:
    head = forge.head()
    key = LogKey(lf.ORIGIN, b"\x09" * 32)
    note = key.sign_checkpoint(lf.ORIGIN, head.size, bytes.fromhex(head.root))

    assert checks_of(audit_snapshot(forge.db, note.encode())) == {"C18"}


def test_other_keys_than_the_pinned_ones_are_found(forge: Forge) -> None:
    mine = LogKey(lf.ORIGIN, lf.LOG_SEED).vkey
    right, wrong_wallet = Trust(mine, WALLET.address), Trust(mine, STRANGER.address)
    guard = forge.guard()

    pinned = audit_snapshot(forge.db, guard, trust=right)
    assert (pinned.findings, pinned.notes) == ([], [])
    assert checks_of(audit_snapshot(forge.db, guard, trust=wrong_wallet)) == {"C04"}


def test_the_present_keys_of_a_log_are_enough_where_they_signed(forge: Forge) -> None:
    mine, new_log = LogKey(lf.ORIGIN, lf.LOG_SEED), LogKey(lf.ORIGIN, b"\x09" * 32)
    forge.add(LOG_STREAM, added())
    forge.add(LOG_STREAM, KeyAdded(purpose="log", key=new_log.vkey))
    unsigned = forge.guard()
    new, both = Trust(None, OTHER.address), Trust(new_log.vkey, OTHER.address)
    # Anybody may open a log and add to it keys of others: only what they signed counts.
    for trust in (new, both, Trust(new_log.vkey, None)):
        assert checks_of(audit_snapshot(forge.db, unsigned, trust=trust)) == {"C04"}

    forge.add(LOG_STREAM, POLICY, signer=OTHER_WALLET)
    forge.guard()
    head = forge.head()
    by_old, by_new = (
        key.sign_checkpoint(lf.ORIGIN, head.size, bytes.fromhex(head.root)).encode()
        for key in (mine, new_log)
    )

    for guard, trust in (
        (by_old, new),
        (by_new, both),
        (by_new, Trust(new_log.vkey, None)),
        (by_old, Trust(mine.vkey, OTHER.address)),
        (by_new, Trust(new_log.vkey, WALLET.address)),
    ):
        assert audit_snapshot(forge.db, guard, trust=trust).findings == []
    foreign = Trust(LogKey(lf.ORIGIN, b"\x0a" * 32).vkey, OTHER.address)
    assert checks_of(audit_snapshot(forge.db, by_new, trust=foreign)) == {"C04"}


def test_an_audit_of_a_ledger_full_of_findings_stops_at_its_limit(forge: Forge) -> None:
    forge.db.execute("UPDATE stored_events SET topic='x'")

    report = audit_snapshot(forge.db, forge.guard(), stop_after=10)

    assert (len(report.findings), report.complete) == (10, False)


def test_a_ledger_without_events_is_a_finding(forge: Forge) -> None:
    for table in ("stored_events", "tiles", "frontier", "claims", "content"):
        forge.db.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names

    assert "C04" in checks_of(audit_snapshot(forge.db, b""))
