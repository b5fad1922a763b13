"""What a case says of an order of the marketplace beside what it says of every order."""

from __future__ import annotations

from ledger.evidence_verify.basics import Doc, duration, time_text, usdc
from ledger.evidence_verify.deal import DealState
from ledger.evidence_verify.facts import CHAIN, PROVEN, PROVIDER, RPC
from ledger.evidence_verify.shapes import Entry

PAYMENT_STATES = {
    "none": ("No payment of this order is recorded.", "provider", PROVIDER),
    "signed": (
        "The payer signed the transfer. That the chain took it is not shown.",
        "the payer",
        PROVEN,
    ),
    "settled": ("The chain took the transfer that the payer signed.", CHAIN, RPC),
    "void": ("The transfer that the payer signed moved nothing.", CHAIN, RPC),
}
TRANSFER = (
    "signature", "payer", "source", "destination", "recipient", "mint", "chain", "method",
)  # fmt: skip
PAYMENT_LIMITS = {
    "none": "Payment: nothing here shows one.",
    "signed": "Payment: the payer signed a transfer. That the chain took it is not shown.",
    "settled": "Payment: the provider read that the chain took it. Look up its signature.",
    "void": "Payment: the provider read that the transfer moved nothing. Look up its signature.",
}
TESTIMONY = (
    "The transaction in the event is signed by the payer; verify.py reads it and compares. Whether"
    " the chain took it is what the provider read there through the RPC endpoints that it uses. To"
    " be sure, look up its signature on the chain that is named: the transaction itself names none."
)
PAYOUT = (
    "The payout: what is due to the agent is shown, not that it got it. The service pays nobody,"
    " and gives nothing back."
)
REVIEW = "The review: the client did not sign it. It is no receipt, and names no content."
TALK = "The conversation: what the two sides wrote to each other is not here."
WHO_ASKED = (
    "Who asked: beside the texts and the transfer that are signed here, whose act an event is, is"
    " the provider's word."
)
CLAIMS = (
    "Claims: nobody proved to hold the wallets that events {events} are recorded for. Anybody may"
    " have sent them."
)


def deal_terms(terms: Doc) -> Doc:
    """Return the terms of an offer for people."""
    texts = {
        "service": terms["service"],
        "price": usdc(int(terms["price"])),
        "commission": f"{terms['commission_bps']} of 10000, rounded down",
        "payment_address": terms.get("payment_address", "none"),
        "token": f"{terms['chain']}:{terms['token']}",
        "pay_by": time_text(terms["pay_by"]),
        "time_to_deliver": duration(terms["delivery_seconds"]),
        "time_to_accept": duration(terms["acceptance_window"]),
        "time_to_answer": duration(terms["answer_window"]),
        "refund_policy_sha256": terms["refund_policy"],
        "arbiter": terms.get("arbiter", "none"),
    }
    if "deadline" in terms:
        texts["deadline"] = time_text(terms["deadline"])
    return texts


def deal_parties(deal: DealState) -> list[Doc]:
    """Return the agent, and whoever signed the transfer."""
    named, signed = "the provider names it", "signed the transfer"
    agent = deal.terms["agent_wallet"]
    found = [{"role": "agent", "account": agent, "grade": PROVIDER, "known_by": named}]
    if deal.payment is not None:
        payer = deal.payment["payer"]
        found.append({"role": "payer", "account": payer, "grade": PROVEN, "known_by": signed})
    return found


def payment_state(deal: DealState) -> str:
    if deal.payment is None:
        return "none"
    if deal.settled is not None:
        return "settled"
    return "void" if deal.void else "signed"


def deal_money(deal: DealState) -> Doc:
    """Return what was to be paid, what was signed, and how it was to be divided."""
    text, who, grade = PAYMENT_STATES[payment_state(deal)]
    amounts = {"price": deal.terms["price"]}
    payment: Doc = {"state": payment_state(deal), "text": text, "void": sorted(deal.voided)}
    if deal.payment is not None:
        names = {"due": "due", "amount": "signed", "commission": "commission", "payout": "payout"}
        amounts.update({said: deal.payment[name] for name, said in names.items()})
        payment.update({name: deal.payment[name] for name in TRANSFER}, event=deal.payment_seq)
    if deal.settled is not None:
        payment.update(slot=deal.settled.body["slot"], finality=deal.settled.body["finality"])
    sums = [{"what": n, "micro_usdc": v, "usdc": usdc(int(v))} for n, v in amounts.items()]
    return {"grade": grade, "vouched_by": who, "transfers": [], "sums": sums, "payment": payment}


def deal_limits(deal: DealState, events: list[Entry]) -> list[str]:
    """Say in plain words what is not shown of an order of the marketplace."""
    found = [PAYMENT_LIMITS[payment_state(deal)], WHO_ASKED, TALK]
    claimed = [str(entry.seq) for entry in events if entry.body.get("proven") == "open"]
    if claimed:
        found.append(CLAIMS.format(events=", ".join(claimed)))
    if deal.paid:
        found.append(PAYOUT)
    if deal.review is not None:
        found.append(REVIEW)
    return found
