"""Read the chain for transfers that nobody told of, and give each to the order it is for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

import structlog
from aiohttp import web

from api.keys import CHAIN, LEDGER, LIMITS, RUNNER, SETTINGS, VIEWS
from api.workers.gone import is_over
from ledger.chain import Chain
from ledger.chain_place import PlaceFile, read_place, write_place
from ledger.chain_scan import Span, Swept
from ledger.chain_transfers import Way
from ledger.commands import RecordTransfers
from ledger.errors import ChainUnavailable, LedgerError
from ledger.event import Transfer
from ledger.matching import CLOCK_SKEW_S, Match, Unpaid, heir, match, order_named, unpaid
from ledger.scan import Place, Scan, Waiting
from ledger.values import ZERO_ADDRESS, UnixMs

AT_ONCE: Final = 8
VIEW_WAIT_SECONDS: Final = 1.0
PLACE_FILE: Final = "scan.json"

_TOO_MUCH: Final = ("rpc_error", "oversized")
_log = structlog.get_logger(__name__)


class Watcher:
    """Reads the chain from where the last process came to; one round reads up to the head."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._path = app[SETTINGS].data_dir / PLACE_FILE
        self._width = app[SETTINGS].scan_blocks
        self._saved: Place | None = None
        self.scan: Scan | None = None

    async def read(self) -> None:
        """Read on to the head, or raise `ChainUnavailable`; then nothing is missed by going on."""
        link = self._app[CHAIN]
        if link.chain is None or not link.bound:
            return
        scan = self.scan = self.scan or self._begun()
        first, width = scan.place.number, self._width
        while True:
            span, swept = await self._sweep(link.chain, scan, first)
            if not scan.absorb(span, swept):
                _log.error("a safe block was replaced", reading_on_from=scan.place.number)
                return
            await self._decide(link.chain, scan)
            self._save(scan)
            head = swept.tips.head.number
            if span.last is None or span.last >= head:
                break
            first = span.last + 1
        if self._width == width:
            # Nothing was refused: try longer spans again.
            self._width = min(self._app[SETTINGS].scan_blocks, width * 2)

    async def _sweep(self, chain: Chain, scan: Scan, first: int) -> tuple[Span, Swept]:
        """Read one span, a shorter one if the node refuses its length or cannot list its logs."""
        while True:
            try:
                if scan.head is None:
                    scan.head = (await chain.sweep(None, ())).tips.head
                last = first + self._width - 1
                span = Span(first, last if last < scan.head.number else None)
                return span, await chain.sweep(span, scan.marks(span))
            except ChainUnavailable as error:
                # What was known of the node's head may be wrong too.
                scan.head = None
                if error.details.get("reason") not in _TOO_MUCH or self._width == 1:
                    raise
                self._width //= 2

    async def _decide(self, chain: Chain, scan: Scan) -> None:
        waiting = list(scan.waiting[Way.IN].values())
        if not waiting or not await views_are_up(self._app):
            return
        gate = asyncio.Semaphore(AT_ONCE)

        async def look(each: Waiting) -> bool:
            """Look unless a later look can show nothing new; say whether it was done."""
            is_safe = scan.is_settled(each)
            if each.is_mined and not each.unshown and each.seen_safe >= is_safe:
                return False
            async with gate:
                each.seen, each.seen_safe = await chain.inspect(each.tx_hash), is_safe
            return True

        looked = await asyncio.gather(*(look(each) for each in waiting))
        for each, is_fresh in zip(waiting, looked, strict=True):
            await self._judge(chain, scan, each, is_fresh=is_fresh)

    async def _judge(self, chain: Chain, scan: Scan, each: Waiting, *, is_fresh: bool) -> None:
        """Record the transfers of a transaction that can be given away now."""
        mined = each.seen.finding.transfers if each.seen is not None and each.is_mined else ()
        left = self._undecided(mined)
        if not left:
            await self._end(chain, scan, each)
            return
        found = [(t, await self._match(t, each, left)) for t in left]
        given = [(t, m.order_id) for t, m in found if m.order_id is not None]
        settled = scan.is_settled(each)
        nobodys = [t for t, m in found if m.order_id is None and not m.waits and settled]
        if not given and not nobodys:
            return
        if not is_fresh:
            # It waited: its block may have been replaced since it was looked at.
            each.seen = await chain.inspect(each.tx_hash)
            await self._judge(chain, scan, each, is_fresh=True)
            return
        for transfer, order_id in given:
            await self._record(each, transfer, order_id)
        if nobodys:
            # A crash before this append leaves the place before the transfers: they are found
            # again. After it, the log knows them and records none of them a second time.
            await self._app[LEDGER].record_unattributed(nobodys)
        if not self._undecided(left):
            await self._end(chain, scan, each)

    async def _end(self, chain: Chain, scan: Scan, each: Waiting) -> None:
        if await is_over(chain, scan, each):
            scan.done(Way.IN, each)

    def _undecided(self, transfers: tuple[Transfer, ...] | list[Transfer]) -> list[Transfer]:
        """Return the transfers that no stream holds and that were not given up."""
        ledger = self._app[LEDGER]
        claimed = ledger.store.claimed([t.key for t in transfers])
        given_up = ledger.log_state.unattributed
        return [t for t in transfers if t.key not in claimed and t.key not in given_up]

    async def _match(self, transfer: Transfer, each: Waiting, left: list[Transfer]) -> Match:
        """Find the order of a transfer: by its nonce, else by its payer and amount.

        Where the client's own word is on its way, that is waited for.
        """
        if each.seen is None:
            return Match(None, waits=True)
        views, payer = self._app[VIEWS], f"{transfer.chain}:{transfer.sender}"
        nonce = each.seen.nonces.get(transfer.ordinal)
        if nonce is not None:
            # A quote without a wallet may be paid by whoever names it.
            nobody = f"{transfer.chain}:{ZERO_ADDRESS}"
            ids = [*views.order_ids(payer), *views.order_ids(nobody)]
            if (named := order_named(nonce, ids)) is not None:
                return Match(named)
        if views.has_claim(transfer.tx_hash):
            return Match(None, waits=True)
        lacking = await self._lacking(payer, transfer.amount)
        if (of := heir(transfer, each.seen.finding.transfers, left, lacking)) is not None:
            return Match(of)
        nameless = await self._lacking(f"{transfer.chain}:{ZERO_ADDRESS}", transfer.amount)
        first, time = each.first_block, transfer.block_time
        if any(o.open and o.was_quoted_before(first, time) for o in nameless):
            # It may be the payment of a quote without a wallet, which only its notice can say.
            return Match(None, waits=True)
        found = match(transfer, lacking, first_block=first)
        if found.order_id is not None or found.waits:
            return found
        until = UnixMs((transfer.block_time + CLOCK_SKEW_S) * 1000)
        return Match(None, waits=views.has_open_quote(payer, until))

    async def _lacking(self, payer: str, micros: int) -> list[Unpaid]:
        ids = self._app[VIEWS].lacking(payer, micros)
        orders = [await self._app[LEDGER].order(order_id) for order_id in ids]
        every = [unpaid(order) for order in orders if order is not None]
        return [each for each in every if each is not None]

    async def _record(self, each: Waiting, transfer: Transfer, order_id: str) -> None:
        """Give one transfer to an order; the others of its transaction may be for other orders."""
        if each.seen is None:
            return
        ledger = self._app[LEDGER]
        finding = replace(each.seen.finding, transfers=(transfer,))
        command = RecordTransfers(finding, transfer.sender, ledger.clock())
        try:
            # A crash before this append leaves the place before the transfer: it is found again.
            # After it, the transfer is claimed, and nothing is left to do for it.
            receipt = await ledger.execute(order_id, command)
        except LedgerError as error:
            _log.warning("transfer not recorded", code=error.code)
            return
        if receipt.events:
            self._app[LIMITS].release_quote(order_id)

    def _begun(self) -> Scan:
        expected = self._place_file(None)
        place = read_place(self._path, expected)
        return Scan(
            place,
            first_block=expected.number,
            confirmations=self._app[SETTINGS].min_confirmations,
        )

    def _save(self, scan: Scan) -> None:
        place = scan.durable
        if place != self._saved:
            self._saved = place
            write_place(self._path, self._place_file(place))

    def _place_file(self, place: Place | None) -> PlaceFile:
        """Return what the file holds for a place; without one, for where all of it began."""
        ledger = self._app[LEDGER]
        chain = ledger.log_state.chain
        if chain is None:
            raise ChainUnavailable("the ledger is not bound to a chain yet")
        return PlaceFile(
            log=ledger.origin,
            genesis_hash=chain.genesis_hash,
            payment_address=self._app[SETTINGS].payment_account,
            position=ledger.head.size,
            number=chain.block_number if place is None else place.number,
            hash=None if place is None else place.hash,
        )


WATCHER: Final = web.AppKey("watcher", Watcher)


async def views_are_up(app: web.Application) -> bool:
    """Whether the views show everything that is recorded: who matches needs to see every order."""
    return await app[RUNNER].wait_for(app[LEDGER].head.size, VIEW_WAIT_SECONDS)
