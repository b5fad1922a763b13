"""What an audit says: its findings, and how often each check was made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

CHECKS: Final[Mapping[str, str]] = {
    "C00": "the database file is sound and holds every table",
    "C01": "every entry is strict JSON of the known shape",
    "C02": "every entry is in its canonical form",
    "C03": "every event belongs to this log",
    "C04": "every event is signed by a key that may speak at its position",
    "C05": "the tiles and the frontier are those of the entries",
    "C06": "every stream counts its events without a gap",
    "C07": "every event names the one before it in its stream",
    "C08": "every event is legal where it stands in its stream",
    "C09": "every event's base is an earlier root of this log",
    "C10": "time does not go back over the log",
    "C11": "events stand between the times when witnesses and blocks were seen",
    "C12": "one transfer is claimed once, and the claims are those of the events",
    "C13": "payments agree with the quote and with their transfers",
    "C14": "no quote expired before its time",
    "C15": "every deliverable has the recorded hashes and size",
    "C16": "the parties' signatures are over texts that say what is recorded",
    "C18": "the guard's note is signed by the log's key",
    "C19": "the ledger is not shorter than a head that was signed",
    "C20": "the signed head is a root of this log",
    "C21": "no size of the log has two roots",
    "C22": "enough witnesses saw this log, and often enough",
    "C23": "what was acknowledged stands where the answer said",
    "C24": "signed events that others hold are in the log",
    "C25": "signed events that others hold name trees of this log",
    "C26": "no order goes on where it was signed that it ends",
    "C27": "salted content opens its commitment or was erased",
    "C29": "refunds go from the payment address to the client",
    "C30": "every row stands at its place and repeats its entry",
}
"""Every check that reads the ledger; the numbers are stable names, not an order."""

Problems = Iterable[str]
"""What a check returns: one sentence for each thing that is wrong."""

CLEAN: Final = ()
"""What the checks of every single event return when nothing is wrong: it costs nothing."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """Something that is not as it must be; the place is given where there is one."""

    check: str
    position: int | None
    stream: str | None
    message: str


@dataclass(slots=True)
class Report:
    """The outcome. `complete` is False if the audit stopped at its limit of findings.

    `unknown` is what could not be checked, the first of each check; it is held against nobody.
    """

    size: int = 0
    checked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CHECKS, 0))
    findings: list[AuditFinding] = field(default_factory=list)
    unknown: list[AuditFinding] = field(default_factory=list)
    unknown_count: int = 0
    notes: list[str] = field(default_factory=list)
    complete: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


KEPT_UNKNOWN: Final = 20


class Enough(Exception):
    """The limit of findings is reached: a broken ledger must not fill the memory."""


class Book:
    """Takes what the checks say. Raises `Enough` at the limit of findings."""

    def __init__(self, stop_after: int) -> None:
        self.report: Final = Report()
        self.stop_after = stop_after

    def made(self, check: str, times: int) -> None:
        """Count a check that was made many times; what it found is told by `found`."""
        self.report.checked[check] += times

    def note(
        self,
        check: str,
        problems: Problems,
        position: int | None = None,
        stream: str | None = None,
    ) -> None:
        """Count one making of a check and keep what it found."""
        self.report.checked[check] += 1
        self.found(check, problems, position, stream)

    def found(
        self, check: str, problems: Problems, position: int | None, stream: str | None
    ) -> None:
        """Keep what a check found."""
        for message in problems:
            self.report.findings.append(AuditFinding(check, position, stream, message))
            if len(self.report.findings) >= self.stop_after:
                raise Enough

    def add(self, other: Report) -> None:
        """Take over what another book says of its part of the work."""
        for check, made in other.checked.items():
            self.report.checked[check] += made
        for finding in other.findings:
            self.report.findings.append(finding)
            if len(self.report.findings) >= self.stop_after:
                raise Enough

    def unknown(self, check: str, why: str, position: int | None, stream: str | None) -> None:
        """Keep what could not be checked; the first ones of each check, and how many."""
        self.report.unknown_count += 1
        if sum(other.check == check for other in self.report.unknown) < KEPT_UNKNOWN:
            self.report.unknown.append(AuditFinding(check, position, stream, why))
