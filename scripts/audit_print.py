"""How an audit speaks: a line for each check, what was found, what could not be checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Final

from rich.console import Console
from rich.progress import Progress

from ledger.audit_others import Evidence
from ledger.audit_report import CHECKS, AuditFinding, Report

TITLES: Final = dict(
    sorted(
        {
            **CHECKS,
            "C17": "the views are what the events make",
            "C28": "an export made twice is the same",
        }.items()
    )
)
PROGRESS_STEP: Final = 256


def notes_on(evidence: Evidence) -> Iterator[str]:
    """Say which checks were not made, or only in part, and what they need."""
    if not evidence.held:
        yield "nothing was held against it: a rewritten log would pass, too (--held)"
    if evidence.witnesses is None:
        yield "C11, C22 not checked: no witness was named (--witness)"
    if evidence.nodes is None:
        yield "C13, C14, C29 as the events have it: the chain was not asked (--rpc)"
    if "content" in evidence.absent and evidence.content is None:
        yield "C15, C27 not checked: the content is not part of what was given (--content)"
    if "claims" in evidence.absent:
        yield "C12 over the events: the table of claims is not part of what was given"


def print_report(report: Report) -> None:
    """Print one line for each check, then every finding under its check, then the verdict."""
    for check, title in TITLES.items():
        findings = [finding for finding in report.findings if finding.check == check]
        made = report.checked.get(check)
        outcome = f"{len(findings)} findings" if findings else "ok" if made else "not checked"
        print(f"{check}  {title:<68} {made or 0:>9}  {outcome}")
        for finding in findings:
            print(f"     {_sentence(finding)}")
    for unknown in report.unknown:
        print(f"unknown: {unknown.check}  {_sentence(unknown)}")
    if report.unknown_count > len(report.unknown):
        print(f"unknown: {report.unknown_count} in all; the first are shown")
    for note in report.notes:
        print(f"note: {note}")
    count = len(report.findings)
    print("audit: ok" if report.ok else f"audit: {count} finding{'s' if count > 1 else ''}")


def _sentence(finding: AuditFinding) -> str:
    where = "" if finding.position is None else f"position {finding.position}: "
    whose = "" if finding.stream is None else f"{finding.stream}: "
    return f"{where}{whose}{finding.message}"


def print_json(report: Report) -> None:
    """Print the whole report as one JSON object."""
    print(json.dumps({"ok": report.ok, **asdict(report)}, indent=2))


@contextmanager
def progress_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, and nothing where the output is read by a program."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("replaying")

        def show(done: int, total: int) -> None:
            if done % PROGRESS_STEP == 0:
                bar.update(task, completed=done, total=total)

        yield show
