"""Two readers of one transaction, ours and Solana's own library, never come to two verdicts."""

import base64
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import base58
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import (
    Message,
    MessageAddressTableLookup,
    MessageHeader,
    MessageV0,
    to_bytes_versioned,
)
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.token import ID as TOKEN
from solders.token.associated import get_associated_token_address
from solders.transaction import Transaction, VersionedTransaction

from ledger.errors import InvalidInput, LedgerError, PaymentRefused, Unauthorized
from ledger.evidence_verify.basics import Bad
from ledger.evidence_verify.curves import require_ed25519
from ledger.solana_rules import associated_account, payment_of
from ledger.solana_wire import (
    NoPayment,
    base58_of,
    key_of,
    read_transaction,
    signature_of,
    transaction_bytes,
)
from ledger.spl import verify_transfer
from tests.support.solana import (
    USDC,
    base64_of,
    signed_transfer,
    token_account,
    transfer,
    wallet_named,
)

ROOT = Path(__file__).resolve().parent.parent.parent
CLIENT, OTHER = wallet_named("client"), wallet_named("other")
OWNER = str(CLIENT.pubkey())
RECIPIENT = str(wallet_named("shop").pubkey())
SOURCE, DESTINATION = token_account(OWNER), token_account(RECIPIENT)
DUE = 2_010_000
BLOCKHASH = Hash.hash(b"some block")
PROGRAMS = [
    TOKEN,
    Pubkey.from_string("ComputeBudget111111111111111111111111111111"),
    Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"),
    Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL"),
    Pubkey(bytes(32)),
]
ACCOUNTS = [*map(Pubkey.from_string, (SOURCE, DESTINATION, OWNER, USDC)), OTHER.pubkey(), *PROGRAMS]
SIGNERS = {CLIENT.pubkey(), OTHER.pubkey()}
KINDS = {InvalidInput: "malformed", Unauthorized: "signature"}


def _checks(key: bytes, message: bytes, signature: bytes) -> bool:
    """Verify as somebody does who has no package."""
    try:
        require_ed25519(key, message, signature)
    except Bad:
        return False
    return True


def verdict_alone(transaction: str) -> tuple[object, ...]:
    try:
        paid = payment_of(transaction, mint=USDC, recipient=RECIPIENT, due=DUE, verify=_checks)
    except NoPayment as error:
        return error.kind, (error.reason if error.kind in {"amount", "refused"} else None)
    facts = (paid.signature, paid.payer, paid.fee_payer, paid.source, paid.destination)
    return *facts, paid.amount, paid.blockhash


def verdict_of_library(transaction: str) -> tuple[object, ...]:
    try:
        paid = verify_transfer(transaction, mint=USDC, recipient_wallet=RECIPIENT, due_micros=DUE)
    except PaymentRefused as error:
        kind = "amount" if error.code == "AMOUNT_MISMATCH" else "refused"
        return kind, error.details["reason"]
    except LedgerError as error:
        return KINDS[type(error)], None
    facts = (paid.signature, paid.payer, paid.fee_payer, paid.source, paid.destination)
    return *facts, paid.amount, paid.blockhash


VERDICTS = [
    ("malformed", None),
    ("signature", None),
    ("amount", "amount"),
    ("refused", "transfer_count"),
    ("refused", "instruction"),
    ("refused", "lookup_table"),
]


def agree(transaction: str) -> tuple[object, ...]:
    told = verdict_alone(transaction)
    assert told == verdict_of_library(transaction)
    return told


@st.composite
def calls(draw: st.DrawFn) -> Instruction:
    """Draw an instruction that is often a right one and never far from it."""
    if draw(st.booleans()):
        amount = draw(st.sampled_from([DUE, DUE, DUE - 1, DUE + 1, 0]))
        return transfer(SOURCE, DESTINATION, OWNER, amount)
    accounts = draw(st.lists(st.sampled_from(ACCOUNTS), max_size=6))
    numbers = st.sampled_from([b"", b"\0", b"\1", b"\2", b"\3", b"\4", b"\x0c"])
    data = draw(numbers) + draw(st.sampled_from([b"", bytes(3), DUE.to_bytes(8, "little")]))
    data += draw(st.sampled_from([b"", b"\6", b"\t"]))
    metas = [AccountMeta(key, key in SIGNERS, draw(st.booleans())) for key in accounts]
    return Instruction(draw(st.sampled_from(PROGRAMS)), data, metas)


@st.composite
def built(draw: st.DrawFn) -> bytes:
    """Draw a signed transaction of up to three instructions, legacy or of version 0."""
    instructions = draw(st.lists(calls(), min_size=1, max_size=3))
    payer = draw(st.sampled_from([CLIENT, CLIENT, OTHER]))
    message: Message | MessageV0 = Message.new_with_blockhash(
        instructions, payer.pubkey(), BLOCKHASH
    )
    if draw(st.booleans()):
        message = MessageV0.try_compile(payer.pubkey(), instructions, [], BLOCKHASH)
    return bytes(_signed(message))


def _signed(message: Message | MessageV0) -> VersionedTransaction:
    by_key = {signer.pubkey(): signer for signer in (CLIENT, OTHER)}
    needed = message.account_keys[: message.header.num_required_signatures]
    return VersionedTransaction(message, [by_key[key] for key in needed])


@st.composite
def composed(draw: st.DrawFn) -> bytes:
    """Draw a message whose parts may not fit together, signed by whoever it names."""
    right = Message.new_with_blockhash(
        draw(st.lists(calls(), min_size=1, max_size=3)), CLIENT.pubkey(), BLOCKHASH
    )
    keys = right.account_keys + draw(st.lists(st.sampled_from(ACCOUNTS), max_size=1))
    counts = [
        right.header.num_required_signatures,
        right.header.num_readonly_signed_accounts,
        right.header.num_readonly_unsigned_accounts,
    ]
    counts[draw(st.integers(0, 2))] = draw(st.sampled_from([counts[0], 0, 1, 2, len(keys)]))
    index = st.binary(max_size=2)
    table = st.builds(MessageAddressTableLookup, st.sampled_from(ACCOUNTS), index, index)
    lookups = draw(st.lists(table, max_size=2))
    message = MessageV0(MessageHeader(*counts), keys, BLOCKHASH, right.instructions, lookups)
    body = to_bytes_versioned(message)
    signatures = [
        bytes((CLIENT if key == CLIENT.pubkey() else OTHER).sign_message(body))
        for key in keys[: counts[0]]
    ]
    return bytes([len(signatures)]) + b"".join(signatures) + body


@st.composite
def mutated(draw: st.DrawFn, sources: st.SearchStrategy[bytes]) -> bytes:
    """Draw a transaction with some bytes changed, left out or put in, and sign it again."""
    raw = bytearray(draw(sources))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        how = draw(st.sampled_from(["set", "cut", "put", "end"]))
        if how == "set" and at < len(raw):
            raw[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del raw[at : at + draw(st.integers(1, 3))]
        elif how == "put":
            raw[at:at] = draw(st.binary(min_size=1, max_size=3))
        elif how == "end":
            del raw[at:]
    return _signed_again(bytes(raw)) if draw(st.booleans()) else bytes(raw)


def _signed_again(raw: bytes) -> bytes:
    """Put right signatures over the changed message, where there is one to sign."""
    length = 1 + 64 * raw[0] if raw else 0
    body = raw[length:]
    if not 0 < length <= 129 or len(body) < 4:
        return raw
    one = bytes(CLIENT.sign_message(body))
    two = bytes(OTHER.sign_message(body))
    return raw[:1] + (one + two)[: length - 1] + body


TRANSACTIONS = st.one_of(built(), composed())


@settings(max_examples=300)
@given(TRANSACTIONS)
def test_signed_transactions_get_one_verdict(raw: bytes) -> None:
    agree(base64_of(raw))


@pytest.mark.slow
@settings(max_examples=700)
@given(mutated(TRANSACTIONS))
def test_mutated_transactions_get_one_verdict(raw: bytes) -> None:
    agree(base64_of(raw))


@given(st.binary(max_size=1300))
@example(b"")
@example(b"\x80")
@example(b"\x81" + bytes(200))
def test_any_bytes_get_one_verdict(raw: bytes) -> None:
    assert agree(base64_of(raw))


@given(st.text(max_size=40))
def test_any_text_gets_one_verdict(text: str) -> None:
    assert agree(text)


def test_the_examples_reach_every_common_verdict() -> None:
    """Draw what the tests above draw: they would show little if it were all malformed."""
    seen: Counter[object] = Counter()

    @settings(max_examples=600, database=None, derandomize=True)
    @given(st.one_of(TRANSACTIONS, mutated(built())))
    def draw(raw: bytes) -> None:
        seen[verdict_of_library(base64_of(raw))[:2]] += 1

    draw()
    paid = sum(seen[each] for each in seen if each not in VERDICTS)
    print(f"paid: {paid}", {each: seen[each] for each in VERDICTS})  # noqa: T201 - figures
    assert [each for each in VERDICTS if not seen[each]] == []
    assert paid


@pytest.mark.slow
def test_every_bit_of_a_payment_counts() -> None:
    """Flip each bit in turn: no such transaction pays, and both readers know."""
    raw = base64.b64decode(signed_transfer(CLIENT, RECIPIENT, DUE, str(BLOCKHASH)))
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        assert agree(base64_of(bytes(changed)))[0] in {"malformed", "signature", "refused"}


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
@example(bytes(32), bytes(32))
def test_the_account_of_a_wallet_is_the_librarys(wallet: bytes, mint: bytes) -> None:
    expected = get_associated_token_address(Pubkey(wallet), Pubkey(mint))

    assert associated_account(wallet, mint) == bytes(expected)


@given(st.binary(max_size=70))
@example(bytes(32))
@example(b"\0\0\1")
def test_base58_is_the_librarys(raw: bytes) -> None:
    assert base58_of(raw) == base58.b58encode(raw).decode()
    if len(raw) == 32:
        assert key_of(base58_of(raw)) == raw


@pytest.mark.parametrize(
    "text", ["", "1", "1" * 31, "1" * 33, "0" * 32, "l" * 44, "z" * 44, OWNER + " ", "é" * 44]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="base58 of 32 bytes"):
        key_of(text)


def test_the_first_signature_names_the_transaction() -> None:
    transaction = signed_transfer(CLIENT, RECIPIENT, DUE, str(BLOCKHASH))
    expected = Transaction.from_bytes(base64.b64decode(transaction)).signatures[0]

    assert signature_of(transaction) == str(expected)
    parts = read_transaction(transaction_bytes(transaction))
    assert parts.message == base64.b64decode(transaction)[65:]
    assert Signature(parts.signatures[0]).verify(CLIENT.pubkey(), parts.message)


ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
from solana_rules import payment_of
from solana_wire import NoPayment
told = payment_of(sys.argv[2], mint=sys.argv[3], recipient=sys.argv[4], due=int(sys.argv[5]),
                  verify=lambda key, message, signature: True)
print(told.signature, told.amount)
tops = {name.partition(".")[0] for name in sys.modules}
assert tops.isdisjoint({"solders", "pydantic", "base58", "ledger"})
"""


def test_it_runs_where_no_package_is(tmp_path: Path) -> None:
    for name in ("solana_wire", "solana_rules"):
        text = (ROOT / "ledger" / f"{name}.py").read_text()
        imported = set(re.findall(r"^(?:from|import) ([\w.]+)", text, re.MULTILINE))
        ours = {each for each in imported if each.startswith("ledger")}
        assert ours <= {"ledger.solana_wire"}
        assert {each.partition(".")[0] for each in imported - ours} <= sys.stdlib_module_names
        (tmp_path / f"{name}.py").write_text(text.replace("ledger.", ""))
    transaction = signed_transfer(CLIENT, RECIPIENT, DUE, str(BLOCKHASH))
    command = [sys.executable, "-I", "-S", "-c", ALONE, str(tmp_path)]

    ran = subprocess.run(
        [*command, transaction, USDC, RECIPIENT, str(DUE)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )

    assert ran.stdout.split() == [signature_of(transaction), str(DUE)]
