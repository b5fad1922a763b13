"""Evidence of orders of the marketplace: proven offline, and plain about what it does not show."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ledger.audit_deals import DEAL_KINDS
from ledger.audit_deals import NEVER_IN_DEALS as NEVER
from ledger.audit_market import is_market
from ledger.deal_events import OrderCancelled, OrderReviewed, PaymentSettled
from ledger.entry import read_entry
from ledger.evidence import Wanted, assemble
from ledger.evidence_verifier import verifier_source
from ledger.evidence_verify.bags import read_zip
from ledger.evidence_verify.basics import FORMAT, Bad
from ledger.evidence_verify.deal import IN_DEALS_ONLY, NEVER_IN_DEALS, UNPAID_MS
from ledger.evidence_verify.rules import PAID_DEAL_NEXT, OrderState, fold_order
from ledger.evidence_verify.shapes import KINDS, Entry
from ledger.evolve import fold
from ledger.order import ENDLESS_SECONDS
from ledger.order import PAID_DEAL_NEXT as PAID_NEXT
from ledger.order_events import ContentErased, DeliveryDisputed, DisputeWithdrawn
from ledger.signing import Signer
from ledger.values import iso_of, order_stream, stream_key
from tests.integration.test_audit_attacks import Forge
from tests.support import ledger_files as lf
from tests.support import market_forge as mf
from tests.support.bundles import LOG_KEY, POLICY, PROVIDER, failed, flipped, resealed, roots
from tests.support.market_stories import BUYER, MARKET_STORIES
from tests.unit import builders as b
from tests.unit.test_evidence import FixedStore, digest_of_pages

CHANGES = 250
BUNDLES = [story.__name__ for story in MARKET_STORIES]
RULED = ("ruled_with_solana", "ruled_with_evm")


@dataclass(slots=True)
class Told:
    """A ledger of every story of the marketplace, and the bundle of each story's order."""

    files: lf.LedgerFiles
    orders: dict[str, str]
    bundles: dict[str, bytes]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    files = lf.LedgerFiles(tmp_path_factory.mktemp("market"))
    ledger = files.open()
    ledger.start()
    teller = lf.Teller(ledger)
    made = Told(files, {}, {})

    async def tell() -> None:
        await lf.opening(teller)
        for story in MARKET_STORIES:
            made.orders[story.__name__] = (await story(teller)).order_id

    asyncio.run(tell())
    head = ledger.head
    for name, order_id in made.orders.items():
        wanted = Wanted(order_id, head.size, head.note, policies=(POLICY,))
        made.bundles[name] = assemble(ledger.store, ledger.signer, wanted).data
    ledger.close()
    return made


def case_of(told: Told, name: str) -> dict[str, Any]:
    _, files = read_zip(told.bundles[name])
    case: dict[str, Any] = json.loads(files["data/case.json"])
    return case


def words_of(case: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    """Return the sentences of the events of a kind, each with its grade."""
    rows = [row for row in case["timeline"] if row["kind"] == kind]
    return [(said["text"], said["grade"]) for row in rows for said in row["says"]]


# It holds together


@pytest.mark.parametrize("name", BUNDLES)
def test_the_bundle_of_each_story_verifies(told: Told, name: str) -> None:
    assert failed(told.bundles[name]) == []


@pytest.mark.parametrize("name", RULED)
def test_the_bundle_verifies_without_packages(told: Told, name: str, tmp_path: Path) -> None:
    program, bundle = tmp_path / "verify.py", tmp_path / "evidence.zip"
    program.write_bytes(verifier_source())
    bundle.write_bytes(told.bundles[name])
    client = BUYER.address if name == "ruled_with_solana" else lf.CLIENT.address
    # -S: not even what is installed beside this Python is at hand.
    command = [sys.executable, "-I", "-S", str(program), str(bundle), "--origin", lf.ORIGIN]
    command += ["--log-key", LOG_KEY.vkey, "--wallet", PROVIDER.address, "--client", client]

    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"client {client}" in done.stdout
    assert "4.999999 USDC signed, not settled" in done.stdout


def test_another_client_than_the_named_one_is_refused(told: Told) -> None:
    assert failed(told.bundles["ruled_with_solana"], roots(client=lf.CLIENT.address)) == ["E13"]


def test_every_story_makes_the_order_that_the_ledger_makes(told: Told) -> None:
    ledger = told.files.open()
    try:
        for name, order_id in told.orders.items():
            placed = ledger.read_order(order_id)
            expected = fold(p.signed for p in placed)
            found = fold_order([Entry(p.signed.entry, p.position - 1) for p in placed])
            assert expected is not None
            assert expected.deal is not None
            assert found.deal is not None
            due = found.deal.deliver_by if found.deal.paid else ENDLESS_SECONDS
            assert (found.status, found.received, due) == (
                expected.status,
                expected.received,
                expected.deliver_by,
            ), name
            assert (found.deal.paid, found.deal.ended or None, set(found.deal.voided)) == (
                expected.deal.paid,
                expected.deal.ended,
                set(expected.deal.voided),
            )
            assert (found.deal.review is None) is (expected.deal.review is None)
            assert (found.deal.settled is None) is (expected.deal.settled is None)
    finally:
        ledger.close()


def test_the_tables_are_those_of_the_ledger() -> None:
    assert set(IN_DEALS_ONLY) == {kind.kind for kind in DEAL_KINDS}
    assert set(NEVER_IN_DEALS) == {kind.kind for kind in NEVER}
    assert set(PAID_DEAL_NEXT) == set(PAID_NEXT)
    assert set(IN_DEALS_ONLY) | set(NEVER_IN_DEALS) <= set(KINDS)
    assert UNPAID_MS > ENDLESS_SECONDS * 1000


# What was changed is refused


@pytest.mark.parametrize("name", RULED)
def test_a_changed_byte_anywhere_is_refused(told: Told, name: str) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # noqa: T201 - to repeat it
    rng, data = random.Random(seed), told.bundles[name]  # noqa: S311 - no secret

    for _ in range(CHANGES):
        at = rng.randrange(len(data))
        assert failed(flipped(data, at, rng)) != [], at


@pytest.mark.parametrize("name", RULED)
def test_a_changed_file_is_refused_even_if_the_provider_seals_it(told: Told, name: str) -> None:
    base, files = read_zip(told.bundles[name])
    rng = random.Random(7)  # noqa: S311 - no secret
    names = [each for each in files if each.startswith("data/")]

    for each in names:
        changed = flipped(files[each], rng.randrange(len(files[each])), rng)
        assert failed(resealed(base, {**files, each: changed})) != [], each


LIES = {**mf.STEPS, **mf.SUMS, **mf.SIGNED}


@pytest.fixture(scope="module")
def copy(told: Told) -> sqlite3.Connection:
    return lf.in_memory(told.files.database)


@pytest.fixture
def market(copy: sqlite3.Connection) -> Iterator[mf.Market]:
    with lf.undone(copy):
        yield mf.Market(Forge(copy))


def order_in(market: mf.Market) -> OrderState:
    """Fold the order whose newest event is the newest of the log."""
    query = "SELECT rowid, state FROM stored_events ORDER BY rowid DESC LIMIT 1"
    stream = read_entry(market.forge.db.execute(query).fetchone()[1]).stream
    assert not is_market(stream)
    rows = market.forge.db.execute(
        "SELECT rowid, state FROM stored_events WHERE originator_id=? ORDER BY originator_version",
        (stream_key(stream),),
    )
    return fold_order([Entry(entry, position - 1) for position, entry in rows])


@pytest.mark.parametrize("name", [*LIES, "paid with a void transfer"])
def test_what_the_audit_refuses_the_verifier_refuses(market: mf.Market, name: str) -> None:
    lie, _ = mf.CHECKS_OF[name]

    lie(market)

    with pytest.raises(Bad):
        order_in(market)


def test_what_is_legal_is_folded(market: mf.Market) -> None:
    market.delivered().add(mf.REVIEW)

    assert order_in(market).status == "ready"


def test_a_complaint_that_another_wallet_signed_is_refused(market: mf.Market) -> None:
    market.delivered()
    text = market.complaint().client.text
    forged = market.complaint().model_copy(update={"client": mf.STRANGER.sign(text)})
    market.add(forged)

    with pytest.raises(Bad, match="not the client's"):
        order_in(market)


# What it says


def test_a_signed_payment_is_said_to_be_signed_and_not_settled(told: Told) -> None:
    case = case_of(told, "ruled_with_solana")
    said = words_of(case, "payment_authorized")

    assert case["money"]["payment"]["state"] == "signed"
    assert ("signed", "4.999999 USDC") in [(s["what"], s["usdc"]) for s in case["money"]["sums"]]
    assert any("Signed is not settled" in text for text, grade in said if grade == "proven")
    assert any(
        "due to the agent; no event here says that they were paid" in text for text, _ in said
    )
    assert (
        "Payment: the payer signed a transfer. That the chain took it is not shown."
        in (case["not_proven"])
    )
    assert any(line.startswith("The payout:") for line in case["not_proven"])


def test_a_settlement_is_what_was_read_from_the_chain(told: Told) -> None:
    case = case_of(told, "settled_and_reviewed")

    assert case["money"]["payment"]["state"] == "settled"
    assert case["money"]["grade"] == "rpc-testimony"
    assert {grade for _, grade in words_of(case, "payment_settled")} == {"rpc-testimony"}


def test_a_void_payment_is_no_money(told: Told) -> None:
    case, again = case_of(told, "never_delivered"), case_of(told, "void_and_paid_again")

    assert case["money"]["payment"]["state"] == "void"
    assert {grade for _, grade in words_of(case, "payment_voided")} == {"rpc-testimony"}
    assert again["money"]["payment"]["state"] == "signed"
    assert again["money"]["payment"]["signature"] not in again["money"]["payment"]["void"]
    assert len(again["money"]["payment"]["void"]) == 1


def test_a_review_is_no_receipt(told: Told) -> None:
    case = case_of(told, "settled_and_reviewed")
    said = words_of(case, "order_reviewed")

    assert any("no receipt" in text for text, _ in said)
    assert {grade for _, grade in said} == {"attested-by-provider"}
    assert any(line.startswith("The review:") for line in case["not_proven"])


def test_a_mere_claim_is_called_one(told: Told) -> None:
    case = case_of(told, "cancelled")

    said = words_of(case, "order_cancelled")
    assert any("mere claim" in text and "agent" in text for text, _ in said)
    assert any(line.startswith("Claims:") and " 2 " in line for line in case["not_proven"])
    assert not any(line.startswith("Claims:") for line in case_of(told, "declined")["not_proven"])


@pytest.mark.parametrize("name", BUNDLES)
def test_only_what_somebody_signed_here_is_proven_of_the_client(told: Told, name: str) -> None:
    case = case_of(told, name)
    roles = {party["role"]: party for party in case["parties"]}

    signed = name in ("ruled_with_solana", "ruled_with_evm", "settled_and_reviewed")
    signed = signed or name == "never_delivered"
    assert (roles["client"]["grade"] == "proven") is signed
    assert roles["agent"]["grade"] == "attested-by-provider"
    assert ("payer" in roles) is (case["money"]["payment"]["state"] != "none")
    for kind in ("order_countered", "order_declined", "order_cancelled", "order_reviewed"):
        assert "proven" not in {grade for _, grade in words_of(case, kind)}


@pytest.mark.parametrize("name", BUNDLES)
def test_the_conversation_is_not_in_the_bundle(told: Told, name: str) -> None:
    _, files = read_zip(told.bundles[name])

    kinds = {row["kind"] for row in case_of(told, name)["timeline"]}
    assert not kinds & {"conversation_started", "message_posted", "agent_registered"}
    assert not any(b"good day" in data for data in files.values())


def test_a_text_of_a_solana_wallet_says_how_it_is_checked(told: Told) -> None:
    for name, scheme in (("ruled_with_solana", "Ed25519"), ("ruled_with_evm", "EIP-191")):
        _, files = read_zip(told.bundles[name])
        listed = {each["kind"]: each for each in json.loads(files["data/client/messages.json"])}
        assert listed["disputed"]["scheme"] == f"{scheme} over the bytes of the file"
        assert listed["dispute_ruled"]["scheme"] == "EIP-191 over the bytes of the file"


def test_erased_words_are_listed_with_their_commitment(told: Told) -> None:
    case = case_of(told, "erased")
    erased = [each for each in case["content"] if each["state"] == "erased"]

    assert [each["field"] for each in erased] == ["description"]
    assert all(each["commitment"] for each in erased)
    assert any(row["kind"] == ContentErased.kind for row in case["timeline"])


def test_fields_of_the_marketplace_can_be_left_out(told: Told) -> None:
    ledger = told.files.open()
    try:
        hidden = frozenset({"text", "reason", "comment", "description"})
        wanted = Wanted(told.orders["declined"], ledger.head.size, ledger.head.note, hidden)
        data = assemble(ledger.store, Signer(lf.WALLET_SECRET), wanted).data
    finally:
        ledger.close()

    _, files = read_zip(data)
    assert failed(data) == []
    assert not any(b"too dear" in each or b"a little less" in each for each in files.values())
    assert order_stream(told.orders["declined"]).encode() in files["data/order-head.json"]


# The form


MADE = {2: "3eaa113b41f548606c7bff9058ee892bdb9273d41aeb6c609111bd65ea464571"}
"""By the format's number, the digest of all that is made of one fixed order of the marketplace."""


def test_another_form_of_these_orders_needs_another_number() -> None:
    at = f"Timestamp: {iso_of(b.NOW)}"
    complaint = (
        f"Dispute delivery: {b.ORDER_ID} | Reason: other | Hash: none | Statement: none | {at}"
    )
    paid = b.paid_with(lf.PRICE - 1, due=lf.PRICE)
    events = (
        b.offer(deadline=b.DELIVER_BY),
        OrderCancelled(by="agent", proven="open"),
    )
    ruled = (
        b.offer(),
        paid,
        PaymentSettled(signature=paid.signature, slot=9, grade="settled", finality="finalized"),
        mf.WORK,
        b.SAMPLES["ready"],
        DeliveryDisputed(client=b.BUYER.sign(complaint), reason="other"),
        DisputeWithdrawn(
            client=b.BUYER.sign(f"Withdraw dispute: {b.ORDER_ID} | {at}"),
        ),
        OrderReviewed(rating=4, proven="token"),
    )

    made = "".join(digest_of_pages(FixedStore(each).bundle()) for each in (events, ruled))

    assert MADE[FORMAT] == sha256(made.encode()).hexdigest()
