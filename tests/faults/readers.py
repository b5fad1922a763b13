"""Readers as processes of their own, forked from one that has everything imported already."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import aiohttp

from api.client.cursor import CursorCalls, CursorOptions
from api.client.http import HttpClient
from api.client.inbox import Inbox
from api.client.reader import CursorReader
from api.client.signin import SignIn
from api.client.wallet import LocalWallet
from tests.contract.reading import SCHEMA, note

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__])


@dataclass(frozen=True, slots=True)
class Post:
    """Where a reader reads, and where its effects are kept."""

    url: str
    key: bytes
    cursor: str
    inbox: Path
    options: CursorOptions


def started(post: Post) -> ForkServerProcess:
    """Start a reader that runs until it is killed."""
    process = _FORKS.Process(target=_run, args=(post,), daemon=True)
    process.start()
    return process


def _run(post: Post) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(read(post))


async def read(post: Post, *, until_idle: bool = False) -> CursorReader:
    """Read with the durable inbox; returns once idle, if asked to."""
    async with aiohttp.ClientSession() as session:
        http = HttpClient(post.url, session)
        wallet = LocalWallet(post.key)
        calls = CursorCalls(http, SignIn(http, wallet), wallet.address, post.cursor)
        with Inbox(post.inbox, schema=SCHEMA) as inbox:
            reader = CursorReader(calls, post.options, inbox=inbox)
            await reader.run(note, until_idle=until_idle)
    return reader
