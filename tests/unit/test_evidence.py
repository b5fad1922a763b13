"""The verifier's own arithmetic and tables are those of the ledger, and of others' libraries."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import html.parser
import json
import re
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from coincurve import PrivateKey
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import ledger.evidence
from ledger import log_texts, merkle, texts
from ledger.audit_source import snapshot
from ledger.checkpoint import LogKey, verify_checkpoint
from ledger.content import digests_of
from ledger.cosignature import Cosigner
from ledger.cursor_events import CursorAct
from ledger.decide_payment import MAX_OPEN_CLAIMS
from ledger.decide_receipt import MAX_RECEIPTS
from ledger.entry import Draft, Seal, seal
from ledger.errors import InvalidInput, Unauthorized, VerificationError
from ledger.event import Event, TreeHead
from ledger.events import EVENT_OF
from ledger.evidence import REDACTABLE, Wanted, assemble, parse_redactions
from ledger.evidence_source import SnapshotStore
from ledger.evidence_verifier import PARTS, verifier_source
from ledger.evidence_verify import words
from ledger.evidence_verify.bags import PREFIX, build_zip, read_zip
from ledger.evidence_verify.basics import (
    FORMAT,
    Bad,
    canonical,
    moment_ms,
    parse_canonical,
    parse_json,
    pretty,
    usdc,
)
from ledger.evidence_verify.checks import ORDER_HEAD_PREFIX as HEAD_PREFIX
from ledger.evidence_verify.checks import TITLES
from ledger.evidence_verify.contents import content_digests
from ledger.evidence_verify.curves import keccak256, recover, require_ed25519
from ledger.evidence_verify.facts import GRADES, SAYINGS, VARIANTS
from ledger.evidence_verify.report import GRADE_WORDS, shown
from ledger.evidence_verify.rules import MAX_OPEN_CLAIMS as CLAIMS
from ledger.evidence_verify.rules import MAX_RECEIPTS as RECEIPTS
from ledger.evidence_verify.rules import NEXT as NEXT_WORDS
from ledger.evidence_verify.rules import fold_order
from ledger.evidence_verify.shapes import (
    BY_CLIENT,
    BY_SYSTEM,
    ENVELOPE,
    KINDS,
    LOG_KINDS,
    Entry,
    require_shape,
)
from ledger.evidence_verify.shapes import EVENT_PREFIX as SHAPES_PREFIX
from ledger.evidence_verify.shapes import (
    PARTS as SHAPE_PARTS,
)
from ledger.evidence_verify.trees import (
    VerifierKey,
    parse_consistency,
    parse_head,
    parse_inclusion,
    require_included,
    require_prefix,
    signed_by,
    witnessed_at,
)
from ledger.evolve import fold
from ledger.log_events import KeyAdded, KeyRevoked, LogEvent
from ledger.market_events import AgentEvent, ConversationEvent
from ledger.order import NEXT
from ledger.order_events import (
    DeliverableCollected,
    DeliveryDisputed,
    DisputeRuled,
    OrderEvent,
    ProcessingStarted,
)
from ledger.proof_text import consistency_text, inclusion_text
from ledger.signing import (
    EVENT_PREFIX,
    EVIDENCE_PREFIX,
    ORDER_HEAD_PREFIX,
    Signer,
    eip191_digest,
    normalise_signature,
)
from ledger.signing import keccak256 as keccak256_of_library
from ledger.signing import recover as recover_of_library
from ledger.store_sqlite import ContentRow
from ledger.values import LOG_STREAM, iso_of
from tests.support.bundles import LOG_KEY, POLICY, PROVIDER, failed, outcomes, roots
from tests.support.ledger_files import ORIGIN, STORIES, LedgerFiles, Teller, Wallet, opening
from tests.unit import builders as b

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
GROUP: Final = 2**252 + 27742317777372353535851937790883648493
RFC_1: Final = (
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e"
    "39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
)
RFC_2: Final = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f"
    "3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)
RFC_SIGNATURES: Final = (RFC_1, RFC_2)
WITNESS: Final = Cosigner("witness.example/one", b"\x05" * 32)


# Signatures, against libraries


@pytest.mark.parametrize("length", [0, 1, 135, 136, 137, 271, 272, 273, 5000])
def test_keccak_is_that_of_the_library(length: int) -> None:
    data = bytes(i * 7 % 256 for i in range(length))

    assert keccak256(data) == keccak256_of_library(data)


@settings(deadline=None, max_examples=40)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_a_signature_recovers_to_its_address(secret: bytes, text: bytes) -> None:
    number = int.from_bytes(secret) % (ORDER - 1) + 1
    signer = Signer(number.to_bytes(32))
    message = EVENT_PREFIX + text

    assert recover(message, signer.sign(message)) == signer.address


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=40), st.binary(min_size=64, max_size=64), st.integers(0, 30))
def test_any_65_bytes_recover_as_in_the_library_or_are_refused(
    text: bytes, raw: bytes, v: int
) -> None:
    signature = "0x" + raw.hex() + f"{v:02x}"
    try:
        expected = recover_of_library(text, normalise_signature(signature))
    except Unauthorized:
        expected = ""
    if v not in (27, 28):
        expected = ""  # the one stored form has no other
    try:
        found = recover(text, signature)
    except Bad:
        found = ""
    assert found == expected


@pytest.mark.parametrize("r", [0, 1, ORDER - 1, ORDER, 2**256 - 1])
@pytest.mark.parametrize("s", [0, 1, ORDER // 2, ORDER // 2 + 1, ORDER])
def test_edges_of_r_and_s_are_judged_as_in_the_library(r: int, s: int) -> None:
    signature = f"0x{r:064x}{s:064x}1b"
    try:
        expected = recover_of_library(b"x", normalise_signature(signature))
    except Unauthorized:
        expected = ""
    try:
        found = recover(b"x", signature)
    except Bad:
        found = ""
    assert found == expected


def test_a_point_added_to_itself_or_to_its_negative_is_no_special_case() -> None:
    """R is the base point or its negative, so that the two products meet."""
    generator = int(PrivateKey(b"\x00" * 31 + b"\x01").public_key.format()[1:].hex(), 16)
    for s in (1, 2, 3, ORDER // 2):
        for v in ("1b", "1c"):
            signature = f"0x{generator:064x}{s:064x}{v}"
            assert recover(b"m", signature) == recover_of_library(b"m", signature)


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200), st.integers(0, 511))
def test_ed25519_is_judged_as_in_the_library(seed: bytes, message: bytes, bit: int) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private.public_key().public_bytes_raw(), private.sign(message)
    changed = bytearray(signature)
    changed[bit // 8] ^= 1 << bit % 8

    require_ed25519(key, message, signature)
    with pytest.raises(InvalidSignature):
        Ed25519PublicKey.from_public_bytes(key).verify(bytes(changed), message)
    with pytest.raises(Bad):
        require_ed25519(key, message, bytes(changed))


@pytest.mark.parametrize(
    ("key", "message", "signature"),
    [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            RFC_SIGNATURES[0],
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            RFC_SIGNATURES[1],
        ),
    ],
    ids=["RFC 8032 test 1", "RFC 8032 test 2"],
)
def test_the_vectors_of_the_rfc_verify(key: str, message: str, signature: str) -> None:
    require_ed25519(bytes.fromhex(key), bytes.fromhex(message), bytes.fromhex(signature))


def test_a_second_form_of_an_ed25519_signature_is_refused() -> None:
    private = Ed25519PrivateKey.from_private_bytes(b"\x09" * 32)
    key, signature = private.public_key().public_bytes_raw(), private.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + GROUP

    with pytest.raises(Bad):
        require_ed25519(key, b"m", signature[:32] + s.to_bytes(32, "little"))


# The log, against the ledger's own code


class Leaves:
    """A source of nodes over leaves that are named by their index."""

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return merkle.leaf_hash(str(index).encode())
        left = self.node(level - 1, 2 * index)
        return merkle.node_hash(left, self.node(level - 1, 2 * index + 1))


def test_every_proof_of_small_trees_is_judged_as_by_the_ledger() -> None:
    nodes = Leaves()
    for size in range(1, 20):
        root = merkle.root_at(size, nodes)
        for index in range(size):
            leaf = nodes.node(0, index)
            proof = merkle.inclusion_proof(index, size, nodes)
            require_included(leaf.hex(), index, size, proof, root.hex())
            for wrong in ([*proof, leaf], proof[:-1], proof[::-1], [leaf, *proof[1:]]):
                if wrong != proof:
                    with pytest.raises(Bad):
                        require_included(leaf.hex(), index, size, wrong, root.hex())
            with pytest.raises(Bad):
                require_included(leaf.hex(), size, size, proof, root.hex())
        for old in range(size + 1):
            old_root = merkle.root_at(old, nodes).hex()
            proof = merkle.consistency_proof(old, size, nodes)
            require_prefix((old, old_root), (size, root.hex()), proof)
            for wrong in ([*proof, root], proof[:-1], proof[::-1]):
                if wrong != proof:
                    with pytest.raises(Bad):
                        require_prefix((old, old_root), (size, root.hex()), wrong)
            if old not in (0, size):
                with pytest.raises(Bad):
                    require_prefix((old, "ab" * 32), (size, root.hex()), proof)


def test_proofs_as_text_are_read_in_their_one_form() -> None:
    note = LOG_KEY.sign_checkpoint(ORIGIN, 5, b"\x01" * 32)
    proof = [b"\x02" * 32, b"\x03" * 32]

    assert parse_inclusion(inclusion_text(4, proof, note), note) == (4, proof)
    assert parse_consistency(consistency_text(proof, note), note) == proof
    assert parse_consistency(consistency_text([], note), note) == []
    for text in (
        inclusion_text(4, proof, note) + "\n",
        inclusion_text(4, proof, note).replace("index 4", "index 04"),
        inclusion_text(4, proof, note).replace("index 4", "extra AAAA\nindex 4"),
        inclusion_text(4, proof, note + "x"),
    ):
        with pytest.raises(Bad):
            parse_inclusion(text, note)


def test_a_checkpoint_is_read_as_the_ledger_reads_it() -> None:
    note = LOG_KEY.sign_checkpoint(ORIGIN, 7, b"\x01" * 32)
    head, key = parse_head(note), VerifierKey(LOG_KEY.vkey)

    assert (head.origin, head.size, head.root) == (ORIGIN, 7, "01" * 32)
    assert signed_by(note, key)
    assert not signed_by(note, VerifierKey(LogKey(ORIGIN, b"\x03" * 32).vkey))
    for at in range(len(note)):
        changed = note[:at] + chr(ord(note[at]) ^ 1) + note[at + 1 :]
        try:
            verify_checkpoint(changed, LOG_KEY.vkey, ORIGIN)
            good = True
        except VerificationError:
            good = False
        assert good is accepted(changed, key), at


def accepted(note: str, key: VerifierKey) -> bool:
    try:
        return signed_by(note, key) and parse_head(note).origin == ORIGIN
    except Bad:
        return False


def test_a_cosignature_says_when_the_witness_saw_the_log() -> None:
    note = LOG_KEY.sign_checkpoint(ORIGIN, 7, b"\x01" * 32)
    text = note.partition("\n\n")[0] + "\n"
    seen = note + WITNESS.cosign(text, 1_767_268_800).line()
    key = VerifierKey(WITNESS.key.vkey())

    assert witnessed_at(seen, key) == 1_767_268_800
    assert witnessed_at(note, key) is None
    assert signed_by(seen, VerifierKey(LOG_KEY.vkey))
    with pytest.raises(Bad):
        witnessed_at(seen.replace("\n7\n", "\n8\n"), key)


# Tables


def test_the_lifecycle_is_that_of_the_ledger() -> None:
    ours = {word or None: set(after.split()) for word, after in NEXT_WORDS.items()}
    theirs = {str(s) if s else None: {str(n) for n in after} for s, after in NEXT.items()}

    assert ours == theirs
    assert (CLAIMS, RECEIPTS) == (MAX_OPEN_CLAIMS, MAX_RECEIPTS)


def test_the_prefixes_are_those_that_the_wallet_signs() -> None:
    assert (SHAPES_PREFIX, HEAD_PREFIX, PREFIX) == (
        EVENT_PREFIX,
        ORDER_HEAD_PREFIX,
        EVIDENCE_PREFIX,
    )


def test_the_forms_of_texts_are_those_of_the_ledger() -> None:
    for ours, theirs in (
        (words.NOTICES, texts._NOTICES),
        (words.RECEIPTS, texts._RECEIPTS),
        (words.DISPUTES, texts._DISPUTES),
        (words.WITHDRAWALS, texts._WITHDRAWALS),
        (words.RULINGS, texts._RULINGS),
        (words.EVENT_RECEIPTS, texts._EVENT_RECEIPTS),
    ):
        assert tuple(ours) == tuple(theirs)
    for forms, pattern in (
        (words.ADDING, log_texts._ADD),
        (words.REVOKING, log_texts._REVOKE),
        (words.CLOSING, log_texts._CLOSE),
    ):
        assert forms == (pattern.pattern,)


def fields_of(shape: str) -> dict[str, bool]:
    """Return the fields of a shape, and whether each may be absent."""
    names = [part.partition(":")[0] for part in shape.split(" ")]
    return {name.rstrip("?"): name.endswith("?") for name in names}


@pytest.mark.parametrize("kind", sorted(EVENT_OF))
def test_each_kind_has_the_fields_and_the_actor_of_its_class(kind: str) -> None:
    event_class = EVENT_OF[kind]
    if kind == "payment_unattributed":  # other people's money is no evidence
        assert kind not in LOG_KINDS
        return
    others = (CursorAct, AgentEvent, ConversationEvent)
    if any(event_class in get_args(family) for family in others):
        # Who read when is no part of an order, nor is what was said before it.
        assert kind not in {**KINDS, **LOG_KINDS}
        return
    known = KINDS if event_class in get_args(OrderEvent) else LOG_KINDS
    actor = "client" if kind in BY_CLIENT else "system" if kind in BY_SYSTEM else "provider"

    assert fields_of(known[kind]) == {
        name: not field.is_required() for name, field in event_class.model_fields.items()
    }
    assert actor == event_class.actor


def test_no_other_kinds_are_known() -> None:
    kinds = {event_class.kind for event_class in get_args(OrderEvent)}
    log_kinds = {event_class.kind for event_class in get_args(LogEvent)}

    assert set(KINDS) == kinds
    assert set(LOG_KINDS) == log_kinds - {"payment_unattributed"}
    assert "nb?:block" in ENVELOPE
    assert set(SHAPE_PARTS) >= {"client", "transfer", "head"}


WRONG: Final[list[Any]] = [
    None, True, 0, -1, 1.5, 2**53, 2**60, "", "x", "0x", "1", "01", "-1", [], {}, ["x"], {"a": 1},
    "0x" + "AB" * 20, "0x" + "ab" * 20, "ab" * 32, "AB" * 32, "ab" * 16, "x" * 201, "x" * 4097,
    "eip155:1:0x1", "retry", "client", 99, 100, 599, 600, 5, 6, 2**31, 2**40,
]  # fmt: skip


@pytest.mark.parametrize("kind", sorted({*KINDS, *LOG_KINDS}))
def test_a_body_is_judged_as_by_its_class(kind: str) -> None:
    """What the class takes and would write the same way fits the shape, and nothing else does."""
    shape = {**KINDS, **LOG_KINDS}[kind]
    body = b.SAMPLES[kind].body()
    require_shape(kind, body, shape)
    bodies = [{**body, name: value} for name in body for value in WRONG]
    bodies += [{k: v for k, v in body.items() if k != name} for name in body]
    bodies += [{**body, "more": 1}]

    judged = [(fits(kind, each, shape), written(kind, each), each) for each in bodies]

    assert [each for ours, theirs, each in judged if ours is not theirs] == []


def fits(kind: str, body: dict[str, Any], shape: str) -> bool:
    try:
        canonical(body)
        require_shape(kind, body, shape)
    except Bad:
        return False
    return True


def written(kind: str, body: dict[str, Any]) -> bool:
    try:
        canonical(body)
        return EVENT_OF[kind].model_validate(body).body() == body
    except (Bad, ValidationError):
        return False


def test_each_kind_and_variant_has_its_words() -> None:
    for kind, shape in KINDS.items():
        choices = [
            (name, choice)
            for name, _, form in (part.partition(":") for part in shape.split(" "))
            if name in VARIANTS and "/" in form
            for choice in form.split("/")
        ]
        chosen = [f"{kind}/{choice}" in SAYINGS for _, choice in choices]
        assert kind in SAYINGS or (chosen and all(chosen)), kind
    for sayings in SAYINGS.values():
        assert all(grade in GRADES for _, _, grade in sayings)
    assert set(GRADE_WORDS) == set(GRADES)
    assert {name.partition("/")[0] for name in SAYINGS} == set(KINDS)


# Whole ledgers


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> LedgerFiles:
    """Return a ledger of every story, then of a wallet and a log key that were added."""
    files = LedgerFiles(tmp_path_factory.mktemp("ledger"))
    ledger = files.open()
    ledger.start()
    try:
        teller = Teller(ledger)
        asyncio.run(tell(teller))
    finally:
        ledger.close()
    return files


NEW: Final = Wallet("the new signer")
NEW_LOG_KEY: Final = LogKey(ORIGIN, b"\x06" * 32)


async def tell(teller: Teller) -> None:
    await opening(teller)
    for story in STORIES:
        await story(teller)
    possession = NEW.sign(
        f"Add key: {NEW.address} | Log: {ORIGIN} | Timestamp: 2026-01-01T12:00:00Z"
    )
    await teller.log(
        KeyAdded(purpose="wallet", key=NEW.address, possession=possession),
        KeyAdded(purpose="log", key=NEW_LOG_KEY.vkey),
    )


def orders(files: LedgerFiles) -> list[str]:
    ledger = files.open()
    try:
        streams = Counter(p.signed.stream for p in ledger.read(after=0, limit=10_000))
        return [name.removeprefix("order/") for name in streams if name.startswith("order/")]
    finally:
        ledger.close()


def test_every_story_makes_the_order_that_the_ledger_makes_and_verifies(
    files: LedgerFiles,
) -> None:
    ledger = files.open()
    try:
        for order_id in orders_of(ledger):
            placed = ledger.read_order(order_id)
            expected = fold(p.signed for p in placed)
            assert expected is not None
            found = fold_order([Entry(p.signed.entry, p.position - 1) for p in placed])
            assert (found.status, found.money.client) == (
                expected.status,
                expected.client.rpartition(":")[2],
            )
            assert (found.money.received, found.money.refunded, found.money.covered) == (
                expected.money.received,
                expected.money.refunded,
                expected.money.covered,
            )
            assert (found.dispute_open, found.erased, found.content_held) == (
                expected.dispute_open,
                set(expected.erased),
                expected.content_held,
            )
            wanted = Wanted(order_id, ledger.head.size, ledger.head.note, policies=(POLICY,))
            assert failed(assemble(ledger.store, ledger.signer, wanted).data) == [], found.status
    finally:
        ledger.close()


def orders_of(ledger: Any) -> list[str]:  # noqa: ANN401 - a Ledger
    streams = Counter(p.signed.stream for p in ledger.read(after=0, limit=10_000))
    return [name.removeprefix("order/") for name in streams if name.startswith("order/")]


def test_a_bundle_is_the_same_bytes_after_a_restart_and_after_more_events(
    files: LedgerFiles,
) -> None:
    ledger = files.open()
    ledger.start()
    try:
        order_id, head = orders_of(ledger)[0], ledger.head
        wanted = Wanted(order_id, head.size, head.note, policies=(POLICY,))
        first = assemble(ledger.store, ledger.signer, wanted)
        asyncio.run(STORIES[0](Teller(ledger)))
        grown = ledger.head.size
        again = Wanted(
            order_id, head.size, ledger.proofs.checkpoint_at(head.size), policies=(POLICY,)
        )
        second = assemble(ledger.store, ledger.signer, again)
    finally:
        ledger.close()
    restarted = files.open()
    try:
        third = assemble(restarted.store, restarted.signer, again)
    finally:
        restarted.close()

    assert grown > head.size
    assert first.data == second.data == third.data
    assert first.name == f"evidence-{order_id}-{head.size}.zip"


def rotated(files: LedgerFiles, signer: Signer, log_key: LogKey) -> bytes:
    """Return a bundle that these keys signed, of events that the first ones signed."""
    with snapshot(files.database) as db:
        store = SnapshotStore(db)
        size = db.execute("SELECT MAX(rowid) FROM stored_events").fetchone()[0]
        query = "SELECT state FROM stored_events WHERE topic='quoted' ORDER BY rowid"
        order_id = json.loads(db.execute(query).fetchone()[0])["event"]["stream"][6:]
        note = log_key.sign_checkpoint(ORIGIN, size, merkle.root_at(size, store.nodes()))
        return assemble(store, signer, Wanted(order_id, size, note)).data


def test_keys_that_trusted_keys_added_are_trusted(files: LedgerFiles) -> None:
    data = rotated(files, Signer(NEW.secret), NEW_LOG_KEY)

    assert failed(data) == []
    assert failed(data, roots(log_keys=[NEW_LOG_KEY.vkey])) == []
    assert failed(data, roots(wallets=[NEW.address, PROVIDER.address])) == []


def test_the_present_keys_of_a_log_are_enough_where_they_signed(files: LedgerFiles) -> None:
    new, new_log = roots(wallets=[NEW.address]), roots(log_keys=[NEW_LOG_KEY.vkey])
    both = roots(wallets=[NEW.address], log_keys=[NEW_LOG_KEY.vkey])
    foreign = roots(wallets=[NEW.address], log_keys=[LogKey(ORIGIN, b"\x0c" * 32).vkey])

    made_by_both = rotated(files, Signer(NEW.secret), NEW_LOG_KEY)
    sealed = rotated(files, Signer(NEW.secret), LOG_KEY)
    headed = rotated(files, PROVIDER, NEW_LOG_KEY)

    assert [failed(made_by_both, each) for each in (new, new_log, both)] == [[], [], []]
    assert [failed(sealed, each) for each in (new, both)] == [[], []]
    assert [failed(headed, each) for each in (new_log, both)] == [[], []]
    # The new wallet signed nothing here, so it vouches for nothing.
    assert failed(headed, new) == ["E04", "E05", "E07", "E10", "E11"]
    assert failed(made_by_both, foreign) == ["E04"]


def test_a_log_that_names_another_logs_keys_is_not_theirs() -> None:
    """Anybody opens a log and adds the keys that a victim has pinned, with its own old texts."""
    thief, thiefs_log = Signer(b"\x0b" * 32), LogKey(ORIGIN, b"\x0c" * 32)
    possession = b.PROVIDER.text(
        f"Add key: {b.PROVIDER.address} | Log: {ORIGIN} | Timestamp: 2026-01-01T12:00:00Z"
    )
    added = (
        KeyAdded(purpose="wallet", key=b.PROVIDER.address, possession=possession),
        KeyAdded(purpose="log", key=LOG_KEY.vkey),
    )
    bundle = FixedStore(log_key=thiefs_log, signer=thief, keys=added).bundle()
    owners = roots(wallets=[b.PROVIDER.address])

    assert failed(bundle, roots(wallets=[thief.address], log_keys=[thiefs_log.vkey])) == []
    assert failed(bundle, owners) == ["E04", "E05", "E07", "E10", "E11"]
    for missing in ({"wallets": []}, {"log_keys": []}):
        assert failed(bundle, roots(**{"wallets": owners.wallets, **missing})) != []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (KeyAdded(purpose="wallet", key=NEW.address), "did not ask"),
        (KeyRevoked(purpose="log", key=LOG_KEY.vkey, last_position=-9), "not its own"),
        (KeyRevoked(purpose="log", key=NEW_LOG_KEY.vkey, last_position=1), "not its own"),
        (KeyRevoked(purpose="log", key=NEW_LOG_KEY.vkey, last_position=9), "not its own"),
    ],
)
def test_a_key_comes_and_goes_by_its_own_word(change: Event, reason: str) -> None:
    added = KeyAdded(purpose="log", key=NEW_LOG_KEY.vkey)
    found = outcomes(FixedStore(keys=(added, change)).bundle(), roots(wallets=[b.PROVIDER.address]))

    [signatures] = [o for o in found if o.name == "E07"]
    assert not signatures.holds
    assert reason in signatures.text


def test_keys_that_nobody_added_are_not(files: LedgerFiles) -> None:
    stranger = Signer(b"\x0b" * 32)
    foreign = LogKey(ORIGIN, b"\x0c" * 32)

    assert failed(rotated(files, stranger, NEW_LOG_KEY)) == ["E10", "E11"]
    assert failed(rotated(files, PROVIDER, foreign)) == ["E05"]


def test_a_revoked_wallet_seals_no_bundle_but_its_events_stand(tmp_path: Path) -> None:
    files = LedgerFiles(tmp_path)
    ledger = files.open()
    ledger.start()
    try:
        teller = Teller(ledger)
        asyncio.run(tell(teller))
        last = ledger.head.size
        revoked = KeyRevoked(purpose="wallet", key=PROVIDER.address, last_position=last + 1)
        asyncio.run(teller.log(revoked))
    finally:
        ledger.close()

    assert failed(rotated(files, Signer(NEW.secret), LOG_KEY)) == []
    assert failed(rotated(files, PROVIDER, LOG_KEY)) == ["E10", "E11"]


def test_a_witness_who_is_trusted_has_to_have_signed(files: LedgerFiles) -> None:
    ledger = files.open()
    try:
        order_id, head = orders_of(ledger)[0], ledger.head
        text = head.note.partition("\n\n")[0] + "\n"
        note = head.note + WITNESS.cosign(text, 1_767_268_800).line()
        data = assemble(ledger.store, ledger.signer, Wanted(order_id, head.size, note)).data
        plain = assemble(ledger.store, ledger.signer, Wanted(order_id, head.size, head.note)).data
    finally:
        ledger.close()
    trusted = roots(witnesses=[WITNESS.key.vkey()])
    case = json.loads(read_zip(data)[1]["data/case.json"])

    assert (failed(data), failed(data, trusted), failed(plain, trusted)) == ([], [], ["E16"])
    assert {o.name: o.text for o in outcomes(data, trusted)}["E16"] == (
        "witness.example/one at 2026-01-01 12:00:00 UTC"
    )
    said = "The head bears a line that names {}, at 2026-01-01 12:00:00 UTC; it was not checked."
    [fact] = [f for f in case["facts"] if f["text"] == said.format("witness.example/one")]
    assert fact["grade"] == "attested-by-provider"


def test_a_line_that_nobody_signed_proves_nothing_in_the_report(files: LedgerFiles) -> None:
    ledger = files.open()
    try:
        order_id, head = orders_of(ledger)[0], ledger.head
        invented = b"\x12\x34\x56\x78" + (1_767_268_800).to_bytes(8, "big") + b"\x07" * 64
        note = f"{head.note}\u2014 bank.example/w1 {b64encode(invented).decode()}\n"
        wanted = [Wanted(order_id, head.size, each) for each in (note, head.note)]
        forged, plain = [assemble(ledger.store, ledger.signer, each).data for each in wanted]
    finally:
        ledger.close()
    cases = [json.loads(read_zip(data)[1]["data/case.json"]) for data in (forged, plain)]

    assert failed(forged) == []
    lines = [fact for fact in cases[0]["facts"] if "bank.example" in fact["text"]]
    assert [fact["grade"] for fact in lines] == ["attested-by-provider"]
    for case in cases:
        assert any(line.startswith("Witnesses: no line") for line in case["not_proven"])


def test_what_a_maker_may_leave_out_is_named(files: LedgerFiles) -> None:
    _, found = read_zip(rotated(files, PROVIDER, LOG_KEY))
    case = json.loads(found["data/case.json"])
    named = {line.partition(":")[0]: line for line in case["not_proven"]}

    assert f"as of {case['log']['tree_size']} events" in named["Later events"]
    assert "no key event of the log was left out" in named["Keys"]


def test_every_fact_has_a_grade_and_names_files_that_are_there(files: LedgerFiles) -> None:
    ledger = files.open()
    try:
        for order_id in orders_of(ledger):
            wanted = Wanted(order_id, ledger.head.size, ledger.head.note)
            base, found = read_zip(assemble(ledger.store, ledger.signer, wanted).data)
            case = json.loads(found["data/case.json"])
            facts = [*case["facts"], *case["timeline"]]
            assert all(f["grade"] in GRADES for f in case["facts"])
            assert all(s["grade"] in GRADES for row in case["timeline"] for s in row["says"])
            named = [name for fact in facts for name in fact["files"]]
            assert all(any(file.startswith(name) for file in found) for name in named), base
    finally:
        ledger.close()


# The file that is handed out


def test_the_file_holds_every_part_once_and_needs_no_packages() -> None:
    source = verifier_source().decode()
    tree = ast.parse(source, feature_version=(3, 9))
    names = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
    names += [
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    ]
    imported = {
        (alias.name if isinstance(node, ast.Import) else node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }

    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert imported <= sys.stdlib_module_names
    assert not imported & {"socket", "urllib", "http", "ssl", "subprocess", "ctypes"}
    assert "ledger" not in imported
    assert verifier_source.__wrapped__() == verifier_source()


def test_every_part_is_in_the_file() -> None:
    folder = Path(words.__file__).parent

    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(PARTS)


# Words


def test_what_steers_the_display_is_written_out() -> None:
    assert shown("a\u202eb<i>&\x00\ufeff") == "a[U+202E]b&lt;i&gt;&amp;[U+0000][U+FEFF]"
    assert shown("line\n\ttab ü 漢") == "line\n\ttab ü 漢"


class Page(html.parser.HTMLParser):
    """Notes the tags and attributes of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)


def test_the_report_says_what_people_ask_first(files: LedgerFiles) -> None:
    _, ruled = read_zip(FixedStore().bundle())
    _, told = read_zip(rotated(files, PROVIDER, LOG_KEY))
    case = json.loads(ruled["data/case.json"])
    page, delivered = (each["data/report.html"].decode() for each in (ruled, told))

    assert "It ruled to split: 0.000001 USDC should go back to the client (event 7)." in page
    assert case["dispute"]["ruling"]["outcome"] == "split"
    assert "1 day (86400 seconds)" in page
    assert "<dt>file</dt><dd><code>data/deliverable/content.bin</code></dd>" in delivered
    assert "data/deliverable/content.bin" not in page


def test_the_report_has_no_scripts_links_or_assets(files: LedgerFiles) -> None:
    ledger = files.open()
    try:
        for order_id in orders_of(ledger):
            wanted = Wanted(order_id, ledger.head.size, ledger.head.note)
            data = assemble(ledger.store, ledger.signer, wanted).data
            text = read_zip(data)[1]["data/report.html"].decode()
            page = Page()
            page.feed(text)
            assert not page.tags & {"script", "a", "img", "link", "iframe", "object", "form"}
            assert page.attributes <= {"lang", "charset", "http-equiv", "content", "name", "class"}
            assert "url(" not in text
            assert "@import" not in text
    finally:
        ledger.close()


@pytest.mark.parametrize("text", ["", "description", "description, statement", "deliverable,"])
def test_a_list_of_redactions_is_read(text: str) -> None:
    assert parse_redactions(text) <= REDACTABLE


def test_unknown_redactions_are_refused() -> None:
    with pytest.raises(Exception, match="redact: is a comma list of client_name, comment"):
        parse_redactions("description,price")
    assert {
        "client_name",
        "comment",
        "contact_endpoint",
        "deliverable",
        "delivery_endpoint",
        "description",
        "reason",
        "statement",
        "text",
    } == REDACTABLE


def test_digests_of_content_are_those_of_the_ledger() -> None:
    for raw in (b"", b"text", "ü\u2028\U0001f600\n".encode(), bytes(range(256)), b'{"a": 1}'):
        for form in ("text", "markdown", "json"):
            theirs = digests_of(raw, form, "title")
            ours = content_digests(raw, form, "title")
            assert ours == {
                name: getattr(theirs, name)
                for name in ("raw", "json_digest", "legacy_digest", "object_digest")
                if getattr(theirs, name) is not None
            }


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":NaN}',
        b"\xff",
        b'\xef\xbb\xbf{"a":1}',
        b"[" * 100_000,
        b'{"a":1}x',
        b"",
    ],
)
def test_loose_json_is_refused(data: bytes) -> None:
    with pytest.raises(Bad):
        parse_json(data)


def test_json_has_one_form() -> None:
    assert parse_canonical(b'{"a":"\xc3\xbc"}') == {"a": "ü"}
    for data in (
        b'{"a": 1}',
        b'{"b":1,"a":1}',
        b'{"a":"\\u00fc"}',
        b'{"A":1}',
        b"9007199254740992",
    ):
        with pytest.raises(Bad):
            parse_canonical(data)
    assert pretty({"b": [1], "a": None}) == b'{\n "a": null,\n "b": [\n  1\n ]\n}\n'


def test_amounts_and_moments_have_one_form() -> None:
    assert (usdc(0), usdc(1), usdc(-5_000_000)) == (
        "0.000000 USDC",
        "0.000001 USDC",
        "-5.000000 USDC",
    )
    assert moment_ms("2026-01-01T12:00:00.001Z") == 1_767_268_800_001
    for text in ("2026-13-01T12:00:00.001Z", "2026-01-01T12:00:00Z", "2026-01-01 12:00:00.001Z"):
        with pytest.raises(Bad):
            moment_ms(text)


def test_a_signed_text_of_a_client_is_hashed_as_its_wallet_does() -> None:
    """The digest of EIP-191 counts bytes, not characters."""
    wallet = Wallet("counts bytes")
    said = wallet.sign("übergeben")

    assert recover(said.text.encode(), said.signature) == wallet.address
    assert eip191_digest(b"x") == keccak256(b"\x19Ethereum Signed Message:\n1x")


# The page


PAGE: Final = (Path(__file__).resolve().parents[2] / "docs" / "evidence.md").read_text("utf-8")


def test_the_page_has_every_check_grade_and_exit_code() -> None:
    first = re.findall(r"^\| `?([^`|]+?)`? \|", PAGE, re.MULTILINE)

    assert [cell for cell in first if re.fullmatch(r"E\d\d", cell)] == list(TITLES)
    assert [cell for cell in first if cell in GRADES] == list(GRADES)
    assert [cell for cell in first if cell.isdigit()] == ["0", "1", "2", "3"]
    options = next(line for line in PAGE.splitlines() if line.startswith("| `--redact"))
    assert set(re.findall(r"`([a-z_]+)`", options)) == REDACTABLE


def test_the_page_names_every_file_of_a_bundle(files: LedgerFiles) -> None:
    _, found = read_zip(rotated(files, PROVIDER, LOG_KEY))
    drawn = PAGE.partition("## What is in it")[2].partition("## Grades")[0]
    places = {"/".join(name.split("/")[:2]) for name in found}

    assert {place for place in places if place not in drawn} == set()


def test_a_bundle_that_no_verifier_would_take_is_not_made(
    files: LedgerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger.evidence, "MAX_FILES", 10)
    with pytest.raises(InvalidInput, match="size: the bundle would hold"):
        rotated(files, PROVIDER, LOG_KEY)
    monkeypatch.setattr(ledger.evidence, "MAX_FILES", 60_000)
    monkeypatch.setattr(ledger.evidence, "MAX_BAG_BYTES", 100_000)
    with pytest.raises(InvalidInput, match="redact: the bundle would hold"):
        rotated(files, PROVIDER, LOG_KEY)


# The format


FIXED_SIGNER: Final = Signer(b.PROVIDER.secret)


class FixedStore:
    """A log of one order, made of fixed events at fixed times."""

    def __init__(
        self,
        events: Sequence[Event] | None = None,
        *,
        log_key: LogKey = LOG_KEY,
        signer: Signer = FIXED_SIGNER,
        keys: Sequence[Event] = (),
    ) -> None:
        self._rows: dict[str, list[tuple[int, bytes]]] = {LOG_STREAM: [], b.STREAM: []}
        self._leaves: list[bytes] = []
        self._prev = dict.fromkeys(self._rows, "0" * 64)
        self.log_key, self.signer = log_key, signer
        genesis = {"origin": ORIGIN, "log_key": log_key.vkey, "wallet": signer.address}
        self.add(LOG_STREAM, b.SAMPLES["log_opened"].model_copy(update=genesis))
        for event in keys:
            self.add(LOG_STREAM, event)
        for event in self._order() if events is None else events:
            self.add(b.STREAM, event)

    def _order(self) -> Sequence[Event]:
        now = f"Timestamp: {iso_of(b.NOW)}"
        paid = b.SAMPLES["paid"].model_copy(
            update={"transfers": (b.transfer(),), "total": b.PRICE, "overpaid": 0}
        )
        return (
            b.terms(),
            paid,
            ProcessingStarted(reason="worker"),
            b.SAMPLES["ready"],
            DeliverableCollected(by="bearer", content_hash=b.SAMPLES["ready"].body()["raw"]),
            DeliveryDisputed(
                client=b.CLIENT.text(
                    f"Dispute delivery: {b.ORDER_ID} | Reason: other | Hash: none"
                    f" | Statement: none | {now}"
                ),
                reason="other",
            ),
            DisputeRuled(
                arbiter=b.ARBITER.text(
                    f"Rule dispute: {b.ORDER_ID} | Outcome: split | Amount: 1 | {now}"
                ),
                outcome="split",
                amount=1,
            ),
            b.SAMPLES["refund_recorded"],
        )

    def add(self, stream: str, event: Event) -> None:
        rows = self._rows[stream]
        begins = event.kind in ("quoted", "order_proposed")
        commit = {"description": b.digest_of("description")} if begins else {}
        base = self.base
        place = Seal(ORIGIN, stream, len(rows) + 1, self._prev[stream], b.NOW, base, bytes(16))
        entry = seal(Draft(event, commit), place, self.signer).entry
        self._leaves.append(merkle.leaf_hash(entry))
        self._prev[stream] = self._leaves[-1].hex()
        rows.append((len(self._leaves), entry))

    @property
    def base(self) -> TreeHead:
        return TreeHead(size=0, root=merkle.EMPTY_ROOT.hex())

    def read_stream(self, stream: str) -> list[tuple[int, bytes]]:
        return self._rows[stream]

    def read_kinds(self, stream: str, kinds: Sequence[str]) -> list[tuple[int, bytes]]:
        assert "log_opened" in kinds
        return self._rows[stream]

    def content(self, content_id: str) -> ContentRow | None:
        assert content_id
        return None

    def nodes(self) -> FixedStore:
        return self

    def node(self, level: int, index: int) -> bytes:
        if level == 0:
            return self._leaves[index]
        left, right = self.node(level - 1, 2 * index), self.node(level - 1, 2 * index + 1)
        return merkle.node_hash(left, right)

    def bundle(self) -> bytes:
        size = len(self._leaves)
        note = self.log_key.sign_checkpoint(ORIGIN, size, merkle.root_at(size, self))
        return assemble(self, self.signer, Wanted(b.ORDER_ID, size, note)).data


MADE: Final = {
    1: "5f5b15242a682cc60009621d31d56087f6a7ffdc0e9feca34232a091e085b587",
    2: "48bf352d699dc12b062b3ece52496a2b1e3e5294227b2bd2009e974df2ed54e6",
}
"""By the format's number, the digest of all that is made of one fixed order."""


def test_another_form_needs_another_number() -> None:
    """Verifiers make the pages of a bundle again, so one number stands for one form for ever."""
    assert MADE[FORMAT] == digest_of_pages(FixedStore().bundle())


def digest_of_pages(bundle: bytes) -> str:
    """Return the digest of all that is made of an order; its bundle has to verify."""
    base, found = read_zip(bundle)
    made = hashlib.sha256()
    for name, data in sorted(found.items()):
        # The program is no page, and these hold or sign its hash.
        if name != "verify.py" and not name.startswith("tagmanifest"):
            made.update(f"{name} {len(data)}\n".encode() + data)

    assert failed(build_zip(base, found), roots(wallets=[b.PROVIDER.address])) == []
    return made.hexdigest()
