"""What a bundle does not show, in plain words: whoever reads the rest has to read this too."""

from __future__ import annotations

from ledger.evidence_verify.basics import count
from ledger.evidence_verify.bundle import Evidence
from ledger.evidence_verify.deal_case import deal_limits
from ledger.evidence_verify.rules import OrderState

KEYS_LEFT_OUT = (
    "Keys: that none was stolen, and that no key event of the log was left out here. One that"
    " revokes a key would change what the signatures of that key are worth."
)
LATER_EVENTS = (
    "Later events: this is the order as of {size} of the log, a size that the maker of this bundle"
    " chose. What came later is not here."
)
UNCHECKED_LINES = (
    "Witnesses: no line of another key under the log's head counts unless that key is given to"
    " verify.py as --witness. Other people may have been shown another log; heads that the client"
    " kept would reveal that."
)
ALWAYS = (
    "Quality: no hash and no signature says whether the work is good, or fits the order.",
    "Persons: wallets sign here. Who holds a wallet is not shown.",
    "Time: events carry the provider's clock. Their order is proven, their moment is not.",
    "The chain: transfers are as the provider read them. Look up the transactions yourself.",
    "Completeness: that the order ends here is the provider's signed word, and nothing more.",
    LATER_EVENTS,
    KEYS_LEFT_OUT,
    UNCHECKED_LINES,
)


def not_proven(evidence: Evidence, order: OrderState) -> list[str]:
    """Say in plain words what the bundle does not show."""
    found = [text.format(size=count(evidence.head.size, "event")) for text in ALWAYS]
    if order.deal is not None:
        found += deal_limits(order.deal, evidence.events)
    if order.dispute is not None:
        found.append("The dispute: what was signed is shown, not who is right.")
    if order.confirmed is None and order.ready is not None:
        found.append("Receipt: the client signed none. That it got the deliverable is not shown.")
    elif order.confirmed is not None and order.confirmed["binds"] == "order_only":
        found.append("Content: the client's receipt names no hash. What it got is not shown.")
    for state, text in (
        ("erased", "Erased: {} of event {} was erased. Its commitment or hash remains."),
        ("redacted", "Withheld: {} of event {} is left out of this bundle by its maker."),
        ("not_held", "Not held: {} of event {} is not held any more, and no event here says why."),
    ):
        found += [
            text.format(opening.field.replace("_", " "), opening.seq)
            for opening in evidence.openings
            if opening.state == state
        ]
    return found
