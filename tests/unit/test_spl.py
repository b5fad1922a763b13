"""What a signed transfer must be to count as a payment, and every way in which it is none."""

import base64
import builtins
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageAddressTableLookup, MessageHeader, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import AdvanceNonceAccountParams, TransferParams, advance_nonce_account
from solders.system_program import transfer as lamports
from solders.token import ID as TOKEN
from solders.transaction import Transaction, VersionedTransaction

from ledger.errors import InvalidInput, LedgerError, PaymentRefused, Unauthorized
from ledger.solana_rules import VerifyEd25519, payment_of
from ledger.solana_wire import NoPayment
from ledger.spl import SignedTransfer, SolanaMissing, verify_transfer
from ledger.wallets import SOLANA_USDC, verify_ed25519
from tests.support.solana import (
    USDC,
    base64_of,
    signed,
    signed_transfer,
    token_account,
    transfer,
    wallet_named,
)

CLIENT = wallet_named("client")
OTHER = wallet_named("other")
SHOP = wallet_named("shop")
OWNER, RECIPIENT = str(CLIENT.pubkey()), str(SHOP.pubkey())
SOURCE, DESTINATION = token_account(OWNER), token_account(RECIPIENT)
DUE = 2_010_000
BLOCKHASH = str(Hash.hash(b"some block"))
ATA_PROGRAM = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
MEMOS = (
    "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr",
    "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo",
)
TOKEN_2022 = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
PAYS = transfer(SOURCE, DESTINATION, OWNER, DUE)


def verify(transaction: str, due: int = DUE) -> SignedTransfer:
    return verify_transfer(transaction, mint=USDC, recipient_wallet=RECIPIENT, due_micros=due)


def _checks(key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        verify_ed25519(str(Pubkey(key)), message, signature)
    except Unauthorized:
        return False
    return True


CHECKS: VerifyEd25519 = _checks


def refusal(transaction: str, due: int = DUE) -> LedgerError:
    """Return why it is refused; the reading without packages must say the same."""
    with pytest.raises(LedgerError) as caught:
        verify(transaction, due)
    with pytest.raises(NoPayment) as alone:
        payment_of(transaction, mint=USDC, recipient=RECIPIENT, due=due, verify=CHECKS)
    if "reason" in caught.value.details:
        assert alone.value.reason == caught.value.details["reason"]
    else:
        assert alone.value.kind == "malformed"
    return caught.value


def is_refused(transaction: str, reason: str) -> None:
    error = refusal(transaction)
    assert isinstance(error, PaymentRefused)
    assert (error.code, error.details) == ("INVALID_PAYMENT_HEADER", {"reason": reason})


def is_malformed(transaction: str) -> None:
    error = refusal(transaction)
    assert isinstance(error, InvalidInput)
    assert error.code == "INVALID_PAYMENT_HEADER"
    assert error.details == {"field": "payload.signedTransaction"}


def token_call(data: bytes, *accounts: str, program: Pubkey = TOKEN) -> Instruction:
    """Name accounts of the token program; the client's own wallet signs, nobody else."""
    keys = [Pubkey.from_string(key) for key in accounts]
    return Instruction(
        program, data, [AccountMeta(key, key == CLIENT.pubkey(), is_writable=True) for key in keys]
    )


def checked(decimals: int = 6, mint: str = USDC, amount: int = DUE) -> Instruction:
    data = bytes([12]) + amount.to_bytes(8, "little") + bytes([decimals])
    return token_call(data, SOURCE, mint, DESTINATION, OWNER)


def plain(amount: int = DUE) -> bytes:
    return bytes([3]) + amount.to_bytes(8, "little")


def account_creation(data: bytes) -> Instruction:
    owner = SHOP.pubkey()
    accounts = [
        AccountMeta(CLIENT.pubkey(), is_signer=True, is_writable=True),
        AccountMeta(Pubkey.from_string(DESTINATION), is_signer=False, is_writable=True),
        *(AccountMeta(key, is_signer=False, is_writable=False) for key in (owner, TOKEN)),
    ]
    return Instruction(ATA_PROGRAM, data, accounts)


def memo(program: str) -> Instruction:
    return Instruction(Pubkey.from_string(program), b"order 7", [])


def raw_of(transaction: str) -> bytes:
    return base64.b64decode(transaction)


def version_0(*instructions: Instruction, lookups: Sequence[MessageAddressTableLookup] = ()) -> str:
    message = MessageV0.try_compile(
        CLIENT.pubkey(), list(instructions), [], Hash.from_string(BLOCKHASH)
    )
    if lookups:
        message = MessageV0(
            message.header,
            message.account_keys,
            message.recent_blockhash,
            message.instructions,
            list(lookups),
        )
    return base64_of(VersionedTransaction(message, [CLIENT]))


def test_a_transfer_as_the_sdk_signs_it_is_read_in_full() -> None:
    transaction = signed_transfer(CLIENT, RECIPIENT, DUE, BLOCKHASH)

    paid = verify(transaction)

    assert (paid.payer, paid.fee_payer, paid.amount) == (OWNER, OWNER, DUE)
    assert (paid.source, paid.destination) == (SOURCE, DESTINATION)
    assert (paid.blockhash, paid.transaction) == (BLOCKHASH, transaction)
    assert paid.signature == str(Transaction.from_bytes(raw_of(transaction)).signatures[0])


# Made by the JavaScript libraries @solana/web3.js 1.99.0 and @solana/spl-token 0.1.8.
FROM_JAVASCRIPT = (
    "Ac/ai59elvCJrYawALLuWkNffOaXXSdJ9ymblp2L4z1HeHhLahWWV1+Y6ltCY7p+9J2hHD9XbNUpcLu4EcCaqg0B"
    "AAEE8nGvy2JA5vHYGQnn0pKgqapgCxsT9cPKoVbObleh2qtJv0VcY+36zPe3kaNoaqA4OWq27qRCpOky0wWUn/La"
    "XNYoWxo+k8eRaB5KjiH/ID6exUATyMMyhV0uyPNDWcPIBt324ddloZPZy+FGzut5rBy0he1fWzeROoz1hX7/AKmu"
    "661KeW/MLhXcTGBhtF7Zs3Pyat/HmMp9LYzFgYJxjgEDAwECAAkDj6seAAAAAAA="
)


def test_what_javascript_signs_is_the_same_to_the_byte() -> None:
    blockhash = "CmpNeggWJ4JaWJeJ8YKN1Zypmk7uvQq3PECGUCAEMbky"

    assert signed_transfer(CLIENT, RECIPIENT, DUE - 1, blockhash) == FROM_JAVASCRIPT
    assert verify(FROM_JAVASCRIPT).amount == DUE - 1


ACCEPTED: dict[str, Callable[[], str]] = {
    "checked": lambda: signed([CLIENT], BLOCKHASH, checked()),
    "version 0": lambda: version_0(PAYS),
    "version 0, checked": lambda: version_0(checked()),
    "with fees": lambda: signed(
        [CLIENT], BLOCKHASH, set_compute_unit_limit(9000), set_compute_unit_price(5), PAYS
    ),
    "with memos": lambda: signed([CLIENT], BLOCKHASH, memo(MEMOS[0]), PAYS, memo(MEMOS[1])),
    "creates the account": lambda: signed([CLIENT], BLOCKHASH, account_creation(b""), PAYS),
    "creates it by number": lambda: signed([CLIENT], BLOCKHASH, account_creation(b"\0"), PAYS),
    "creates it if need be": lambda: signed([CLIENT], BLOCKHASH, account_creation(b"\1"), PAYS),
    "another pays the fee": lambda: signed([OTHER, CLIENT], BLOCKHASH, PAYS),
}


@pytest.mark.parametrize("make", ACCEPTED.values(), ids=ACCEPTED)
def test_other_forms_of_the_same_payment_are_accepted(make: Callable[[], str]) -> None:
    transaction = make()

    paid = verify(transaction)

    assert (paid.payer, paid.destination, paid.amount) == (OWNER, DESTINATION, DUE)
    alone = payment_of(transaction, mint=USDC, recipient=RECIPIENT, due=DUE, verify=CHECKS)
    assert (alone.signature, alone.fee_payer) == (paid.signature, paid.fee_payer)


def test_who_pays_the_fee_signs_first_and_need_not_own_the_tokens() -> None:
    paid = verify(signed([OTHER, CLIENT], BLOCKHASH, PAYS))

    assert (paid.payer, paid.fee_payer) == (OWNER, str(OTHER.pubkey()))


def _nonce() -> Instruction:
    params = AdvanceNonceAccountParams(
        nonce_pubkey=OTHER.pubkey(), authorized_pubkey=CLIENT.pubkey()
    )
    return advance_nonce_account(params)


def _lamports() -> Instruction:
    return lamports(
        TransferParams(from_pubkey=CLIENT.pubkey(), to_pubkey=SHOP.pubkey(), lamports=DUE)
    )


def _unsigned_authority() -> str:
    """Move tokens of another, who does not sign."""
    owner = str(OTHER.pubkey())
    call = token_call(plain(), token_account(owner), DESTINATION, owner)
    return signed([CLIENT], BLOCKHASH, call)


def _lookup() -> str:
    table = MessageAddressTableLookup(OTHER.pubkey(), b"\0", b"")
    return version_0(PAYS, lookups=[table])


def _approve() -> Instruction:
    return token_call(bytes([4]) + DUE.to_bytes(8, "little"), SOURCE, str(OTHER.pubkey()), OWNER)


OTHER_MINT = SOLANA_USDC["mainnet"]
REFUSED: dict[str, tuple[str, Callable[[], str]]] = {
    "a durable nonce": ("durable_nonce", lambda: signed([CLIENT], BLOCKHASH, _nonce(), PAYS)),
    "a nonce in the end": ("durable_nonce", lambda: signed([CLIENT], BLOCKHASH, PAYS, _nonce())),
    "a nonce, version 0": ("durable_nonce", lambda: version_0(_nonce(), PAYS)),
    "lamports beside it": ("instruction", lambda: signed([CLIENT], BLOCKHASH, PAYS, _lamports())),
    "lamports instead": ("instruction", lambda: signed([CLIENT], BLOCKHASH, _lamports())),
    "nothing": ("transfer_count", lambda: signed([CLIENT], BLOCKHASH)),
    "a memo alone": ("transfer_count", lambda: signed([CLIENT], BLOCKHASH, memo(MEMOS[0]))),
    "two transfers": ("transfer_count", lambda: signed([CLIENT], BLOCKHASH, PAYS, checked())),
    "an approval beside it": (
        "transfer_count",
        lambda: signed([CLIENT], BLOCKHASH, PAYS, _approve()),
    ),
    "an approval instead": ("instruction", lambda: signed([CLIENT], BLOCKHASH, _approve())),
    "another token program": (
        "instruction",
        lambda: signed(
            [CLIENT],
            BLOCKHASH,
            token_call(plain(), SOURCE, DESTINATION, OWNER, program=TOKEN_2022),
        ),
    ),
    "an account recovered": (
        "instruction",
        lambda: signed([CLIENT], BLOCKHASH, account_creation(b"\2"), PAYS),
    ),
    "a lookup table": ("lookup_table", _lookup),
    "another mint": ("mint", lambda: signed([CLIENT], BLOCKHASH, checked(mint=OTHER_MINT))),
    "other decimals": ("decimals", lambda: signed([CLIENT], BLOCKHASH, checked(decimals=9))),
    "another's account": (
        "destination",
        lambda: signed_transfer(CLIENT, str(OTHER.pubkey()), DUE, BLOCKHASH),
    ),
    "an account for another mint": (
        "destination",
        lambda: signed_transfer(CLIENT, RECIPIENT, DUE, BLOCKHASH, OTHER_MINT),
    ),
    "the wallet itself": (
        "destination",
        lambda: signed([CLIENT], BLOCKHASH, transfer(SOURCE, RECIPIENT, OWNER, DUE)),
    ),
    "another account of the recipient": (
        "destination",
        lambda: signed([CLIENT], BLOCKHASH, transfer(SOURCE, str(OTHER.pubkey()), OWNER, DUE)),
    ),
    "multisig owners": (
        "multisig",
        lambda: signed(
            [CLIENT],
            BLOCKHASH,
            token_call(plain(), SOURCE, DESTINATION, str(OTHER.pubkey()), OWNER),
        ),
    ),
    "multisig owners, checked": (
        "multisig",
        lambda: signed(
            [CLIENT],
            BLOCKHASH,
            token_call(bytes([12]) + plain()[1:] + b"\6", SOURCE, USDC, DESTINATION, OWNER, OWNER),
        ),
    ),
    "no owner": (
        "transfer_form",
        lambda: signed([CLIENT], BLOCKHASH, token_call(plain(), SOURCE, DESTINATION)),
    ),
    "bytes after the amount": (
        "transfer_form",
        lambda: signed(
            [CLIENT], BLOCKHASH, token_call(plain() + b"\0", SOURCE, DESTINATION, OWNER)
        ),
    ),
    "no amount": (
        "transfer_form",
        lambda: signed([CLIENT], BLOCKHASH, token_call(b"\3", SOURCE, DESTINATION, OWNER)),
    ),
    "no instruction number": (
        "instruction",
        lambda: signed([CLIENT], BLOCKHASH, token_call(b"", SOURCE, DESTINATION, OWNER)),
    ),
    "an owner that did not sign": ("authority", _unsigned_authority),
    "the recipient to itself": (
        "source",
        lambda: signed([SHOP], BLOCKHASH, transfer(DESTINATION, DESTINATION, RECIPIENT, DUE)),
    ),
    "the recipient's account by a delegate": (
        "source",
        lambda: signed([CLIENT], BLOCKHASH, transfer(DESTINATION, DESTINATION, OWNER, DUE)),
    ),
}


@pytest.mark.parametrize(("reason", "make"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_payment_is_refused(reason: str, make: Callable[[], str]) -> None:
    is_refused(make(), reason)


@pytest.mark.parametrize("amount", [DUE, DUE - 1])
def test_the_amount_due_or_one_micro_less_pays(amount: int) -> None:
    assert verify(signed_transfer(CLIENT, RECIPIENT, amount, BLOCKHASH)).amount == amount


@pytest.mark.parametrize(
    ("amount", "due"),
    [(DUE - 2, DUE), (DUE + 1, DUE), (2 * DUE, DUE), (2**64 - 1, DUE), (0, DUE), (0, 1), (0, 0)],
)
def test_any_other_amount_is_refused(amount: int, due: int) -> None:
    error = refusal(signed_transfer(CLIENT, RECIPIENT, amount, BLOCKHASH), due)

    assert isinstance(error, PaymentRefused)
    assert error.code == "AMOUNT_MISMATCH"
    assert error.details == {"reason": "amount", "due": str(due), "amount": str(amount)}


def _with_signature(signature: bytes, position: int = 0) -> str:
    raw = bytearray(raw_of(signed([OTHER, CLIENT], BLOCKHASH, PAYS)))
    raw[1 + 64 * position : 65 + 64 * position] = signature
    return base64_of(bytes(raw))


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("signature", [bytes(64), b"\1" + bytes(63), b"\7" * 64])
def test_each_signature_must_be_there_and_right(signature: bytes, position: int) -> None:
    error = refusal(_with_signature(signature, position))

    assert isinstance(error, Unauthorized)
    assert error.code == "INVALID_SIGNATURE"


def test_a_signature_in_its_second_form_is_refused() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    raw = bytearray(raw_of(signed_transfer(CLIENT, RECIPIENT, DUE, BLOCKHASH)))
    s = int.from_bytes(raw[33:65], "little") + order
    raw[33:65] = s.to_bytes(32, "little")

    assert isinstance(refusal(base64_of(bytes(raw))), Unauthorized)


def test_a_changed_message_voids_the_signature() -> None:
    raw = raw_of(signed_transfer(CLIENT, RECIPIENT, DUE, BLOCKHASH))
    changed = raw.replace(DUE.to_bytes(8, "little"), (DUE - 1).to_bytes(8, "little"))

    assert isinstance(refusal(base64_of(changed)), Unauthorized)


def test_a_key_of_small_order_signs_nothing() -> None:
    """For this key, any s with a fitting point verifies where small orders are let in."""
    weak = (1).to_bytes(32, "little")
    accounts = [
        AccountMeta(Pubkey.from_string(key), is_signer=False, is_writable=True)
        for key in (SOURCE, DESTINATION)
    ]
    owner = AccountMeta(Pubkey(weak), is_signer=True, is_writable=True)
    call = Instruction(TOKEN, plain(), [*accounts, owner])
    message = Message.new_with_blockhash([call], Pubkey(weak), Hash.from_string(BLOCKHASH))
    signature = weak + bytes(32)
    raw = b"\1" + signature + bytes(message)

    assert isinstance(refusal(base64_of(raw)), Unauthorized)


GOOD = signed_transfer(CLIENT, RECIPIENT, DUE, BLOCKHASH)
MALFORMED = {
    "empty": "",
    "no base64": "****",
    "line breaks": GOOD[:40] + "\n" + GOOD[40:],
    "url alphabet": GOOD.replace("+", "-").replace("/", "_") + "_",
    "too short": GOOD[:100],
    "one byte": "AQ==",
    "trailing bytes": base64_of(raw_of(GOOD) + b"\0"),
    "one byte less": base64_of(raw_of(GOOD)[:-1]),
    "no signatures": base64_of(b"\0" + raw_of(GOOD)[65:]),
    "a signature too many": base64_of(b"\2" + raw_of(GOOD)[1:65] * 2 + raw_of(GOOD)[65:]),
    "a long form of a length": base64_of(b"\x81\0" + raw_of(GOOD)[1:]),
    "unknown version": base64_of(raw_of(GOOD)[:65] + b"\x81" + raw_of(GOOD)[65:]),
    "padding bits": GOOD[:-2] + "B=" if GOOD.endswith("=") else "AQ=B",
    "too long": base64_of(raw_of(GOOD) + bytes(1232)),
}


@pytest.mark.parametrize("transaction", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_transaction_is_malformed(transaction: str) -> None:
    if transaction == MALFORMED["a long form of a length"]:
        # Such a beginning is that of a transaction of a later version.
        is_refused(transaction, "version")
    else:
        is_malformed(transaction)


def test_an_account_named_twice_is_malformed() -> None:
    message = Message.from_bytes(raw_of(GOOD)[65:])
    doubled = Message.new_with_compiled_instructions(
        1,
        0,
        1,
        [*message.account_keys[:3], message.account_keys[1], message.account_keys[3]],
        message.recent_blockhash,
        [],
    )

    is_malformed(base64_of(Transaction([CLIENT], doubled, doubled.recent_blockhash)))


def test_a_header_that_does_not_fit_is_malformed() -> None:
    message = Message.from_bytes(raw_of(GOOD)[65:])
    for header in (MessageHeader(1, 1, 1), MessageHeader(1, 0, 9)):
        raw = raw_of(GOOD)[:65] + bytes(
            [
                header.num_required_signatures,
                header.num_readonly_signed_accounts,
                header.num_readonly_unsigned_accounts,
            ]
        )
        is_malformed(base64_of(raw + bytes(message)[3:]))


def test_without_the_package_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = builtins.__import__

    def without_solders(name: str, *rest: Any) -> object:  # noqa: ANN401 - as imports are
        if name.partition(".")[0] == "solders":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.delitem(sys.modules, "ledger.solana_signed", raising=False)
    monkeypatch.delattr("ledger.solana_signed", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_solders)

    with pytest.raises(SolanaMissing) as caught:
        verify(GOOD)

    assert caught.value.code == "SOLANA_EXTRA_MISSING"
    assert "ivxp-ledger[solana]" in caught.value.message


def test_any_wallet_may_pay() -> None:
    assert verify(signed_transfer(Keypair(), RECIPIENT, DUE, BLOCKHASH)).amount == DUE
