"""The log's own state: genesis, chain binding, keys, end; folded from the stream `log`. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from ledger.decision import Claimed, Decision, decided
from ledger.entry import SignedEvent
from ledger.errors import Misconfigured
from ledger.event import Transfer
from ledger.keyset import KeySet
from ledger.log_events import (
    ChainBound,
    KeyAdded,
    KeyRevoked,
    LogClosed,
    LogOpened,
    PaymentUnattributed,
)
from ledger.money import TransferId
from ledger.payments import in_parts


@dataclass(frozen=True, slots=True)
class LogState:
    """What the log says of itself."""

    version: int
    genesis: LogOpened
    chain: ChainBound | None = None
    closed: bool = False
    wallets: frozenset[str] = frozenset()
    log_keys: frozenset[str] = frozenset()
    payment_addresses: frozenset[str] = frozenset()
    unattributed: KeySet[TransferId] = field(default_factory=KeySet)
    revoked: frozenset[str] = frozenset()


def evolve_log(state: LogState | None, signed: SignedEvent) -> LogState:
    """Return the log's state after one more of its events."""
    event = signed.event
    if state is None:
        if not isinstance(event, LogOpened):
            msg = f"a log begins with its opening, not with {event.kind!r}"
            raise TypeError(msg)
        return LogState(
            version=signed.seq,
            genesis=event,
            wallets=frozenset({event.wallet}),
            log_keys=frozenset({event.log_key}),
            payment_addresses=frozenset({event.payment_address}),
        )
    state = replace(state, version=signed.seq)
    match event:
        case ChainBound():
            return replace(state, chain=event)
        case LogClosed():
            return replace(state, closed=True)
        case PaymentUnattributed():
            return replace(
                state, unattributed=state.unattributed.adding(t.key for t in event.transfers)
            )
        case KeyAdded():
            return _with_keys(state, event.purpose, add=event.key)
        case KeyRevoked():
            without = _with_keys(state, event.purpose, remove=event.key)
            return replace(without, revoked=state.revoked | {event.key})
        case _:
            return state


def fold_log(events: Iterable[SignedEvent]) -> LogState | None:
    """Return the state that the events of the log's own stream make; None of none."""
    state: LogState | None = None
    for signed in events:
        state = evolve_log(state, signed)
    return state


def record_unattributed(
    state: LogState | None, transfers: Sequence[Transfer], claimed: Claimed
) -> Decision:
    """Record money that no order can be named for, each transfer once."""
    known = state.unattributed if state is not None else KeySet[TransferId]()
    new = [t for t in transfers if t.key not in known and t.key not in claimed]
    return decided(*(PaymentUnattributed(transfers=part) for part in in_parts(new)))


def bind_chain(state: LogState | None, bound: ChainBound) -> Decision:
    """Bind the log to a chain, once; the same chain again changes nothing."""
    if state is not None and state.chain is not None:
        if state.chain.is_same_chain(bound):
            return Decision()
        msg = "the ledger is bound to another chain"
        raise Misconfigured(msg)
    return decided(bound)


def require_settings(state: LogState, wanted: LogOpened) -> None:
    """Raise `Misconfigured` where a setting differs from the genesis as amended."""
    problems = [
        f"{name} is {new!r} but the ledger was opened with {old!r}"
        for name, old, new in (
            ("ORIGIN", state.genesis.origin, wanted.origin),
            ("NETWORK", state.genesis.network, wanted.network),
            ("RECOVERY_ADDRESS", state.genesis.recovery, wanted.recovery),
            ("DEV_CHAIN", state.genesis.dev_chain, wanted.dev_chain),
        )
        if old != new
    ]
    for name, known, new in (
        ("SIGNER", state.wallets, wanted.wallet),
        ("LOG_KEY", state.log_keys, wanted.log_key),
        ("PAYMENT_ADDRESS", state.payment_addresses, wanted.payment_address),
    ):
        if new not in known:
            problems.append(f"{name} is {new!r}, which this ledger does not know")
    if wanted.continues not in (None, state.genesis.continues):
        problems.append("CONTINUES is fixed by the genesis, which says otherwise")
    if problems:
        raise Misconfigured("; ".join(problems))


def _with_keys(
    state: LogState, purpose: str, *, add: str | None = None, remove: str | None = None
) -> LogState:
    plus = frozenset({add} if add else ())
    minus = frozenset({remove} if remove else ())
    match purpose:
        case "wallet":
            return replace(state, wallets=(state.wallets | plus) - minus)
        case "log":
            return replace(state, log_keys=(state.log_keys | plus) - minus)
        case _:
            return replace(state, payment_addresses=(state.payment_addresses | plus) - minus)
