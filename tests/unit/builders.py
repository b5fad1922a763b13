"""What unit tests build orders from: fixed keys, ids and times; unsigned stand-ins for entries.

An order is always reached by real decisions: commands go through `decide`, and the events that
come back are folded. Only the signature and the bytes of an entry are left out.
"""

from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final, Literal

from coincurve import PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct

from ledger.commands import (
    AcceptNotice,
    AnswerDispute,
    ConfirmDelivery,
    DeclarePaymentImpossible,
    Deliverable,
    EraseContent,
    ExpireQuote,
    FailHandler,
    HandIn,
    IssueQuote,
    LapseAcceptance,
    LapseAnswer,
    NoteCollected,
    Notice,
    OpenDispute,
    RecheckPayment,
    RecordPush,
    RecordReceipt,
    RecordRefund,
    RecordTransfers,
    ResolveClaim,
    RuleDispute,
    StartProcessing,
    WithdrawDispute,
)
from ledger.cursor_events import (
    CursorAcknowledged,
    CursorLeased,
    CursorOpened,
    CursorParked,
    CursorReleased,
    CursorReplayed,
    CursorSettings,
    CursorSought,
    CursorState,
    Lease,
    Place,
    Tries,
)
from ledger.deal_commands import (
    AuthorizePayment,
    CancelOrder,
    CounterOffer,
    DeclineOrder,
    ProposeOrder,
    ReviewOrder,
    SettlePayment,
    VoidPayment,
)
from ledger.deal_events import (
    OrderCancelled,
    OrderCountered,
    OrderDeclined,
    OrderProposed,
    OrderReviewed,
    PaymentAuthorized,
    PaymentSettled,
    PaymentVoided,
)
from ledger.decide import OrderCommand, decide
from ledger.decision import Claimed, Decision
from ledger.entry import SignedEvent
from ledger.event import ClientText, Event, Finality, Transfer, TransferKey, TreeHead
from ledger.evolve import evolve
from ledger.finding import ChainView, Finding
from ledger.log_events import (
    ChainBound,
    Continues,
    KeyAdded,
    KeyRevoked,
    LogClosed,
    LogOpened,
    PaymentUnattributed,
    PolicySet,
)
from ledger.market_events import (
    AgentRegistered,
    AgentUpdated,
    ConversationStarted,
    MessagePosted,
    Proven,
)
from ledger.order import Order, Status
from ledger.order_events import (
    AcceptanceLapsed,
    AnswerLapsed,
    CommandRefused,
    ContentErased,
    DeliverableCollected,
    DeliverablePosted,
    DeliverableReady,
    DeliveryConfirmed,
    DeliveryDisputed,
    DeliveryFailed,
    DisputeAnswered,
    DisputeRuled,
    DisputeWithdrawn,
    DownloadNoted,
    NoticeAccepted,
    OrderQuoted,
    OrderRefunded,
    ProcessingStarted,
    PushAttempted,
    QuoteExpired,
    ReceiptRecorded,
)
from ledger.payment_events import (
    PaymentClaimClosed,
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
from ledger.values import ZERO_ADDRESS, OrderId, UnixMs, order_stream
from tests.support.solana_keys import MINT, SOLANA, Payment, SolanaKey, authorized

ORDER_ID: Final = OrderId("ivxp-00000000-0000-4000-8000-000000000001")
STREAM: Final = order_stream(ORDER_ID)
OTHER_STREAM: Final = order_stream("ivxp-00000000-0000-4000-8000-000000000002")

CHAIN: Final = "eip155:84532"
TOKEN: Final = "0x" + "70" * 20
PAYMENT_ADDRESS: Final = "0x" + "9a" * 20
PRICE: Final = 5_000_000

NOON: Final = 1_767_268_800
"""2026-01-01T12:00:00Z in Unix seconds: the moment of the quote."""
PAY_BY: Final = NOON + 3_600
DELIVER_BY: Final = NOON + 7_200
ACCEPTANCE_WINDOW: Final = 86_400
ANSWER_WINDOW: Final = 43_200
QUOTED_AT: Final = UnixMs(NOON * 1000)
NOW: Final = UnixMs((NOON + 60) * 1000)
"""The moment of a command, where a test names no other: within every window."""
AFTER_DELIVER_BY: Final = UnixMs(DELIVER_BY * 1000 + 1)

NOTHING_CLAIMED: Final[Claimed] = {}


def digest_of(name: str) -> str:
    return sha256(name.encode()).hexdigest()


def content_id(name: str) -> str:
    return digest_of(name)[:32]


def tx(name: str) -> str:
    """Return the same transaction hash for the same name."""
    return "0x" + digest_of(f"tx {name}")


def block(name: str) -> str:
    return "0x" + digest_of(f"block {name}")


class Key:
    """A party's wallet, the same for the same name; it signs by way of eth-account."""

    def __init__(self, name: str) -> None:
        self.secret: Final = sha256(f"key {name}".encode()).digest()
        self.private: Final = PrivateKey(self.secret)
        self.address: Final[str] = Account.from_key(self.secret).address.lower()
        self.account: Final = f"{CHAIN}:{self.address}"

    def text(self, text: str) -> ClientText:
        return _signed_text(self.secret, self.address, text)


@lru_cache(maxsize=4096)
def _signed_text(secret: bytes, address: str, text: str) -> ClientText:
    signature = Account.sign_message(encode_defunct(text=text), secret).signature
    return ClientText(text=text, signature="0x" + bytes(signature).hex(), signer=address)


CLIENT: Final = Key("client")
STRANGER: Final = Key("stranger")
ARBITER: Final = Key("arbiter")
PROVIDER: Final = Key("provider")
NOBODY: Final = f"{CHAIN}:{ZERO_ADDRESS}"

RAW: Final = digest_of("the deliverable")
JSON_DIGEST: Final = digest_of('"the deliverable"')
OTHER_BYTES: Final = digest_of("other bytes")
HEAD: Final = TreeHead(size=7, root=digest_of("root of 7"))


# Orders from events


def signed(event: Event, *, seq: int = 1, at: UnixMs = NOW) -> SignedEvent:
    """Return a stand-in for an entry: the place and the event are real, the bytes are not."""
    return SignedEvent(STREAM, seq, at, event, {}, PROVIDER.address, b"", bytes(32))


def apply(order: Order | None, *events: Event, at: UnixMs = NOW) -> Order:
    """Return the order after these events."""
    for event in events:
        order = evolve(order, signed(event, seq=1 if order is None else order.version + 1, at=at))
    assert order is not None
    return order


def obey(order: Order | None, command: OrderCommand, claimed: Claimed = NOTHING_CLAIMED) -> Order:
    """Return the order after what the command leads to."""
    return after(order, decide(order, command, claimed), at=command.now)


def after(order: Order | None, decision: Decision, *, at: UnixMs = NOW) -> Order:
    return apply(order, *events_of(decision), at=at)


def events_of(decision: Decision) -> list[Event]:
    return [draft.event for draft in decision.drafts]


def kinds_of(decision: Decision) -> list[str]:
    return [event.kind for event in events_of(decision)]


# Facts


def terms(client: str = CLIENT.account, *, arbiter: str | None = ARBITER.address) -> OrderQuoted:
    return OrderQuoted(
        service="code_review",
        client=client,
        price=PRICE,
        chain=CHAIN,
        token=TOKEN,
        payment_address=PAYMENT_ADDRESS,
        pay_by=PAY_BY,
        deliver_by=DELIVER_BY,
        acceptance_window=ACCEPTANCE_WINDOW,
        answer_window=ANSWER_WINDOW,
        refund_policy=digest_of("refund policy"),
        arbiter=arbiter,
        description_id=content_id("description"),
    )


def transfer(
    amount: int = PRICE,
    *,
    of: str = "a",
    ordinal: int = 0,
    sender: str = CLIENT.address,
    recipient: str = PAYMENT_ADDRESS,
    number: int = 100,
    fork: str = "",
    time: int = NOON + 30,
) -> Transfer:
    """Return a transfer in transaction `of`; `fork` names another block at the same height."""
    return Transfer(
        chain=CHAIN,
        tx_hash=tx(of),
        ordinal=ordinal,
        log_index=ordinal + 3,
        block_number=number,
        block_hash=block(f"{number}{fork}"),
        block_time=time,
        sender=sender,
        recipient=recipient,
        amount=amount,
    )


def late_transfer(amount: int = PRICE, *, of: str = "late", ordinal: int = 0) -> Transfer:
    return transfer(amount, of=of, ordinal=ordinal, number=2_000, time=PAY_BY + 1)


def refund_transfer(amount: int = PRICE, *, of: str = "refund") -> Transfer:
    return transfer(amount, of=of, sender=PAYMENT_ADDRESS, recipient=CLIENT.address, number=3_000)


def mined(*transfers: Transfer, of: str = "a", finality: Finality = "sealed") -> Finding:
    """Return a finding of a transaction that succeeded, deep enough."""
    tx_hash = transfers[0].tx_hash if transfers else tx(of)
    number = transfers[0].block_number if transfers else 100
    return Finding(
        tx_hash, ChainView.MINED, transfers, depth=3, finality=finality, head_number=number + 2
    )


def seen(view: ChainView, *transfers: Transfer, of: str = "a", safe_time: int = 0) -> Finding:
    """Return a finding of any other view."""
    return Finding(tx(of), view, transfers, head_number=102, safe_time=safe_time)


UNPROVEN: Final = [ChainView.UNAVAILABLE, ChainView.NOT_FOUND, ChainView.SHALLOW]


# Commands


def issue_quote(quoted: OrderQuoted | None = None) -> IssueQuote:
    commit = {"description": digest_of("commitment of the description")}
    return IssueQuote(quoted or terms(), commit, QUOTED_AT)


def notice(
    of: str = "a",
    *,
    by: Key = CLIENT,
    nonce: str | None = None,
    stamp: int = NOW,
    words: str = "",
    endpoint: str | None = None,
) -> Notice:
    text = f"Order: {ORDER_ID} | Payment: {tx(of)} | Timestamp: {stamp}{words}"
    commit = {} if endpoint is None else {"delivery_endpoint": digest_of("commitment")}
    return Notice(by.text(text), tx(of), nonce, UnixMs(stamp), endpoint, commit)


def accept(finding: Finding, *, by: Key = CLIENT, now: UnixMs = NOW) -> AcceptNotice:
    """Return the notice that names the finding's transaction."""
    text = f"Order: {ORDER_ID} | Payment: {finding.tx_hash} | Timestamp: {now}"
    return AcceptNotice(Notice(by.text(text), finding.tx_hash, None, now), finding, now)


def resolve(finding: Finding, *, now: UnixMs = NOW) -> ResolveClaim:
    return ResolveClaim(finding, now)


def record(
    *transfers: Transfer, payer: str | None = None, finality: Finality = "sealed"
) -> RecordTransfers:
    """Return the command for transfers that a watcher found by itself."""
    return RecordTransfers(mined(*transfers, finality=finality), payer, NOW)


def recheck(finding: Finding, canonical: Mapping[int, str] | None = None) -> RecheckPayment:
    return RecheckPayment(finding, canonical or {}, NOW)


def refund(*transfers: Transfer) -> RecordRefund:
    return RecordRefund(mined(*transfers), NOW)


def impossible() -> DeclarePaymentImpossible:
    return DeclarePaymentImpossible(tx("the same nonce"), NOW)


def expire(*, block_time: int = PAY_BY + 1, candidate_transfers: bool = False) -> ExpireQuote:
    return ExpireQuote(2_000, block_time, candidate_transfers, UnixMs(block_time * 1000))


def start(reason: Literal["worker", "retry"] = "worker") -> StartProcessing:
    return StartProcessing(reason, NOW)


def hand_in(name: str = "deliverable") -> HandIn:
    item = Deliverable(content_id(name), RAW, JSON_DIGEST, 15, "text", "text/plain")
    return HandIn(item, NOW)


def fail(detail: str = "the handler raised") -> FailHandler:
    return FailHandler(3, detail, NOW)


def push(
    outcome: Literal["accepted", "refused", "unreachable", "blocked", "exhausted"] = "accepted",
    *,
    target: Literal["delivery_endpoint", "contact_endpoint"] = "delivery_endpoint",
    status: int | None = None,
) -> RecordPush:
    answered = 200 if outcome == "accepted" and status is None else status
    return RecordPush(target, outcome, answered, NOW)


def collect(by: Literal["bearer", "party"] = "bearer") -> NoteCollected:
    return NoteCollected(by, NOW)


def erase(*names: str) -> EraseContent:
    return EraseContent(tuple(content_id(n) for n in names or ("deliverable",)), "request", NOW)


def confirm(
    *,
    by: Key = CLIENT,
    text_digest: str | None = RAW,
    body_digest: str | None = None,
    stamp: int = NOW,
    now: UnixMs = NOW,
) -> ConfirmDelivery:
    text = f"Order: {ORDER_ID} | Received: true | Hash: {text_digest} | Timestamp: {stamp}"
    return ConfirmDelivery(by.text(text), UnixMs(stamp), text_digest, body_digest, HEAD, 5, now)


def dispute(
    *, by: Key = CLIENT, words: str = "", stamp: int | None = None, now: UnixMs = AFTER_DELIVER_BY
) -> OpenDispute:
    at = UnixMs(now if stamp is None else stamp)
    text = f"Dispute: {ORDER_ID} | Timestamp: {at}{words}"
    commit = {"statement": digest_of("commitment of the statement")}
    statement = content_id("statement")
    return OpenDispute(by.text(text), at, "other", None, statement, commit, now)


def answer(*, now: UnixMs = AFTER_DELIVER_BY) -> AnswerDispute:
    commit = {"statement": digest_of("commitment of the answer")}
    return AnswerDispute("rejects", content_id("answer"), commit, now)


def withdraw(
    *, by: Key = CLIENT, stamp: int = AFTER_DELIVER_BY, now: UnixMs = AFTER_DELIVER_BY
) -> WithdrawDispute:
    return WithdrawDispute(by.text(f"Withdraw: {ORDER_ID} | {stamp}"), UnixMs(stamp), now)


def rule(
    *, by: Key = ARBITER, amount: int = PRICE, outcome: str = "client", stamp: int = NOW
) -> RuleDispute:
    text = f"Rule dispute: {ORDER_ID} | Outcome: {outcome} | Amount: {amount}"
    return RuleDispute(by.text(text), UnixMs(stamp), outcome, amount, NOW)  # type: ignore[arg-type]


def receipt(
    *,
    by: Key = CLIENT,
    of: str = "an entry",
    said: Literal["received", "read", "processed", "rejected"] = "received",
    sender: Literal["provider", "client"] = "provider",
    side: Literal["provider", "client"] = "client",
    stamp: int = NOW,
    now: UnixMs = NOW,
) -> RecordReceipt:
    leaf = digest_of(of)
    text = f"Receipt: 9-{leaf} | Kind: {said} | Hash: none | Timestamp: {stamp}"
    return RecordReceipt(9, leaf, sender, side, said, None, by.text(text), UnixMs(stamp), now)


def lapse_acceptance(now: int) -> LapseAcceptance:
    return LapseAcceptance(UnixMs(now))


def lapse_answer(now: int) -> LapseAnswer:
    return LapseAnswer(UnixMs(now))


# Orders in each status, reached by decisions


def quoted_order(quoted: OrderQuoted | None = None) -> Order:
    return obey(None, issue_quote(quoted))


def expired_order() -> Order:
    return obey(quoted_order(), expire())


def paid_order() -> Order:
    """Return an order that is paid and not started: nobody has sent a notice."""
    return obey(quoted_order(), record(transfer()))


def processing_order() -> Order:
    return obey(quoted_order(), accept(mined(transfer())))


def worked_on_order() -> Order:
    """Return an order that a worker began before any notice came."""
    return obey(paid_order(), start("worker"))


def ready_order() -> Order:
    return obey(processing_order(), hand_in())


def posted_order() -> Order:
    return obey(ready_order(), push())


def delivered_order() -> Order:
    return obey(ready_order(), collect())


def failed_handler_order() -> Order:
    return obey(processing_order(), fail())


def failed_push_order() -> Order:
    return obey(ready_order(), push("exhausted"))


def confirmed_order() -> Order:
    return obey(delivered_order(), confirm())


def disputed_order() -> Order:
    return obey(delivered_order(), dispute())


def disputed_undelivered_order() -> Order:
    return obey(processing_order(), dispute())


def refunded_order() -> Order:
    return obey(processing_order(), refund(refund_transfer()))


def orphan(of: str = "a", number: int = 100) -> RecheckPayment:
    """Return the news that another block stands where the transaction's block stood."""
    return recheck(seen(ChainView.NOT_FOUND, of=of), {number: block(f"{number} other")})


def paused_order() -> Order:
    """Return a processing order whose payment a reorganisation took off the chain."""
    return obey(processing_order(), orphan())


ORDERS_IN: Final[Mapping[Status, tuple[Order, ...]]] = {
    Status.QUOTED: (quoted_order(),),
    Status.EXPIRED: (
        expired_order(),
        obey(expired_order(), accept(mined(late_transfer()))),
    ),
    Status.PAID: (paid_order(),),
    Status.PROCESSING: (processing_order(),),
    Status.READY: (ready_order(), obey(disputed_undelivered_order(), hand_in())),
    Status.POSTED: (posted_order(),),
    Status.DELIVERED: (delivered_order(),),
    Status.DELIVERY_FAILED: (failed_handler_order(), failed_push_order()),
    Status.CONFIRMED: (confirmed_order(),),
    Status.DISPUTED: (disputed_order(), disputed_undelivered_order()),
    Status.REFUNDED: (refunded_order(),),
}
"""Every status, with and without what further conditions ask for: money, content."""


# Orders of the marketplace: offered in a conversation, paid on Solana

AGENT_KEY: Final = SolanaKey("agent")
BUYER: Final = SolanaKey("buyer")
MARKET: Final = SolanaKey("market")
AGENT: Final = "00000000-0000-4000-8000-00000000000a"
TALK: Final = "00000000-0000-4000-8000-00000000000c"
MESSAGE: Final = "00000000-0000-4000-8000-00000000000e"
COMMISSION_BPS: Final = 1_000
DELIVERY_SECONDS: Final = 3_600

ACCOUNTS: Final[Mapping[str, str]] = {
    BUYER.address: BUYER.account,
    CLIENT.address: CLIENT.account,
    "somebody": "aether:open:somebody",
}
"""A wallet of each kind: Solana, EVM, and a word that proves nothing."""


def offer(client: str = BUYER.account, **changes: object) -> OrderProposed:
    """Return the terms that the agent offers."""
    offered = OrderProposed(
        service="code_review",
        conversation=TALK,
        agent=AGENT,
        agent_wallet=AGENT_KEY.address,
        client=client,
        price=PRICE,
        chain=SOLANA,
        token=MINT,
        payment_address=MARKET.account,
        commission_bps=COMMISSION_BPS,
        pay_by=PAY_BY,
        delivery_seconds=DELIVERY_SECONDS,
        acceptance_window=ACCEPTANCE_WINDOW,
        answer_window=ANSWER_WINDOW,
        refund_policy=digest_of("refund policy"),
        arbiter=ARBITER.address,
        description_id=content_id("description"),
        proven="token",
    )
    return offered.model_copy(update=changes)


def propose(terms: OrderProposed | None = None) -> ProposeOrder:
    commit = {"description": digest_of("commitment of the description")}
    return ProposeOrder(terms or offer(), commit, QUOTED_AT)


def paid_with(
    amount: int = PRICE,
    *,
    due: int | None = None,
    method: Literal["USDC", "ATHR"] = "USDC",
    awaits: Literal["nothing", "settlement"] = "nothing",
    by: SolanaKey = BUYER,
    blockhash: bytes = b"\x07" * 32,
    bps: int = COMMISSION_BPS,
) -> PaymentAuthorized:
    """Return what is recorded of a transfer that a payer signed; another blockhash, another one."""
    payment = Payment(by, MARKET.address, amount, blockhash=blockhash)
    return authorized(payment, due=due, method=method, awaits=awaits, bps=bps)


def counter_offer(
    wallet: str = BUYER.address, *, proven: Proven = "token", now: UnixMs = NOW
) -> CounterOffer:
    commit = {"text": digest_of("commitment of the wish")}
    return CounterOffer(wallet, proven, PRICE - 1, 60, content_id("wish"), commit, now)


def decline(wallet: str = BUYER.address, *, now: UnixMs = NOW) -> DeclineOrder:
    return DeclineOrder(wallet, "token", now)


def cancel(wallet: str = AGENT_KEY.address, *, now: UnixMs = NOW) -> CancelOrder:
    return CancelOrder(wallet, "token", now)


def authorize(
    payment: PaymentAuthorized | None = None, *, wallet: str = BUYER.address, now: UnixMs = NOW
) -> AuthorizePayment:
    return AuthorizePayment(wallet, payment or paid_with(), now)


def settle(payment: PaymentAuthorized | None = None, *, now: UnixMs = NOW) -> SettlePayment:
    return SettlePayment((payment or paid_with()).signature, 77, "finalized", now)


def void(
    payment: PaymentAuthorized | None = None,
    *,
    reason: Literal["failed", "expired"] = "expired",
    detail: str | None = None,
    now: UnixMs = NOW,
) -> VoidPayment:
    cause: Literal["funds", "blockhash"] = "blockhash" if reason == "expired" else "funds"
    return VoidPayment((payment or paid_with()).signature, reason, cause, detail, now)


def review(wallet: str = BUYER.address, *, rating: int = 5, now: UnixMs = NOW) -> ReviewOrder:
    return ReviewOrder(wallet, "token", rating, now)


def proposed_order(terms: OrderProposed | None = None) -> Order:
    return obey(None, propose(terms))


def countered_order() -> Order:
    return obey(proposed_order(), counter_offer())


def declined_order() -> Order:
    return obey(proposed_order(), decline())


def cancelled_order() -> Order:
    return obey(proposed_order(), cancel())


def authorized_order() -> Order:
    """Return an order whose payer's word alone counts: it is paid."""
    return obey(proposed_order(), authorize())


def awaiting_order() -> Order:
    """Return an order that counts as paid only once the chain took the transfer."""
    return obey(proposed_order(), authorize(paid_with(awaits="settlement")))


def settled_order() -> Order:
    return obey(awaiting_order(), settle())


def voided_order() -> Order:
    """Return an order whose payment is void before it counted: it may be paid anew."""
    return obey(awaiting_order(), void())


def voided_paid_order() -> Order:
    """Return an order whose payment counted and is void since."""
    return obey(authorized_order(), void())


def worked_deal() -> Order:
    return obey(authorized_order(), start())


def ready_deal() -> Order:
    return obey(authorized_order(), hand_in())


def delivered_deal() -> Order:
    return obey(ready_deal(), collect("party"))


def failed_deal() -> Order:
    return obey(worked_deal(), fail())


def reviewed_order() -> Order:
    return obey(delivered_deal(), review())


# One event of every kind, with all of its optional fields

_NOTICE: Final = CLIENT.text(f"Order: {ORDER_ID} | Payment: {tx('a')}")
_TRANSFERS: Final = (transfer(PRICE - 1), transfer(1, ordinal=2))
_KEYS: Final = tuple(
    TransferKey(chain=t.chain, tx_hash=t.tx_hash, ordinal=t.ordinal) for t in _TRANSFERS
)
_ENDPOINT: Final = content_id("endpoint")
_STATEMENT: Final = content_id("statement")
_LOG_KEY: Final = "ledger.example/one+0badcafe+AQIDBA=="

ORDER_SAMPLES: Final[tuple[Event, ...]] = (
    terms().model_copy(
        update={
            "delivery_format": "markdown",
            "client_name_id": content_id("name"),
            "contact_endpoint_id": content_id("contact"),
        }
    ),
    PaymentVerified(
        transfers=_TRANSFERS,
        payer=CLIENT.account,
        price=PRICE,
        total=PRICE,
        overpaid=0,
        finality="safe",
    ),
    PaymentClaimed(
        tx_hash=tx("a"),
        notice=_NOTICE,
        nonce="nonce-0000000001",
        delivery_endpoint_id=_ENDPOINT,
        reason="not_found",
    ),
    PaymentClaimClosed(tx_hash=tx("a"), reason="absent"),
    PaymentPartial(transfers=(transfer(2),), amount_due=PRICE - 2),
    PaymentOverpaid(transfers=(transfer(3, of="b"),), overpaid=3),
    PaymentLate(transfers=(late_transfer(),), refund_due=PRICE),
    PaymentFinalized(transfers=_KEYS, finality="finalized"),
    PaymentOrphaned(transfers=_KEYS, head_number=140),
    PaymentRestored(transfers=_TRANSFERS, finality="sealed"),
    RefundRecorded(transfers=(refund_transfer(),), amount=PRICE),
    QuoteExpired(scanned_block=2_000, scanned_block_time=PAY_BY + 1),
    ProcessingStarted(
        reason="notice",
        notice=_NOTICE,
        tx_hash=tx("a"),
        nonce="nonce-0000000001",
        delivery_endpoint_id=_ENDPOINT,
    ),
    NoticeAccepted(
        notice=_NOTICE,
        tx_hash=tx("a"),
        nonce="nonce-0000000001",
        delivery_endpoint_id=_ENDPOINT,
    ),
    DeliverableReady(
        content_id=content_id("deliverable"),
        raw=RAW,
        json_digest=JSON_DIGEST,
        legacy_digest=JSON_DIGEST,
        object_digest=RAW,
        size_bytes=15,
        format="text",
        content_type="text/plain",
    ),
    DeliverablePosted(attempt=2, content_hash=RAW, response_status=202),
    DeliverableCollected(by="bearer", content_hash=RAW),
    DeliveryFailed(reason="push_exhausted", attempts=5, detail="no answer"),
    DeliveryConfirmed(
        client=CLIENT.text("received"), binds="content", content_hash=RAW, head=HEAD, rating=5
    ),
    DeliveryDisputed(
        client=CLIENT.text("complaint"),
        reason="wrong_content",
        content_hash=RAW,
        statement_id=_STATEMENT,
    ),
    OrderRefunded(reason="payment_impossible", amount=0, payer_nonce_used_by=tx("the same nonce")),
    PushAttempted(attempt=1, target="contact_endpoint", outcome="refused", response_status=500),
    DownloadNoted(by="party", content_hash=RAW),
    AcceptanceLapsed(window_ended=NOON + ACCEPTANCE_WINDOW),
    AnswerLapsed(window_ended=NOON + ANSWER_WINDOW),
    DisputeAnswered(position="accepts", statement_id=_STATEMENT),
    DisputeWithdrawn(client=CLIENT.text("withdrawn")),
    DisputeRuled(arbiter=ARBITER.text("ruling"), outcome="split", amount=PRICE // 2),
    ContentErased(content_ids=(content_id("deliverable"), _STATEMENT), reason="retention"),
    CommandRefused(command="accept_notice", code="PAYMENT_NOT_VERIFIED", client=_NOTICE),
    ReceiptRecorded(
        position=9,
        leaf=digest_of("an entry"),
        sender="provider",
        said="processed",
        content_hash=RAW,
        receiver=CLIENT.text("processed"),
    ),
    offer(
        price_athr=PRICE * 2,
        deadline=DELIVER_BY,
        offer="code review, one file",
    ),
    OrderCountered(
        price=PRICE - 1, delivery_seconds=60, text_id=content_id("wish"), proven="signature"
    ),
    OrderDeclined(reason_id=content_id("reason"), proven="open"),
    OrderCancelled(by="agent", reason_id=content_id("reason"), proven="token"),
    paid_with().model_copy(update={"seen_slot": 76}),
    PaymentSettled(signature=paid_with().signature, slot=77, grade="settled", finality="confirmed"),
    PaymentVoided(
        signature=paid_with().signature, reason="failed", cause="funds", detail="no funds"
    ),
    OrderReviewed(rating=4, comment_id=content_id("comment"), proven="token"),
)

MARKET_SAMPLES: Final[tuple[Event, ...]] = (
    AgentRegistered(
        owner=AGENT_KEY.address,
        profile_id=content_id("profile"),
        services_id=content_id("services"),
        endpoint_id=content_id("agent's endpoint"),
        proven="signature",
    ),
    AgentUpdated(
        profile_id=content_id("newer profile"),
        services_id=content_id("newer services"),
        listed=False,
        proven="token",
    ),
    ConversationStarted(
        agent=AGENT,
        agent_wallet=AGENT_KEY.address,
        client_wallet=CLIENT.address,
        client_type="person",
        proven="open",
    ),
    MessagePosted(
        message=MESSAGE,
        sender="agent",
        text_id=content_id("words"),
        attachments_id=content_id("attachments"),
        proven="token",
    ),
)

LOG_SAMPLES: Final[tuple[Event, ...]] = (
    LogOpened(
        origin="ledger.example/one",
        network="base-sepolia",
        log_key=_LOG_KEY,
        wallet=PROVIDER.address,
        payment_address=f"{CHAIN}:{PAYMENT_ADDRESS}",
        recovery=Key("recovery").address,
        continues=Continues(origin="ledger.example/zero", head=HEAD),
        dev_chain=True,
    ),
    ChainBound(chain=CHAIN, genesis_hash=block("0"), token=TOKEN, block_number=90),
    KeyAdded(purpose="log", key=_LOG_KEY, possession=PROVIDER.text("possession")),
    KeyRevoked(
        purpose="wallet",
        key=PROVIDER.address,
        last_position=41,
        recovery=Key("recovery").text("revoke"),
    ),
    PolicySet(name="refund", digest=digest_of("refund policy")),
    LogClosed(reason="moved", recovery=Key("recovery").text("close")),
    PaymentUnattributed(transfers=(transfer(7, sender=STRANGER.address),)),
)

_PLACE: Final = Place(pos=7, position=40)
_LEASE: Final = Lease(
    token=8, holder="desk one", first=5, to=_PLACE, until=NOW, replays=(Place(pos=2, position=11),)
)
_CURSOR: Final = CursorState(
    seq=9,
    generation=1,
    settings=CursorSettings(
        start="earliest",
        types=("order.paid", "order.ready"),
        mode="ack",
        lease_ms=30_000,
        max_batch=100,
        max_attempts=10,
        backoff_ms=1_000,
        backoff_max_ms=300_000,
        on_poison="block",
    ),
    acked=Place(pos=4, position=20),
    token=8,
    lease=_LEASE,
    tries=(Tries(through=7, count=2),),
    skipped=(Place(pos=6, position=33),),
    replays=(Place(pos=2, position=11),),
    failed=Place(pos=5, position=31),
    retry_at=NOW,
    blocked=Place(pos=5, position=31),
)

CURSOR_SAMPLES: Final[tuple[Event, ...]] = (
    CursorOpened(state=_CURSOR),
    CursorLeased(
        state=_CURSOR,
        holder="desk one",
        first=5,
        to=7,
        until=NOW,
        attempt=2,
        transport="ws",
        extends=8,
        replays=(2,),
    ),
    CursorAcknowledged(state=_CURSOR, token=8, through=7, results=digest_of("results")),
    CursorReleased(state=_CURSOR, token=8, at=5, retry_at=NOW, reason="out of paper"),
    CursorParked(
        state=_CURSOR, place=_PLACE, attempts=10, by="attempts", blocked=True, reason="unreadable"
    ),
    CursorReplayed(state=_CURSOR, place=_PLACE),
    CursorSought(state=_CURSOR, before=_PLACE, by="owner", reason="once more"),
)

SAMPLES: Final[Mapping[str, Event]] = {
    e.kind: e for e in (*ORDER_SAMPLES, *LOG_SAMPLES, *CURSOR_SAMPLES, *MARKET_SAMPLES)
}
