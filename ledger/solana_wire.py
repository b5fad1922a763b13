"""Takes a serialized Solana transaction apart, without any package.

It also runs where nothing is installed, on Python 3.9: standard library only. Which transactions
count as a payment is written in `solana_rules`.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MAX_TRANSACTION_BYTES = 1232
"""What fits in one packet; validators drop anything longer."""
VERSIONED = 0x80


class NoPayment(Exception):
    """The transaction is no payment that can be relied on.

    `kind` is malformed, signature, amount or refused; `reason` one word; the text is for people.
    """

    def __init__(self, kind: str, reason: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        self.reason = reason


def malformed(text: str) -> NoPayment:
    """Return the error of a transaction that has not the form of one."""
    return NoPayment("malformed", "transaction", f"the transaction is malformed: {text}")


class SolanaInstruction(NamedTuple):
    program: bytes
    accounts: tuple[bytes, ...]
    data: bytes


class SolanaTransaction(NamedTuple):
    """What the signers signed (`message`), and the same taken apart."""

    signatures: tuple[bytes, ...]
    message: bytes
    keys: tuple[bytes, ...]
    signers: tuple[bytes, ...]
    blockhash: bytes
    instructions: tuple[SolanaInstruction, ...]
    uses_lookups: bool


def base58_of(raw: bytes) -> str:
    number, digits = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = BASE58[digit] + digits
    return "1" * (len(raw) - len(raw.lstrip(b"\0"))) + digits


def key_of(text: str) -> bytes:
    """Return the 32 bytes of a key in base58, or raise `ValueError`."""
    number = 0
    for letter in text[: 2 * KEY_BYTES]:
        # A letter of no digit counts as 0, and then the way back does not give the text.
        number = number * 58 + max(BASE58.find(letter), 0)
    raw = number.to_bytes(max(KEY_BYTES, (number.bit_length() + 7) // 8), "big")
    if len(raw) != KEY_BYTES or base58_of(raw) != text:
        msg = "a key is the base58 of 32 bytes"
        raise ValueError(msg)
    return raw


def transaction_bytes(transaction_base64: str) -> bytes:
    """Return the bytes of a transaction in its one base64 form, or raise `NoPayment`."""
    text = transaction_base64
    if len(text) > (MAX_TRANSACTION_BYTES + 2) // 3 * 4 or not BASE64.fullmatch(text):
        raise NoPayment("malformed", "base64", "the transaction is no base64 of at most 1232 bytes")
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if base64.b64encode(raw).decode() != text or len(raw) > MAX_TRANSACTION_BYTES:
        raise NoPayment("malformed", "base64", "the transaction is no base64 of at most 1232 bytes")
    if raw[:1] >= bytes([VERSIONED]):
        text = "transactions of version 1 and later are not accepted"
        raise NoPayment("refused", "version", text)
    return raw


class _Reader:
    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0

    def take(self, length: int) -> bytes:
        taken = self.raw[self.at : self.at + length]
        if len(taken) != length:
            raise malformed("it ends too early")
        self.at += length
        return taken

    def byte(self) -> int:
        return self.take(1)[0]

    def count(self) -> int:
        """Read a length of one to three bytes, seven bits each; a longer form than needed fails."""
        value = 0
        for shift in (0, 7, 14):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < VERSIONED:
                if (shift and not byte) or value >= 2**16:
                    break
                return value
        raise malformed("a length is not written in its one form")

    def keys(self) -> tuple[bytes, ...]:
        return tuple(self.take(KEY_BYTES) for _ in range(self.count()))

    def block(self) -> bytes:
        return self.take(self.count())


def read_transaction(raw: bytes) -> SolanaTransaction:
    """Return the parts of a serialized transaction that is well formed, or raise `NoPayment`."""
    reader = _Reader(raw)
    signatures = tuple(reader.take(SIGNATURE_BYTES) for _ in range(reader.count()))
    start = reader.at
    first = reader.byte()
    versioned = first >= VERSIONED
    if versioned and first != VERSIONED:
        raise malformed("its message has an unknown version")
    signed, read_only, others_read_only = (
        reader.byte() if versioned else first,
        reader.byte(),
        reader.byte(),
    )
    keys, blockhash = reader.keys(), reader.take(KEY_BYTES)
    if len(signatures) != signed or read_only >= signed or signed + others_read_only > len(keys):
        raise malformed("its header does not fit its keys and signatures")
    calls = [(reader.byte(), reader.block(), reader.block()) for _ in range(reader.count())]
    looked_up = _read_lookups(reader) if versioned else 0
    if reader.at != len(raw):
        raise malformed("something follows its end")
    return SolanaTransaction(
        signatures=signatures,
        message=raw[start:],
        keys=keys,
        signers=keys[:signed],
        blockhash=blockhash,
        instructions=_instructions(calls, keys, looked_up),
        uses_lookups=looked_up > 0,
    )


def _read_lookups(reader: _Reader) -> int:
    """Return how many accounts stand in tables."""
    total = 0
    for _ in range(reader.count()):
        reader.take(KEY_BYTES)
        accounts = len(reader.block()) + len(reader.block())
        if not accounts:
            raise malformed("it names a table and no account in it")
        total += accounts
    return total


def _instructions(
    calls: list[tuple[int, bytes, bytes]], keys: tuple[bytes, ...], looked_up: int
) -> tuple[SolanaInstruction, ...]:
    total = len(keys) + looked_up
    if total > 2**8:
        raise malformed("it names more accounts than an index reaches")
    for program, accounts, _ in calls:
        # The fee payer is the first key, and no program.
        if not 0 < program < len(keys) or max(accounts, default=0) >= total:
            raise malformed("an instruction names an account that is not there")
    return tuple(
        SolanaInstruction(
            keys[program], tuple(keys[i] if i < len(keys) else b"" for i in accounts), data
        )
        for program, accounts, data in calls
    )


def signature_of(transaction_base64: str) -> str:
    """Return the first signature, by which the chain knows the transaction."""
    return base58_of(read_transaction(transaction_bytes(transaction_base64)).signatures[0])
