"""An HTTP proxy in front of a JSON-RPC endpoint whose faults can be switched on and off.

It plays a provider that is cut off, silent, slow, throttled or lying, so that the demo and
the tests see how the service behaves then. Not for production: it trusts everybody.
"""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp import web

Pairs = list[tuple[dict[str, Any], dict[str, Any]]]
"""JSON-RPC requests, each with its answer."""

Json = dict[str, Any] | list[dict[str, Any]]
"""One JSON-RPC message, or a batch of them."""

START_TIMEOUT_SECONDS: Final = 10
CALLS_TIMEOUT_SECONDS: Final = 10
RETRY_AFTER_SECONDS: Final = 1
MAX_BODY_BYTES: Final = 16 * 2**20


class Mode(Enum):
    """What becomes of a request; it is one of these at any time."""

    FORWARD = auto()
    CUT = auto()
    HANG = auto()
    THROTTLE = auto()


@dataclass(slots=True)
class _Faults:
    """The switches. `changed` wakes the requests that hang, to look at the switches again."""

    mode: Mode = Mode.FORWARD
    delay_seconds: float = 0
    rewrite: Callable[[Pairs], None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class RpcProxy:
    """A proxy on a port picked by the system; stop it, or use it as a context manager.

    Its event loop runs in a thread of its own, so that it answers while the caller blocks. A
    switch has taken effect when its method returns.
    """

    def __init__(self, upstream_url: str) -> None:
        self.upstream_url = upstream_url
        self.url = ""
        self.calls: list[tuple[str, ...]] = []
        """The method names of every HTTP request that arrived, in order."""
        self._called = threading.Condition()
        self._faults = _Faults()
        self._open: set[asyncio.Transport] = set()
        self._stopping = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        started = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(started,), name="rpc-proxy", daemon=True
        )
        self._thread.start()
        if not started.wait(START_TIMEOUT_SECONDS) or not self.url:
            raise RuntimeError("the proxy did not start")

    def cut(self) -> None:
        """Close every connection, now and as soon as a new one asks for something."""
        self._switch(_Faults(mode=Mode.CUT))

    def hang(self) -> None:
        """Accept requests and answer none; they are answered after `restore`."""
        self._switch(_Faults(mode=Mode.HANG))

    def status_429(self) -> None:
        """Refuse every request as one too many."""
        self._switch(_Faults(mode=Mode.THROTTLE))

    def delay(self, seconds: float) -> None:
        """Answer correctly, but late."""
        self._switch(_Faults(delay_seconds=seconds))

    def rewrite(self, change: Callable[[Pairs], None]) -> None:
        """Let `change` alter the answers in place before they are sent.

        It runs in the proxy's thread. A pair taken out of the list leaves its request
        unanswered.
        """
        self._switch(_Faults(rewrite=change))

    def restore(self) -> None:
        """Switch every fault off."""
        self._switch(_Faults())

    def wait_for_calls(self, count: int) -> None:
        """Return once that many HTTP requests have arrived since the start."""
        with self._called:
            if not self._called.wait_for(lambda: len(self.calls) >= count, CALLS_TIMEOUT_SECONDS):
                raise TimeoutError(f"{len(self.calls)} of {count} requests arrived")

    def stop(self) -> None:
        if self._thread.is_alive():
            self.cut()
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _switch(self, faults: _Faults) -> None:
        asyncio.run_coroutine_threadsafe(self._apply(faults), self._loop).result()

    async def _apply(self, faults: _Faults) -> None:
        before, self._faults = self._faults, faults
        if faults.mode is Mode.CUT:
            for transport in list(self._open):
                transport.abort()
        before.changed.set()

    def _run(self, started: threading.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(self._serve(started))
            finally:
                started.set()

    async def _serve(self, started: threading.Event) -> None:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
        async with aiohttp.ClientSession() as self._session:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}"
            started.set()
            await self._stopping.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        asked = json.loads(body)
        with self._called:
            self.calls.append(tuple(one["method"] for one in _as_list(asked)))
            self._called.notify_all()
        async with self._tracked(request):
            faults = await self._faults_once_decided()
            if faults.mode is Mode.CUT:
                return _hang_up(request)
            if faults.mode is Mode.THROTTLE:
                retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
                return web.json_response({"error": "too many requests"}, status=429, headers=retry)
            await asyncio.sleep(faults.delay_seconds)
            return await self._forward(request, body, asked, faults)

    async def _faults_once_decided(self) -> _Faults:
        while self._faults.mode is Mode.HANG:
            await self._faults.changed.wait()
        return self._faults

    @contextlib.asynccontextmanager
    async def _tracked(self, request: web.Request) -> AsyncIterator[None]:
        """Make the connection known, so that `cut` reaches requests that are under way."""
        transport = request.transport
        if transport is None:
            yield
            return
        self._open.add(transport)
        try:
            yield
        finally:
            self._open.discard(transport)

    async def _forward(
        self, request: web.Request, body: bytes, asked: Json, faults: _Faults
    ) -> web.StreamResponse:
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(self.upstream_url, data=body, headers=headers) as answer:
                status, answered = answer.status, await answer.read()
        except aiohttp.ClientError:
            # A dead endpoint behind the proxy looks like a dead endpoint in front of it.
            return _hang_up(request)
        if faults.rewrite is not None and status == HTTPStatus.OK:
            answered = _rewritten(asked, json.loads(answered), faults.rewrite)
        return web.Response(body=answered, status=status, content_type="application/json")


def _rewritten(asked: Json, answered: Json, change: Callable[[Pairs], None]) -> bytes:
    by_id = {one["id"]: one for one in _as_list(answered)}
    pairs = [(one, by_id[one["id"]]) for one in _as_list(asked) if one.get("id") in by_id]
    change(pairs)
    answers = [answer for _, answer in pairs]
    if isinstance(asked, list):
        return json.dumps(answers).encode()
    return json.dumps(answers[0]).encode() if answers else b""


def _as_list(message: Json) -> list[dict[str, Any]]:
    return message if isinstance(message, list) else [message]


def _hang_up(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    # The handler has to return something; nobody is left to read it.
    return web.Response()
