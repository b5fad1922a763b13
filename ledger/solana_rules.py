"""Which signed Solana transactions count as a payment; written here and nowhere else.

Like `solana_wire`, it also runs where nothing is installed, on Python 3.9: the standard library
and that module only, and the Ed25519 check comes as an argument.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ledger.solana_wire import (
    KEY_BYTES,
    NoPayment,
    SolanaInstruction,
    SolanaTransaction,
    base58_of,
    key_of,
    malformed,
    read_transaction,
    transaction_bytes,
)

VerifyEd25519 = Callable[[bytes, bytes, bytes], bool]
"""Whether the key (32 bytes) made this signature (64 bytes) over the message, as in RFC 8032.

Called with key, message, signature; keys and points of small order never get this far.
"""

USDC_DECIMALS = 6
MAX_SHORTFALL = 1
"""Clients round a binary fraction down, which may cost the last micro."""

CURVE_PRIME = 2**255 - 19
EDWARDS_D = -121665 * pow(121666, -1, CURVE_PRIME) % CURVE_PRIME
Y_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = frozenset({0, 1, CURVE_PRIME - 1, Y_OF_ORDER_8, CURVE_PRIME - Y_OF_ORDER_8})

SYSTEM_PROGRAM = bytes(KEY_BYTES)
TOKEN_PROGRAM = key_of("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
ASSOCIATED_PROGRAM = key_of("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
HARMLESS_PROGRAMS = frozenset(
    {
        key_of("ComputeBudget111111111111111111111111111111"),
        key_of("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"),
        key_of("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"),
    }
)
CREATES_ACCOUNT = (b"", b"\0", b"\1")
ADVANCES_NONCE = (4).to_bytes(4, "little")
_TRANSFER, _TRANSFER_CHECKED = 3, 12
MAX_INSTRUCTIONS = 16
"""Wallets add a few to the transfer. Nodes take no transaction of very many, whoever signed it."""


class SolanaTransfer(NamedTuple):
    """One token transfer, its keys in base58. `payer` is who signed for the tokens."""

    signature: str
    fee_payer: str
    payer: str
    source: str
    destination: str
    amount: int
    mint: str | None
    """None if the instruction names none; then the destination says which it is."""
    blockhash: str


def payment_of(
    transaction_base64: str, *, mint: str, recipient: str, due: int, verify: VerifyEd25519
) -> SolanaTransfer:
    """Return the transfer that pays what is due to the recipient, or raise `NoPayment`."""
    transaction = read_transaction(transaction_bytes(transaction_base64))
    require_signatures(transaction, verify)
    transfer = transfer_of(transaction, mint=mint, recipient=recipient)
    require_amount(transfer.amount, due)
    return transfer


def require_signatures(transaction: SolanaTransaction, verify: VerifyEd25519) -> None:
    """Raise `NoPayment` unless every signature that is asked for is there and right."""
    for key, signature in zip(transaction.signers, transaction.signatures):  # noqa: B905 - Python 3.9; equal by the reader
        weak = has_small_order(key) or has_small_order(signature[:KEY_BYTES])
        if weak or not verify(key, transaction.message, signature):
            text = f"{base58_of(key)} did not sign this transaction"
            raise NoPayment("signature", "signature", text)


def transfer_of(transaction: SolanaTransaction, *, mint: str, recipient: str) -> SolanaTransfer:
    """Return the one transfer to the recipient's own account for the mint, or raise `NoPayment`.

    What could keep a transaction alive beyond its blockhash, or hide where the tokens go, is
    refused: whoever calls a payment void must be sure that it cannot land afterwards.
    """
    if transaction.uses_lookups:
        raise _refused("lookup_table", "address lookup tables are not accepted")
    if len(set(transaction.keys)) != len(transaction.keys):
        raise malformed("it names an account twice")
    if len(transaction.instructions) > MAX_INSTRUCTIONS:
        raise _refused("instructions", f"more than {MAX_INSTRUCTIONS} instructions")
    transfers = [call for call in transaction.instructions if not _is_harmless(call)]
    if len(transfers) != 1:
        raise _refused("transfer_count", "exactly one token transfer is accepted")
    owner, named_mint = key_of(recipient), key_of(mint)
    source, destination, authority, amount, checked = _transfer(transfers[0], named_mint)
    if destination != associated_account(owner, named_mint):
        raise _refused(
            "destination", f"the transfer does not go to {recipient}'s own account for {mint}"
        )
    if authority not in transaction.signers:
        raise _refused("authority", "the owner of the tokens did not sign")
    if source == destination or authority == owner:
        raise _refused("source", "the recipient would pay itself")
    return SolanaTransfer(
        signature=base58_of(transaction.signatures[0]),
        fee_payer=base58_of(transaction.keys[0]),
        payer=base58_of(authority),
        source=base58_of(source),
        destination=base58_of(destination),
        amount=amount,
        mint=mint if checked else None,
        blockhash=base58_of(transaction.blockhash),
    )


def require_amount(amount: int, due: int) -> None:
    """Raise `NoPayment` unless this is the amount due, or one micro less, and not nothing."""
    if amount < 1 or not due - MAX_SHORTFALL <= amount <= due:
        text = f"the transfer moves {amount} micro-units, due are {due} or one less"
        raise NoPayment("amount", "amount", text)


def _is_harmless(call: SolanaInstruction) -> bool:
    """Whether the instruction moves nothing but fees; raise `NoPayment` if it is not accepted."""
    if call.program == TOKEN_PROGRAM:
        return False
    if call.program in HARMLESS_PROGRAMS:
        return True
    if call.program == ASSOCIATED_PROGRAM and call.data in CREATES_ACCOUNT:
        return True
    if call.program == SYSTEM_PROGRAM and call.data[:4] == ADVANCES_NONCE:
        raise _refused("durable_nonce", "a transaction with a durable nonce never expires")
    raise _refused("instruction", f"an instruction of {base58_of(call.program)} is not accepted")


def _transfer(call: SolanaInstruction, mint: bytes) -> tuple[bytes, bytes, bytes, int, bool]:
    """Return source, destination, authority, amount, and whether the mint is named."""
    code, checked = call.data[:1], call.data[:1] == bytes([_TRANSFER_CHECKED])
    if not checked and code != bytes([_TRANSFER]):
        raise _refused("instruction", "of the token program, only Transfer and TransferChecked do")
    accounts = list(call.accounts)
    if len(accounts) > 3 + checked:
        raise _refused("multisig", "multisig owners are not accepted")
    if len(accounts) != 3 + checked or len(call.data) != 9 + checked:
        raise _refused("transfer_form", "the transfer does not have the form of one")
    if checked and accounts.pop(1) != mint:
        raise _refused("mint", "the transfer is in another token")
    if checked and call.data[9] != USDC_DECIMALS:
        raise _refused("decimals", "the transfer counts in other units")
    source, destination, authority = accounts
    return source, destination, authority, int.from_bytes(call.data[1:9], "little"), checked


def _refused(reason: str, text: str) -> NoPayment:
    return NoPayment("refused", reason, text)


@lru_cache(maxsize=256)
def associated_account(wallet: bytes, mint: bytes) -> bytes:
    """Return the wallet's own token account for a mint."""
    seeds = wallet + TOKEN_PROGRAM + mint
    for bump in range(255, -1, -1):
        tail = bytes([bump]) + ASSOCIATED_PROGRAM + b"ProgramDerivedAddress"
        address = hashlib.sha256(seeds + tail).digest()
        if not _is_point(address):
            return address
    msg = "no address is left for this wallet and mint"
    raise ValueError(msg)


def _is_point(raw: bytes) -> bool:
    """Whether 32 bytes are a point of the curve; programs own only addresses that are none."""
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    square = (y * y - 1) * pow(EDWARDS_D * y * y + 1, -1, CURVE_PRIME) % CURVE_PRIME
    return pow(square, (CURVE_PRIME - 1) // 2, CURVE_PRIME) in {0, 1}


def has_small_order(point: bytes) -> bool:
    """Whether a point's order divides 8: anybody can make signatures for such a key."""
    y = int.from_bytes(point, "little") & (2**255 - 1)
    return y % CURVE_PRIME in SMALL_ORDER
