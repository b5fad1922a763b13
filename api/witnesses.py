"""What the witnesses say of this log, as the service shows it; nothing is asked here.

A client that has a checkpoint with cosignatures knows that everybody was shown the same log. So
what a witness refuses is never hidden: it is the first sign that the log was rewritten, or that an
older copy was put back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from aiohttp import web
from pydantic import BaseModel

from api.witness_setting import WitnessAddress
from ledger.checkpoint import NoteSignature, parse_note
from ledger.cosignature import Cosignature, cosignatures
from ledger.errors import LedgerError
from ledger.receipt import SignedHead

State = Literal["waiting", "cosigned", "silent", "declined", "refused"]


class NotWitnessed(LedgerError):
    """No checkpoint has the cosignatures yet that LEDGER_WITNESS_QUORUM asks for."""

    code = "SERVICE_UNAVAILABLE"
    retryable = True


class WitnessHealth(BaseModel):
    """How one witness stands to this log. `refused` means that its record contradicts ours.

    `size` is that of the newest checkpoint that it is known to hold, `cosigned_at` the time it
    gave, in Unix milliseconds. The rest counts the times that it was asked, and what came of it.
    """

    state: State
    size: int
    cosigned_at: int | None = None
    detail: str | None = None
    asked: int
    cosigned: int
    silent: int
    declined: int
    refused: int


@dataclass(slots=True)
class Standing:
    """A witness as we know it. `size` is what the next proof begins at."""

    address: WitnessAddress
    state: State = "waiting"
    size: int = 0
    detail: str = ""
    cosigned: tuple[SignedHead, Cosignature] | None = None
    counts: dict[State, int] = field(default_factory=dict)

    def ended(self, state: State, detail: str = "") -> bool:
        """Note how asking it ended; return whether that is news."""
        news = (state, detail) != (self.state, self.detail)
        self.state, self.detail = state, detail
        self.counts[state] = self.counts.get(state, 0) + 1
        return news

    def health(self) -> dict[str, object]:
        """Return it as `/health` shows it."""
        words: tuple[State, ...] = ("cosigned", "silent", "declined", "refused")
        shown: dict[str, object] = {
            "state": self.state,
            "size": self.size,
            "asked": sum(self.counts.values()),
            **{word: self.counts.get(word, 0) for word in words},
        }
        if self.cosigned is not None:
            shown["cosigned_at"] = self.cosigned[1].at * 1000
        return {**shown, "detail": self.detail} if self.detail else shown


class Witnesses:
    """The witnesses of this log, and the newest checkpoint that enough of them cosigned."""

    def __init__(self, addresses: Sequence[WitnessAddress], quorum: int) -> None:
        self.standings: Final = [Standing(address) for address in addresses]
        self.quorum: Final = quorum
        self._published = ""
        self._published_size = 0

    @property
    def published_note(self) -> str:
        """The newest checkpoint that met the quorum; empty before there is one."""
        return self._published

    def take(self, standing: Standing, head: SignedHead, cosignature: Cosignature) -> bool:
        """Take a verified cosignature of a head; return whether a newer note is published now."""
        standing.cosigned = head, cosignature
        standing.size = head.size
        lines = self._lines(head)
        if not self.quorum or len(lines) < self.quorum or head.size < self._published_size:
            return False
        self._published, self._published_size = _with_lines(head.note, lines), head.size
        return True

    def restore(self, note_text: str, size: int) -> bool:
        """Publish a checkpoint of ours from before the start, if it still meets the quorum."""
        keys = [standing.address.key for standing in self.standings]
        found = cosignatures(parse_note(note_text), keys)
        if not self.quorum or len({cosignature.key for cosignature in found}) < self.quorum:
            return False
        self._published, self._published_size = note_text, size
        return True

    def checkpoint(self, head: SignedHead) -> str:
        """Return the checkpoint to publish, or raise `NotWitnessed`.

        It is the newest one that met the quorum. Without a quorum it is the newest of all, with
        the cosignatures that there are of that very one.
        """
        if not self.quorum:
            return _with_lines(head.note, self._lines(head))
        if not self._published:
            msg = f"no checkpoint has {self.quorum} cosignatures yet; ask again"
            raise NotWitnessed(msg)
        return self._published

    def policy(self, log_keys: Iterable[str]) -> str:
        """Return the C2SP `tlog-policy`: what a verifier of this log should ask for.

        Where the witnesses are asked is left out: no verifier needs it.
        """
        names = [f"w{number}" for number, _ in enumerate(self.standings, 1)]
        lines = [f"log {key}" for key in sorted(log_keys)]
        for name, standing in zip(names, self.standings, strict=True):
            lines.append(f"witness {name} {standing.address.key.vkey()}")
        if self.quorum:
            lines.append(f"group witnesses {self.quorum} {' '.join(names)}")
        lines.append("quorum witnesses" if self.quorum else "quorum none")
        return "\n".join(lines) + "\n"

    def health(self) -> dict[str, object]:
        """Return every witness by the name of its key, as `/health` shows it."""
        return {standing.address.name: standing.health() for standing in self.standings}

    def _lines(self, head: SignedHead) -> list[NoteSignature]:
        """Return the cosignatures of this very head, in the order of the setting."""
        return [
            standing.cosigned[1].signature
            for standing in self.standings
            if standing.cosigned is not None and standing.cosigned[0].note == head.note
        ]


WITNESSES: Final = web.AppKey("witnesses", Witnesses)


def _with_lines(note: str, lines: Iterable[NoteSignature]) -> str:
    return note + "".join(line.line() for line in lines)
