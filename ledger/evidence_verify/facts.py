"""What each event says in a sentence, who vouches for it, and how good that is."""

from __future__ import annotations

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
PROPOSAL = (
    "The marketplace signed this offer of the agent with the wallet {agent_wallet}:"
    " \u201c{service}\u201d for {price}, to be paid until {pay_by} and delivered within"
    " {delivery_seconds} seconds of the payment."
)
AUTHORIZED = (
    "The wallet {payer} signed a transfer of {amount} (token {mint}) to {destination}, the account"
    " of {recipient} for this token. Signed is not settled: it does not show that money moved."
)
SPLIT = (
    "Of this, {commission} are to stay with the marketplace and {payout} are due to the agent;"
    " no event here says that they were paid out."
)

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
    "order_proposed": [(PROPOSAL, "provider", PROVEN)],
    "order_countered": [("The client asked for other terms.", "provider", PROVIDER)],
    "order_declined": [("The client declined the offer.", "provider", PROVIDER)],
    "order_cancelled/agent": [("The agent took the offer back.", "provider", PROVIDER)],
    "order_cancelled/client": [("The client called the offer off.", "provider", PROVIDER)],
    "payment_authorized/nothing": [
        (AUTHORIZED, "the payer", PROVEN),
        (SPLIT, "provider", PROVEN),
        ("It counts as the payment from now on, settled or not.", "provider", PROVIDER),
    ],
    "payment_authorized/settlement": [
        (AUTHORIZED, "the payer", PROVEN),
        (SPLIT, "provider", PROVEN),
        ("It counts as the payment once the chain took it.", "provider", PROVIDER),
    ],
    "payment_settled": [
        ("The chain took the transfer {signature} in slot {slot}: {finality}.", CHAIN, RPC)
    ],
    "payment_voided/failed": [
        ("The transfer {signature} failed on the chain: nothing moved.", CHAIN, RPC)
    ],
    "payment_voided/expired": [
        ("The time of the transfer {signature} passed: nothing moved, or ever will.", CHAIN, RPC)
    ],
    "order_reviewed": [
        (
            "The client reviewed the order. This is no receipt: it signed nothing.",
            "provider",
            PROVIDER,
        )
    ],
}
"""By kind, and by kind and variant where the body chooses one."""

VARIANTS = ("reason", "by", "binds", "position", "outcome", "sender", "awaits")

KNOWN_BY = {
    "token": "The marketplace knew the {side}'s wallet by a token that a signature had earned.",
    "signature": "The marketplace knew the {side}'s wallet by a signature on the request.",
    "open": "That it was the {side} is a mere claim: nobody proved to hold this wallet.",
}
"""How the marketplace knew who asked; none of it is in the bundle."""
