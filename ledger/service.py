"""The ledger as the rest of the product uses it: open, execute a command, read, prove."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from ledger.batch import Remember, Task
from ledger.checkpoint import LogKey
from ledger.cursor import decide_cursor
from ledger.cursor_commands import CursorCommand
from ledger.cursor_events import CursorState
from ledger.decide import OrderCommand, decide, transfers_of
from ledger.decide_log import LogCommand, decide_log
from ledger.decision import Claimed, Decision, decided
from ledger.entry import SignedEvent, read_entry
from ledger.errors import Misconfigured, VerificationError
from ledger.event import Transfer
from ledger.guard import Guard
from ledger.log import LogState, bind_chain, record_unattributed
from ledger.log_events import KEY_KINDS, ChainBound, Continues, LogOpened
from ledger.market import Agent, Conversation, MarketCommand, MarketState, decide_market
from ledger.opening import check_guard, check_settings, lock_folder, open_store
from ledger.order import Order
from ledger.proofs import Proofs
from ledger.receipt import Receipt, SignedHead
from ledger.signing import Signer
from ledger.store_sqlite import ContentRow
from ledger.stream import ReadHeads
from ledger.values import LOG_STREAM, UnixMs, agent_stream, conversation_stream, order_stream
from ledger.writer import Writer

Clock = Callable[[], UnixMs]
S = TypeVar("S")


def system_clock() -> UnixMs:
    """Return the present Unix milliseconds; the only clock of the service."""
    return UnixMs(time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """What a ledger needs to open. Secrets are 32 bytes each."""

    data_dir: Path
    guard_file: Path
    origin: str
    network: str
    wallet_secret: bytes
    log_seed: bytes
    payment_address: str
    recovery_address: str
    dev_chain: bool
    clock: Clock = system_clock
    continues: Continues | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """An event with its position, as readers get it."""

    position: int
    signed: SignedEvent


class Ledger:
    """The only writer of the only truth. Decisions read streams, never views."""

    def __init__(self, config: LedgerConfig) -> None:
        """Open or create it; on `Misconfigured` or `VerificationError` nothing is held."""
        # It holds clients' words and the keys: for this user alone.
        config.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.guard_file.parent.mkdir(parents=True, exist_ok=True)
        self.clock: Final = config.clock
        self.origin: Final = config.origin
        self.signer: Final = Signer(config.wallet_secret)
        self.log_key: Final = LogKey(config.origin, config.log_seed)
        self._lock = lock_folder(config.data_dir / "ledger.lock")
        try:
            self.store: Final = open_store(config.data_dir / "ledger.db")
        except BaseException:
            os.close(self._lock)
            raise
        self._read = ReadHeads()
        self.proofs: Final = Proofs(self.store, self.signer, self.log_key, self.origin)
        self._guard = Guard(
            config.guard_file,
            log_vkeys=frozenset({self.log_key.vkey}),
            origin=config.origin,
            clock=time.monotonic,
        )
        try:
            wanted = self._wanted(config)
            self._guard.log_vkeys = check_settings(self.store, wanted)
            size, _ = self.store.frontier()
            check_guard(config.guard_file, self._guard.read(), size, self.proofs.root_at)
            self._writer = Writer(
                self.store,
                signer=self.signer,
                log_key=self.log_key,
                guard=self._guard,
                origin=config.origin,
            )
            self._open_log(wanted)
        except BaseException:
            self.store.close()
            os.close(self._lock)
            raise

    def start(self, on_commit: Callable[[], None] = lambda: None) -> None:
        """Start writing; `on_commit` is called in the writer's thread after each batch."""
        self._writer.on_commit = on_commit
        self._writer.start()

    def stop(self) -> None:
        """Finish what is queued and write no more; reading goes on until `close`."""
        self._writer.stop()

    def close(self) -> None:
        """Stop, make the guard durable, and let go of the files."""
        self.stop()
        self._guard.close()
        self.store.close()
        os.close(self._lock)

    @property
    def head(self) -> SignedHead:
        """The newest signed head."""
        return self._writer.head

    @property
    def moment(self) -> UnixMs:
        """The time that an event would carry now: it never goes back, whatever the clock does."""
        return max(self.clock(), self._writer.last_at)

    @property
    def log_state(self) -> LogState:
        """What the log says of itself."""
        head = self._writer.cache.get(LOG_STREAM)
        if head is None:
            head = self.store.load(LOG_STREAM)
        if not isinstance(head.state, LogState):
            msg = "the ledger has no genesis"
            raise VerificationError(msg)
        return head.state

    async def execute(
        self,
        order_id: str,
        command: OrderCommand,
        content: tuple[ContentRow, ...] = (),
        remember: Remember | None = None,
    ) -> Receipt:
        """Decide a command of an order and make it durable.

        Returns the receipt, or raises the `LedgerError` it was refused with; an error raised after
        an append carries `receipt`. `content` and the answer to `remember` are stored in the
        transaction of its events.
        """

        def decide_order(state: Order | None, claimed: Claimed, _at: UnixMs) -> Decision:
            return decide(state, command, claimed)

        stream = order_stream(order_id)
        task = Task(stream, decide_order, command.now, transfers_of(command), content, remember)
        return await self._writer.submit(task)

    async def act_on_cursor(self, stream: str, command: CursorCommand) -> Receipt:
        """Decide an act on a cursor and make it durable; raises what it was refused with."""

        def decide_act(state: CursorState | None, _claimed: Claimed, at: UnixMs) -> Decision:
            return decide_cursor(state, command, at)

        return await self._writer.submit(Task(stream, decide_act, command.now))

    async def act_on_market(
        self,
        stream: str,
        command: MarketCommand,
        content: tuple[ContentRow, ...] = (),
        remember: Remember | None = None,
    ) -> Receipt:
        """Decide what concerns an agent or a conversation, and make it durable."""

        def decide_act(state: MarketState | None, _claimed: Claimed, _at: UnixMs) -> Decision:
            return decide_market(state, command)

        task = Task(stream, decide_act, command.now, (), content, remember)
        return await self._writer.submit(task)

    async def cursor(self, stream: str) -> CursorState | None:
        """Return a cursor as committed, or None if it was never opened."""
        return await self._state(stream, CursorState)

    async def agent(self, agent: str) -> Agent | None:
        """Return an agent of the marketplace as committed."""
        return await self._state(agent_stream(agent), Agent)

    async def conversation(self, conversation: str) -> Conversation | None:
        """Return a conversation as committed."""
        return await self._state(conversation_stream(conversation), Conversation)

    async def bind_chain(self, bound: ChainBound) -> None:
        """Record the chain at first contact; later it must be the same one."""
        known = self.log_state.chain
        if known is None:
            await self._writer.submit(
                Task(LOG_STREAM, lambda state, _, __: bind_chain(state, bound), self.clock())
            )
        elif not known.is_same_chain(bound):
            msg = f"the ledger was made on {known.chain} with genesis {known.genesis_hash}"
            raise Misconfigured(msg)

    async def change_keys(self, command: LogCommand) -> Receipt:
        """Add or revoke a key, or close the log; raises the `LedgerError` it was refused with."""

        def decide_keys(state: LogState | None, _claimed: Claimed, _at: UnixMs) -> Decision:
            if state is None:
                raise VerificationError("the ledger has no genesis")
            return decide_log(state, command)

        return await self._writer.submit(Task(LOG_STREAM, decide_keys, command.now))

    async def record_unattributed(self, transfers: Sequence[Transfer]) -> Receipt:
        """Record transfers that no order can be named for, once each; they stay claimable."""
        keys = tuple(transfer.key for transfer in transfers)

        def decide_log(state: LogState | None, claimed: Claimed, _at: UnixMs) -> Decision:
            return record_unattributed(state, transfers, claimed)

        return await self._writer.submit(Task(LOG_STREAM, decide_log, self.clock(), keys))

    async def order(self, order_id: str) -> Order | None:
        """Return an order as committed; from memory if it was used lately."""
        return await self._state(order_stream(order_id), Order)

    async def _state(self, stream: str, kind: type[S]) -> S | None:
        head = self._writer.cache.get(stream)
        if head is None:
            head = self._read.get(stream, self.store.newest_position(stream))
        if head is None:
            head = await asyncio.to_thread(self.store.load, stream)
            self._read.put(head)
        return head.state if isinstance(head.state, kind) else None

    def read(self, *, after: int, limit: int) -> list[Placed]:
        """Return up to `limit` events after a position, in order."""
        return [Placed(p, read_entry(e)) for p, e in self.store.read(after=after, limit=limit)]

    def read_order(self, order_id: str) -> list[Placed]:
        """Return the events of an order, in order."""
        return [Placed(p, read_entry(e)) for p, e in self.store.read_stream(order_stream(order_id))]

    def read_stream(self, stream: str) -> list[Placed]:
        """Return the events of any stream, in order."""
        return [Placed(p, read_entry(e)) for p, e in self.store.read_stream(stream)]

    def key_events(self) -> list[Placed]:
        """Return the events that say which keys speak for the log, in order."""
        rows = self.store.read_kinds(LOG_STREAM, KEY_KINDS)
        return [Placed(p, read_entry(e)) for p, e in rows]

    def _wanted(self, config: LedgerConfig) -> LogOpened:
        return LogOpened(
            origin=config.origin,
            network=config.network,
            log_key=self.log_key.vkey,
            wallet=self.signer.address,
            payment_address=config.payment_address,
            recovery=config.recovery_address,
            dev_chain=config.dev_chain,
            continues=config.continues,
        )

    def _open_log(self, wanted: LogOpened) -> None:
        if self.store.size():
            return
        task = Task(LOG_STREAM, lambda _state, _claimed, _at: decided(wanted), self.clock())
        answer = self._writer.run([task])[0]
        if isinstance(answer, Exception):
            raise answer
