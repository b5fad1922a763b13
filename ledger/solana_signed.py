"""Reads signed transactions with the library that Solana's own programs are built on.

The only module that imports it, so that everything else runs without the extra.
"""

from __future__ import annotations

from solders.message import Message, MessageV0, to_bytes_versioned
from solders.transaction import SanitizeError, VersionedTransaction

from ledger.solana_wire import NoPayment, SolanaInstruction, SolanaTransaction, malformed


def read_signed(raw: bytes) -> SolanaTransaction:
    """Return the parts of a transaction that all its signers signed, or raise `NoPayment`."""
    try:
        parsed = VersionedTransaction.from_bytes(raw)
        parsed.sanitize()
    except (ValueError, SanitizeError) as error:
        raise malformed(str(error)) from error
    # The library passes over what follows the end.
    if bytes(parsed) != raw:
        raise malformed("it is not written in its one form")
    message = parsed.message
    if not isinstance(message, Message | MessageV0):
        raise malformed("its message has an unknown version")
    if not all(parsed.verify_with_results()):
        raise NoPayment("signature", "signature", "a signature is missing or wrong")
    keys = tuple(bytes(key) for key in message.account_keys)
    return SolanaTransaction(
        signatures=tuple(bytes(signature) for signature in parsed.signatures),
        message=to_bytes_versioned(message),
        keys=keys,
        signers=keys[: message.header.num_required_signatures],
        blockhash=bytes(message.recent_blockhash),
        instructions=_instructions(message, keys),
        uses_lookups=isinstance(message, MessageV0) and bool(message.address_table_lookups),
    )


def _instructions(
    message: Message | MessageV0, keys: tuple[bytes, ...]
) -> tuple[SolanaInstruction, ...]:
    # An account in a lookup table has no key here; such transactions are refused anyway.
    found = dict(enumerate(keys))
    return tuple(
        SolanaInstruction(
            keys[call.program_id_index],
            tuple(found.get(index, b"") for index in call.accounts),
            call.data,
        )
        for call in message.instructions
    )
