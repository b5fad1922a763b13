"""Have the newest checkpoint cosigned by the witnesses, beside the writing and never in its way.

One round asks all of them for the same checkpoint, so that its cosignatures come together. Before
the service begins, it compares itself with what they hold: an older copy of the ledger, put back
together with its guard, is found here and nowhere else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NoReturn

import structlog
from aiohttp import web

from api.keys import LEDGER, SETTINGS
from api.opening import LEDGER_FILE
from api.witnesses import WITNESSES, Standing, Witnesses
from api.workers.loop import WorkLoop
from api.workers.witness_client import Silent, WitnessClient
from ledger.checkpoint import Checkpoint, parse_note, verify_by_any
from ledger.cosignature import Cosignature, WitnessKey, cosignatures, cosigned_answer
from ledger.errors import LedgerError, Misconfigured, VerificationError
from ledger.receipt import SignedHead
from ledger.service import Clock, Ledger
from ledger.witness import origin_hash, read_checkpoint, submission_text

TIMEOUT_SECONDS: Final = 10.0
"""For everything that is asked of one witness in one round."""
REFRESH_MS: Final = 3_600_000
"""A log that does not grow is cosigned again after this time, which shows that it still stands."""
MAX_TRIES: Final = 3
PUBLISHED_FILE: Final = "witnessed.note"
SIZE_TYPE: Final = "text/x.tlog.size"

_SIZE: Final = re.compile(r"(0|[1-9][0-9]{0,17})\n", re.ASCII)
_AHEAD: Final = "it cosigned {theirs} events of this log, and the ledger ends at {ours}"
_FORK: Final = "it cosigned another history of this log, of {theirs} events"

_log = structlog.get_logger(__name__)


class Declined(LedgerError):
    """The witness answered, and does not cosign: it knows no such log, or makes no sense."""


class Refused(LedgerError):
    """What the witness cosigned before contradicts this ledger."""


class Asker:
    """Asks the witnesses, and keeps what they answer."""

    def __init__(self, witnesses: Witnesses, client: WitnessClient, path: Path) -> None:
        self._witnesses = witnesses
        self._client = client
        self._path = path
        """Where the newest checkpoint lies that met the quorum: disposable, for the next start."""

    async def held(self, origin: str) -> dict[str, Checkpoint]:
        """Return the newest checkpoint that each witness holds of a log, by the witness's name.

        A witness that is silent, or never saw the log, is left out.
        """
        standings = self._witnesses.standings
        found = await asyncio.gather(*(self._held(standing, origin) for standing in standings))
        return {
            standing.address.name: checkpoint
            for standing, checkpoint in zip(standings, found, strict=True)
            if checkpoint is not None
        }

    async def ask_all(self, ledger: Ledger) -> None:
        """Ask every witness that has not cosigned the newest checkpoint lately."""
        head = ledger.head
        due = [s for s in self._witnesses.standings if _is_due(s, head, ledger.clock)]
        await asyncio.gather(*(self._ask(standing, ledger, head) for standing in due))

    def restore(self, ledger: Ledger) -> None:
        """Publish what was published before the start, unless it is not of this log."""
        try:
            text = self._path.read_text("utf-8")
            checkpoint = verify_by_any(text, ledger.log_state.log_keys, ledger.origin)
            if _is_ours(checkpoint, ledger):
                self._witnesses.restore(text, checkpoint.size)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError, VerificationError) as error:
            _log.warning("published checkpoint not used", error=str(error))

    async def _held(self, standing: Standing, origin: str) -> Checkpoint | None:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                text = await self._client.newest(standing.address.url, origin_hash(origin))
            if text is None:
                return None
            checkpoint = _read_held(text, origin, standing.address.key)
        except (Silent, TimeoutError, VerificationError) as error:
            _log.warning("witness_silent", witness=standing.address.name, detail=str(error))
            return None
        standing.size = checkpoint.size
        return checkpoint

    async def _ask(self, standing: Standing, ledger: Ledger, head: SignedHead) -> None:
        """Ask one witness; whatever comes of it stays with this witness."""
        name = standing.address.name
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._cosigned(standing, ledger, head)
        except Refused as error:
            if standing.ended("refused", error.message):
                evidence = await self._evidence(standing, ledger.origin)
                _log.error("witness_refused", witness=name, detail=error.message, holds=evidence)
        except Declined as error:
            if standing.ended("declined", error.message):
                _log.error("witness_declined", witness=name, detail=error.message)
        except (Silent, TimeoutError) as error:
            if standing.ended("silent", str(error) or "no answer in time"):
                _log.warning("witness_silent", witness=name, detail=standing.detail)

    async def _cosigned(self, standing: Standing, ledger: Ledger, head: SignedHead) -> None:
        address, old = standing.address, min(standing.size, head.size)
        for _ in range(MAX_TRIES):
            proof = ledger.proofs.consistency(old, head.size)
            body = submission_text(old, proof, head.note).encode()
            answer = await self._client.add_checkpoint(address.url, body)
            if answer.status == web.HTTPOk.status_code:
                cosignature = _cosignature(head, answer.text, address.key)
                if standing.ended("cosigned"):
                    _log.info("witness_cosigns", witness=address.name, size=head.size)
                if self._witnesses.take(standing, head, cosignature):
                    self._keep()
                return
            known = _known_size(answer.status, answer.media_type, answer.text)
            if known is None or known == old:
                _raise_refusal(answer.status, old, head.size)
            standing.size = old = known
            if known > ledger.head.size:
                raise Refused(_AHEAD.format(theirs=known, ours=ledger.head.size))
            if known > head.size:
                return  # somebody submitted a newer checkpoint of ours: the next round goes on
        raise Declined("the witness names another size each time")

    async def _evidence(self, standing: Standing, origin: str) -> str | None:
        """Return what a witness holds that contradicts us: signed by our key, cosigned by it."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._client.newest(standing.address.url, origin_hash(origin))
        except (Silent, TimeoutError):
            return None

    def _keep(self) -> None:
        """Write the published checkpoint down. Lost, the next start begins without one."""
        new = self._path.with_name(f".{self._path.name}.new")
        try:
            new.write_text(self._witnesses.published_note, "utf-8")
            new.replace(self._path)
        except OSError as error:
            _log.warning("published checkpoint not kept", error=str(error))


ASKER: Final = web.AppKey("asker", Asker)
HELD: Final = web.AppKey("held_by_witnesses", dict[str, Checkpoint])


async def meet_witnesses(app: web.Application) -> AsyncIterator[None]:
    """Ask the witnesses what they hold, before the ledger is opened and signs anything."""
    settings = app[SETTINGS]
    witnesses = app[WITNESSES] = Witnesses(settings.witnesses, settings.witness_quorum)
    async with WitnessClient() as client:
        app[ASKER] = Asker(witnesses, client, settings.data_dir / PUBLISHED_FILE)
        held = app[HELD] = await app[ASKER].held(settings.origin)
        if not (settings.data_dir / LEDGER_FILE).exists():
            for name, checkpoint in held.items():
                _require(name, checkpoint.size == 0, _AHEAD, theirs=checkpoint.size, ours=0)
        yield


async def follow_witnesses(app: web.Application) -> AsyncIterator[None]:
    """Compare the ledger with the witnesses, or raise `Misconfigured`; then keep asking them."""
    ledger, asker, witnesses = app[LEDGER], app[ASKER], app[WITNESSES]
    ours = ledger.head.size
    for name, checkpoint in app[HELD].items():
        _require(name, checkpoint.size <= ours, _AHEAD, theirs=checkpoint.size, ours=ours)
        _require(name, _is_ours(checkpoint, ledger), _FORK, theirs=checkpoint.size, ours=ours)
    asker.restore(ledger)
    # A witness that shows nobody what it holds still tells it to who asks for a cosignature.
    await asker.ask_all(ledger)
    for standing in witnesses.standings:
        _require(standing.address.name, standing.state != "refused", standing.detail)
    interval = app[SETTINGS].witness_interval
    loop = WorkLoop("witnesses", lambda: asker.ask_all(ledger), interval)
    task = asyncio.create_task(_run_after(interval, loop), name="loop")
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _run_after(seconds: float, loop: WorkLoop) -> None:
    """Run a loop whose first round was made already."""
    await asyncio.sleep(seconds)
    await loop.run()


def _require(name: str, holds: bool, problem: str, **sizes: int) -> None:  # noqa: FBT001 - a check
    if not holds:
        raise Misconfigured(
            f"witness {name}: {problem.format(**sizes)}. An older copy of the ledger was put back, "
            "or this is another log of the same origin; nothing is signed on it. If the witness "
            "is wrong, leave it out of LEDGER_WITNESSES"
        )


def _read_held(text: str, origin: str, key: WitnessKey) -> Checkpoint:
    """Return what a witness holds of a log; only what it cosigned is its word."""
    note = parse_note(text)
    checkpoint = read_checkpoint(note.text)
    if not cosignatures(note, [key]) or checkpoint.origin != origin:
        raise VerificationError("the witness shows what it did not cosign of this log")
    return checkpoint


def _is_ours(checkpoint: Checkpoint, ledger: Ledger) -> bool:
    if checkpoint.size > ledger.head.size:
        return False
    return ledger.proofs.root_at(checkpoint.size) == checkpoint.root


def _is_due(standing: Standing, head: SignedHead, clock: Clock) -> bool:
    if standing.state != "cosigned" or standing.cosigned is None:
        return True
    cosigned, cosignature = standing.cosigned
    return cosigned.note != head.note or clock() - cosignature.at * 1000 >= REFRESH_MS


def _cosignature(head: SignedHead, lines: str, key: WitnessKey) -> Cosignature:
    try:
        return cosigned_answer(head.note, lines, key)
    except VerificationError as error:
        raise Declined(f"its answer does not verify: {error.message}") from error


def _known_size(status: int, media_type: str, text: str) -> int | None:
    """Return the size that a witness says it holds; None where the answer is another one."""
    match = _SIZE.fullmatch(text)
    conflict = status == web.HTTPConflict.status_code and media_type == SIZE_TYPE
    return int(match[1]) if conflict and match else None


def _raise_refusal(status: int, old: int, new: int) -> NoReturn:
    """Raise what an answer means that is neither a cosignature nor a size to go on from."""
    unproven = status == web.HTTPUnprocessableEntity.status_code
    if old and (unproven or (status == web.HTTPConflict.status_code and old == new)):
        raise Refused(_FORK.format(theirs=old))
    raise Declined(f"the witness answered {status}")
