"""The only composition root: every object is made here, and ended here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from api.aether.agents import NAMED, Named
from api.aether.gate import require_proof
from api.aether.proof import LONG_AT_ONCE, LONG_BODIES, warn_if_open
from api.aether.routes import MARKET_ROUTES
from api.aether.searching import SEARCHING
from api.auth import AUTH_ROUTES, require_role
from api.background import Background
from api.catalog import load_catalog, load_handlers
from api.chain_link import bind_chain, connect_chain
from api.config import Settings
from api.cors import Cors
from api.errors import errors_as_json
from api.feeds.desk import DESK, Desk
from api.feeds.routes import FEED_ROUTES
from api.followers import Followers
from api.gate import CORS, add_headers, answer_options, limit_writes
from api.handout import HandOuts
from api.idempotency import ONCE, Once, once_per_key
from api.ivxp.routes import IVXP_ROUTES
from api.keys import (
    BACKGROUND,
    CATALOG,
    CHALLENGES,
    FOLLOWERS,
    HAND_OUTS,
    HANDLERS,
    LEASES,
    LEDGER,
    LIMITS,
    LISTENERS,
    MARKET,
    RUNNER,
    SETTINGS,
    TOKENS,
    VIEWS,
)
from api.leases import Leases
from api.limits import Limits
from api.log.admin import ADMIN_ROUTES
from api.log.evidence import MAKING
from api.log.held import add_consistency, compare_head
from api.log.routes import LOG_ROUTES
from api.market_words import MARKET_WORD_ROUTES
from api.openapi import OPENAPI_ROUTES
from api.opening import ledger_config, open_tokens
from api.ops import OPS_ROUTES
from api.orders import ORDER_ROUTES
from api.payouts import PAYOUT_ROUTES
from api.quoter import QUOTERS, SCREEN, Quoters, Screen
from api.routes import Route, register
from api.signin import Challenges
from api.solana_link import connect_solana
from api.sync import read_after
from api.wellknown import WELL_KNOWN_ROUTES
from api.work import WORK_ROUTES
from api.workers.chain_loop import scan_loop
from api.workers.claims import resolve_claims
from api.workers.handlers import HandlerRunner
from api.workers.loop import WorkLoop
from api.workers.payments import watch_payments
from api.workers.push import push_loop
from api.workers.retention import erase_overdue
from api.workers.settlement import settle_payments
from api.workers.windows import close_lapsed
from api.workers.witnesses import follow_witnesses, meet_witnesses
from ledger.service import Clock, Ledger, LedgerConfig, system_clock
from projections.feed_reader import FeedReader
from projections.market_reader import MarketReader
from projections.reader import ViewReader
from projections.runner import Runner

ROUTES: Final[list[Route]] = [
    *IVXP_ROUTES,
    *WELL_KNOWN_ROUTES,
    *AUTH_ROUTES,
    *WORK_ROUTES,
    *LOG_ROUTES,
    *ADMIN_ROUTES,
    *ORDER_ROUTES,
    *FEED_ROUTES,
    *MARKET_ROUTES,
    *MARKET_WORD_ROUTES,
    *PAYOUT_ROUTES,
    *OPS_ROUTES,
    *OPENAPI_ROUTES,
]
VIEWS_FILE: Final = "views.db"

Listener = Callable[[frozenset[str]], None]
Part = Callable[[web.Application], AsyncIterator[None]]
"""What starts before its `yield` and ends after it."""

_log = structlog.get_logger(__name__)


def make_app(settings: Settings, *, clock: Clock = system_clock) -> web.Application:
    """Return the application. Raises `Misconfigured` before anything is opened."""
    app = web.Application(
        middlewares=[
            errors_as_json,
            answer_options,
            limit_writes,
            require_role,
            require_proof,
            compare_head,
            once_per_key,
            read_after,
        ],
        client_max_size=settings.body_max_bytes,
    )
    app.on_response_prepare.append(add_consistency)
    app.on_response_prepare.append(add_headers)
    app[SETTINGS] = settings
    app[CORS] = Cors(settings.allowed_origins)
    app[CATALOG] = load_catalog(settings.catalog)
    app[HANDLERS] = load_handlers(app[CATALOG])
    app[QUOTERS] = Quoters(app[CATALOG], settings)
    app[SCREEN] = Screen(settings)
    app[LEASES] = Leases(settings.work_lease)
    app[CHALLENGES] = Challenges()
    app[ONCE] = Once()
    app[FOLLOWERS] = Followers(settings.max_streams)
    app[LISTENERS] = []
    app[NAMED] = Named()
    app[HAND_OUTS] = HandOuts()
    app[MAKING] = asyncio.Semaphore()
    app[SEARCHING] = asyncio.Semaphore()
    app[LONG_BODIES] = asyncio.Semaphore(LONG_AT_ONCE)
    app.on_shutdown.append(_end_streams)
    app[LIMITS] = Limits(per_minute=settings.rate_limit, max_open_quotes=settings.max_open_quotes)
    register(app, ROUTES, prefix=settings.path_prefix)
    warn_if_open(settings)
    config = ledger_config(settings, clock)
    app[TOKENS] = open_tokens(settings)
    # What the witnesses hold is asked before the ledger opens, and compared before it is added to.
    opening = (meet_witnesses, _with(config), follow_witnesses)
    app.cleanup_ctx.append(
        _parts(*opening, _quoters, connect_chain, connect_solana, _loops, push_loop, scan_loop)
    )
    return app


async def _end_streams(app: web.Application) -> None:
    """Let open streams end: the server waits for its connections before it stops."""
    app[FOLLOWERS].close()


def _parts(*parts: Part) -> Part:
    """Return the parts as one; where a later one cannot start, the earlier ones are ended.

    The server itself would leave them open: it ends nothing before all has started.
    """

    async def all_parts(app: web.Application) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for part in parts:
                await stack.enter_async_context(asynccontextmanager(part)(app))
            yield

    return all_parts


def _with(config: LedgerConfig) -> Part:
    async def ledger_context(app: web.Application) -> AsyncIterator[None]:
        """Open the ledger and its views; close them in the reverse order."""
        async with AsyncExitStack() as stack:
            ledger = app[LEDGER] = Ledger(config)
            stack.callback(ledger.close)
            path: Path = config.data_dir / VIEWS_FILE
            runner = app[RUNNER] = Runner(ledger, path)
            runner.start()
            stack.callback(runner.stop)
            ledger.start(on_commit=runner.wake)
            stack.callback(ledger.stop)
            app[VIEWS] = ViewReader(path)
            stack.callback(app[VIEWS].close)
            app[MARKET] = MarketReader(path)
            stack.callback(app[MARKET].close)
            feeds = FeedReader(path)
            stack.callback(feeds.close)
            app[DESK] = Desk(ledger, runner, feeds)
            app[BACKGROUND] = Background()
            stack.push_async_callback(app[BACKGROUND].close)
            yield

    return ledger_context


async def _quoters(app: web.Application) -> AsyncIterator[None]:
    """Be able to ask quoters elsewhere."""
    async with app[QUOTERS].connected():
        yield


def while_open(
    app: web.Application, once: Callable[[], Awaitable[None]]
) -> Callable[[], Awaitable[None]]:
    """Return a round that rests once the log is closed: nothing it does could be recorded."""

    async def round_of_work() -> None:
        if not app[LEDGER].log_state.closed:
            await once()

    return round_of_work


def _from_thread(
    loop: asyncio.AbstractEventLoop, listeners: list[Listener], moved: frozenset[str]
) -> None:
    """Tell every listener on the event loop what the views' thread has moved."""
    for listener in tuple(listeners):
        loop.call_soon_threadsafe(listener, moved)


async def _loops(app: web.Application) -> AsyncIterator[None]:
    """Run the service's own loops."""
    interval = app[SETTINGS].loop_interval
    handling = WorkLoop("handlers", while_open(app, HandlerRunner(app).start_waiting), interval)
    loops = [
        WorkLoop("chain", lambda: bind_chain(app), interval),
        WorkLoop("claims", while_open(app, lambda: resolve_claims(app)), interval),
        WorkLoop("payments", while_open(app, lambda: watch_payments(app)), interval),
        WorkLoop("settlements", while_open(app, lambda: settle_payments(app)), interval),
        WorkLoop("retention", while_open(app, lambda: erase_overdue(app)), interval),
        WorkLoop("windows", while_open(app, lambda: close_lapsed(app)), interval),
        handling,
    ]
    running = asyncio.get_running_loop()

    # Of the loops only the handlers gain by being woken: the chain does not change with us.
    app[LISTENERS] += [lambda _moved: handling.wake(), app[FOLLOWERS].moved]
    app[RUNNER].on_progress = lambda moved: _from_thread(running, app[LISTENERS], moved)
    tasks = [asyncio.create_task(loop.run(), name="loop") for loop in loops]
    yield
    app[RUNNER].on_progress = lambda _moved: None
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
