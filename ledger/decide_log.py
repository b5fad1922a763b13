"""Deciders of the log's own keys: who may speak for it from now on, and its end. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ledger.checkpoint import parse_vkey
from ledger.decision import Decision, decided, require_fresh
from ledger.errors import Conflict, InvalidInput, Rejected, Unauthorized, VerificationError
from ledger.event import ClientText
from ledger.log import LogState
from ledger.log_events import KeyAdded, KeyRevoked, LogClosed
from ledger.log_texts import KeyText, parse_closing, parse_possession, parse_revocation
from ledger.values import UnixMs, parse_address

Purpose = Literal["log", "wallet"]
"""The payment address is fixed by genesis: quotes name it, and payments to it are read for ever."""


@dataclass(frozen=True, slots=True)
class AddKey:
    """Let a key speak for the log. A wallet proves that its holder wants this."""

    purpose: Purpose
    key: str
    possession: ClientText | None
    now: UnixMs


@dataclass(frozen=True, slots=True)
class RevokeKey:
    """Take a key's voice after `last_position`.

    `in_use` are the keys that this process signs with; `not_before` is where the newest key of the
    purpose was added, `head` the newest position. A time before now needs the recovery key's text.
    """

    purpose: Purpose
    key: str
    last_position: int
    recovery: ClientText | None
    in_use: frozenset[str]
    not_before: int
    head: int
    now: UnixMs


@dataclass(frozen=True, slots=True)
class CloseLog:
    """End the log: nothing may follow. Only the recovery key can."""

    recovery: ClientText
    now: UnixMs


LogCommand = AddKey | RevokeKey | CloseLog


def decide_log(state: LogState, command: LogCommand) -> Decision:
    """Return the event that the command leads to; raises a `LedgerError` if it is refused."""
    match command:
        case AddKey():
            return _add(state, command)
        case RevokeKey():
            return _revoke(state, command)
        case CloseLog():
            return _close(state, command)


def _add(state: LogState, command: AddKey) -> Decision:
    if command.key in _held(state, command.purpose):
        return Decision()
    if command.key in state.revoked:
        raise Conflict("the key was revoked; a new term needs a new key")
    if command.purpose == "log":
        _require_vkey(command.key, state.genesis.origin)
    if command.purpose == "wallet":
        _require_possession(state, command)
    # Only a wallet's text is compared with anything; another would stand there as if it were.
    possession = command.possession if command.purpose == "wallet" else None
    return decided(KeyAdded(purpose=command.purpose, key=command.key, possession=possession))


def _revoke(state: LogState, command: RevokeKey) -> Decision:
    held = _held(state, command.purpose)
    if command.key not in held:
        msg = "the log knows no such key, or it was revoked before"
        raise Conflict(msg)
    if len(held) == 1 or command.key in command.in_use:
        msg = "the key is in use: add another one, start the service with it, and revoke this then"
        raise Rejected(msg, code="KEY_IN_USE")
    if not command.not_before <= command.last_position <= command.head:
        msg = f"last_position: lies between {command.not_before} and {command.head}"
        raise InvalidInput(msg, details={"field": "last_position"})
    if command.recovery is not None:
        said = _recovered(state, command.recovery, parse_revocation(command.recovery.text), command)
        if (said.key, said.last_position) != (command.key, command.last_position):
            raise Unauthorized("the recovery key's text names another key or position")
    elif command.last_position != command.head:
        raise Unauthorized("a time before now needs the recovery key's signature")
    return decided(
        KeyRevoked(
            purpose=command.purpose,
            key=command.key,
            last_position=command.last_position,
            recovery=command.recovery,
        )
    )


def _close(state: LogState, command: CloseLog) -> Decision:
    said = _recovered(state, command.recovery, parse_closing(command.recovery.text), command)
    return decided(LogClosed(reason=said.reason, recovery=command.recovery))


def _held(state: LogState, purpose: Purpose) -> frozenset[str]:
    return state.log_keys if purpose == "log" else state.wallets


def _require_vkey(text: str, origin: str) -> None:
    try:
        key = parse_vkey(text)
    except VerificationError as error:
        raise InvalidInput(f"key: {error.message}", details={"field": "key"}) from error
    if key.name != origin:
        raise InvalidInput("key: a log key is named after the log", details={"field": "key"})


def _require_possession(state: LogState, command: AddKey) -> None:
    if parse_address(command.key) != command.key:
        raise InvalidInput("key: an address in lower case", details={"field": "key"})
    if command.possession is None or command.possession.signer != command.key:
        raise Unauthorized("the new wallet has to sign that it is to be added")
    said = parse_possession(command.possession.text)
    if (said.key, said.origin) != (command.key, state.genesis.origin):
        raise Unauthorized("the new wallet's text names another key or log")
    require_fresh(said.stamp, command.now)


def _recovered(
    state: LogState, text: ClientText, said: KeyText, command: RevokeKey | CloseLog
) -> KeyText:
    """Return what the recovery key said of this log just now, or raise `Unauthorized`."""
    if text.signer != state.genesis.recovery:
        raise Unauthorized("the signature is not that of the recovery key")
    if said.origin != state.genesis.origin:
        raise Unauthorized("the recovery key's text names another log")
    require_fresh(said.stamp, command.now)
    return said
