"""What an auditor gives on the command line, read into what the audit takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from ledger.audit_forms import read_held
from ledger.audit_held import Held
from ledger.audit_keys import Trust
from ledger.audit_others import Evidence
from ledger.audit_rpc import Nodes
from ledger.audit_source import AuditImpossible, snapshot
from ledger.audit_witness import MAX_GAP_S, Witnesses
from ledger.cosignature import parse_witness_key
from ledger.errors import VerificationError


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the audit's command line."""
    found = argparse.ArgumentParser(prog="python -m scripts.audit_replay", description=description)
    found.add_argument(
        "ledger",
        help="a service's data folder or a copy of it, its ledger.db as a path or as sqlite:///PATH,"
        " or the https URL of a live service",
    )
    found.add_argument("--guard", type=Path, help="the guard file; default: DATA_DIR.guard")
    found.add_argument("--log-key", help="the log's verifier key, known from elsewhere")
    found.add_argument("--wallet", help="the signing wallet's address, known from elsewhere")
    _elsewhere(found)
    views = found.add_mutually_exclusive_group()
    views.add_argument("--views", type=Path, help="the views to compare; default: views.db")
    views.add_argument("--no-views", action="store_true", help="compare no views")
    found.add_argument(
        "--export", metavar="ORDER_ID", help="folder with keys: make this order's export twice"
    )
    found.add_argument("--token", help="live service: your token; default: LEDGER_TOKEN")
    found.add_argument("--order", metavar="ORDER_ID", help="live service: audit only this order")
    found.add_argument("--json", action="store_true", help="print the report as JSON")
    return found


def _elsewhere(found: argparse.ArgumentParser) -> None:
    """Add what comes from others than the provider; each part widens the checks."""
    found.add_argument(
        "--held",
        type=Path,
        action="append",
        default=[],
        help="a file with what somebody kept: answers, signed events, or a checkpoint; repeatable",
    )
    found.add_argument(
        "--earlier-log-key",
        action="append",
        default=[],
        metavar="VKEY",
        help="a key of the log that this one continues, for heads of it in --held; repeatable",
    )
    found.add_argument(
        "--rpc", action="append", default=[], metavar="URL", help="a node to ask; repeatable"
    )
    found.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="VKEY",
        help="a witness whose word counts; its checkpoints come with --held; repeatable",
    )
    found.add_argument("--quorum", type=int, help="witnesses that must agree; default: all")
    found.add_argument(
        "--witness-gap",
        type=int,
        default=MAX_GAP_S,
        metavar="SECONDS",
        help="how long an event may wait to be seen; default: a day",
    )
    found.add_argument(
        "--content", type=Path, help="a database with the content, if it is not in the ledger"
    )
    found.add_argument(
        "--no-content", action="store_true", help="the content was not handed over: do not ask"
    )


def trust_of(options: argparse.Namespace) -> Trust:
    """Return the keys that the auditor knows from elsewhere."""
    return Trust(options.log_key, options.wallet and options.wallet.lower())


def evidence_of(
    options: argparse.Namespace, stack: ExitStack, absent: frozenset[str] = frozenset()
) -> Evidence:
    """Return what others hold; raises `AuditImpossible` or `HeldUnreadable`."""
    try:
        witnesses = _witnesses(options.witness, options.quorum, options.witness_gap)
        nodes = Nodes.of(options.rpc) if options.rpc else None
    except (VerificationError, ValueError) as error:
        raise AuditImpossible(str(error)) from error
    content = None if options.content is None else stack.enter_context(snapshot(options.content))
    if options.no_content:
        absent |= {"content"}
    held = [held for path in options.held for held in held_in(path)]
    return Evidence(held, witnesses, nodes, content, absent, tuple(options.earlier_log_key))


def held_in(path: Path) -> list[Held]:
    """Return what a file holds."""
    return read_held(path.read_text(encoding="utf-8"), path.name)


def _witnesses(vkeys: Sequence[str], quorum: int | None, gap_s: int) -> Witnesses | None:
    if not vkeys:
        return None
    keys = tuple(dict.fromkeys(parse_witness_key(vkey) for vkey in vkeys))
    return Witnesses(keys, len(keys) if quorum is None else quorum, gap_s)
