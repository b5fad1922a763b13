"""What each event says in a sentence, who vouches for it, and how good that is."""

from __future__ import annotations

from ledger.evidence_verify.basics import Doc, time_text, usdc
from ledger.evidence_verify.money import total
from ledger.evidence_verify.shapes import KINDS, Entry
from ledger.evidence_verify.words import FORMS, NOTICES, read_text

PROVEN = "proven"
COUNTERPARTY = "attested-by-counterparty"
PROVIDER = "attested-by-provider"
RPC = "rpc-testimony"

GRADES = {
    PROVEN: "follows from signatures, hashes and proofs in this bundle, checked by verify.py",
    COUNTERPARTY: "the client or the arbiter says so under its own signature",
    PROVIDER: "the provider says so under its own signature, and nobody else does",
    RPC: "the provider read it from the chain through its RPC endpoints; look it up to be sure",
}

CHAIN = "chain, as the provider read it"
Saying = tuple[str, str, str]

NOTICE = "The client's wallet signed that transaction {tx_hash} pays for this order."
UNNAMED = (
    "The client's wallet signed a notice of payment for this order that names no transaction;"
    " the provider took it for {tx_hash}."
)
OFFER = (
    "The provider offered \u201c{service}\u201d for {price}, to be paid until {pay_by} and"
    " delivered until {deliver_by}."
)
READY = (
    "The provider signed that the deliverable has {size_bytes} bytes"
    " (\u201c{content_type}\u201d) with the SHA-256 {raw}."
)
TOLD = "{said} the event at position {position} of the log."
BEGUN = ("The work began.", "provider", PROVIDER)

SAYINGS: dict[str, list[Saying]] = {
    "quoted": [
        (
            OFFER,
            "provider",
            PROVEN,
        )
    ],
    "expired": [
        (
            "No payment was found up to block {scanned_block} of {scanned_block_time}.",
            CHAIN,
            RPC,
        )
    ],
    "paid": [("{total} had reached the payment address in time, from {payer}.", CHAIN, RPC)],
    "processing": [BEGUN],
    "processing/notice": [(NOTICE, "client", PROVEN), BEGUN],
    "processing/notice/unnamed": [(UNNAMED, "client", PROVEN), BEGUN],
    "processing/retry": [("The work began anew after a failure.", "provider", PROVIDER)],
    "notice_accepted": [(NOTICE, "client", PROVEN)],
    "notice_accepted/unnamed": [(UNNAMED, "client", PROVEN)],
    "ready": [
        (
            READY,
            "provider",
            PROVEN,
        )
    ],
    "posted": [
        (
            "The client's endpoint answered {response_status} when the deliverable was sent there.",
            "provider",
            PROVIDER,
        )
    ],
    "delivered/bearer": [
        ("The deliverable was handed out whole to who knew the order's id.", "provider", PROVIDER)
    ],
    "delivered/party": [
        ("The deliverable was handed out whole to the client's wallet.", "provider", PROVIDER)
    ],
    "delivery_failed/push_exhausted": [
        (
            "The client's endpoint did not take the deliverable; it stayed ready to be fetched.",
            "provider",
            PROVIDER,
        )
    ],
    "delivery_failed/handler_failed": [("The work failed.", "provider", PROVIDER)],
    "confirmed/content": [
        (
            "The client's wallet signed a receipt for the bytes with the SHA-256 {content_hash}.",
            "client",
            PROVEN,
        ),
        ("The client received these bytes.", "client", COUNTERPARTY),
    ],
    "confirmed/order_only": [
        (
            "The client's wallet signed a receipt for this order, which names no content.",
            "client",
            PROVEN,
        ),
        ("The client received a delivery.", "client", COUNTERPARTY),
    ],
    "disputed/not_delivered": [
        ("The client's wallet signed a complaint.", "client", PROVEN),
        ("Nothing was delivered.", "client", COUNTERPARTY),
    ],
    "disputed/wrong_content": [
        ("The client's wallet signed a complaint.", "client", PROVEN),
        ("The content is not what was ordered.", "client", COUNTERPARTY),
    ],
    "disputed/other": [
        ("The client's wallet signed a complaint of another kind.", "client", PROVEN)
    ],
    "refunded/returned": [
        ("All that had been received went back to the client: {amount}.", CHAIN, RPC)
    ],
    "refunded/payment_impossible": [
        ("The payment left the chain and can never return to it.", CHAIN, RPC)
    ],
    "payment_claimed": [
        (NOTICE, "client", PROVEN),
        ("The chain did not show it yet.", CHAIN, RPC),
    ],
    "payment_claimed/unnamed": [
        (UNNAMED, "client", PROVEN),
        ("The chain did not show it yet.", CHAIN, RPC),
    ],
    "payment_claim_closed/reverted": [("Transaction {tx_hash} was reverted.", CHAIN, RPC)],
    "payment_claim_closed/not_matching": [
        ("Transaction {tx_hash} does not pay for this order.", CHAIN, RPC)
    ],
    "payment_claim_closed/absent": [("Transaction {tx_hash} was not mined in time.", CHAIN, RPC)],
    "payment_partial": [
        ("{arrived} arrived, a part of the price; {amount_due} were still due.", CHAIN, RPC)
    ],
    "payment_overpaid": [
        ("{arrived} more arrived; {overpaid} in all are beyond the price.", CHAIN, RPC)
    ],
    "payment_late": [("{arrived} arrived too late and are due back.", CHAIN, RPC)],
    "payment_finalized": [("The payment's blocks are {finality}.", CHAIN, RPC)],
    "payment_orphaned": [("A reorganisation took the payment off the chain.", CHAIN, RPC)],
    "payment_restored": [("{arrived} are back on the chain.", CHAIN, RPC)],
    "refund_recorded": [("{amount} went from the payment address back to the client.", CHAIN, RPC)],
    "push_attempted": [
        ("The deliverable was sent to the client's endpoint: {outcome}.", "provider", PROVIDER)
    ],
    "download_noted": [
        ("The deliverable was fetched by who knew the order's id.", "provider", PROVIDER)
    ],
    "acceptance_lapsed": [
        ("Nobody had objected when the time for it ended, {window_ended}.", "provider", PROVIDER)
    ],
    "answer_lapsed": [
        ("The complaint was not answered in time, until {window_ended}.", "provider", PROVIDER)
    ],
    "dispute_answered/accepts": [
        ("The provider answered that it accepts the complaint.", "provider", PROVEN)
    ],
    "dispute_answered/rejects": [
        ("The provider answered that it rejects the complaint.", "provider", PROVEN)
    ],
    "dispute_withdrawn": [
        ("The client's wallet signed that the complaint is withdrawn.", "client", PROVEN)
    ],
    "dispute_ruled/client": [
        ("The arbiter's wallet ruled for the client: {amount} should go back.", "arbiter", PROVEN)
    ],
    "dispute_ruled/provider": [
        ("The arbiter's wallet ruled for the provider: nothing goes back.", "arbiter", PROVEN)
    ],
    "dispute_ruled/split": [
        ("The arbiter's wallet ruled to split: {amount} should go back.", "arbiter", PROVEN)
    ],
    "content_erased": [("Content of this order was erased.", "provider", PROVIDER)],
    "command_refused": [
        ("The client's wallet signed a notice of payment for this order.", "client", PROVEN),
        ("The provider refused it: {code}.", "provider", PROVEN),
    ],
    "receipt_recorded/provider": [
        (f"The client's wallet signed that it {TOLD}", "client", PROVEN),
        ("It did so with what it got.", "client", COUNTERPARTY),
    ],
    "receipt_recorded/client": [
        (f"The wallet {{receiver[signer]}} signed that it {TOLD}", "its signer", PROVEN),
        ("This wallet acts for the provider.", "provider", PROVIDER),
    ],
}
"""By kind, and by kind and variant where the body chooses one."""

VARIANTS = ("reason", "by", "binds", "position", "outcome", "sender")


def sayings(entry: Entry) -> list[Doc]:
    """Return the sentences of an event, each with who vouches and its grade."""
    values = {name: _shown(entry.kind, name, value) for name, value in entry.body.items()}
    values["arrived"] = usdc(total(_transfers(entry.body)))
    found = [
        {"text": text.format(**values), "vouched_by": who, "grade": grade}
        for text, who, grade in SAYINGS[_variant(entry)]
    ]
    if "rating" in entry.body:
        text = f"A rating of {entry.body['rating']} of 5 came with it; the client did not sign it."
        found.append({"text": text, "vouched_by": "provider", "grade": PROVIDER})
    return found


def _variant(entry: Entry) -> str:
    name: str = entry.kind
    for field in VARIANTS:
        chosen = f"{entry.kind}/{entry.body.get(field)}"
        name = chosen if chosen in SAYINGS else name
    notice = entry.body.get("notice")
    if notice is not None and FORMS[entry.kind] is NOTICES:
        unnamed = read_text(entry.kind, notice["text"]).get("tx") is None
        name = f"{name}/unnamed" if unnamed else name
    return name


def _shown(kind: str, name: str, value: object) -> object:
    types = dict(field.replace("?", "").split(":", 1) for field in KINDS[kind].split(" "))
    if types[name] == "micros" and isinstance(value, str):
        return usdc(int(value))
    if types[name] == "time" and isinstance(value, int):
        return time_text(value)
    return value


def _transfers(body: Doc) -> list[Doc]:
    return [transfer for transfer in body.get("transfers", ()) if "amount" in transfer]
