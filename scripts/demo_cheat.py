"""Part 6: the provider cheats with all of its keys, and one event that a buyer kept shows it.

It happens on a copy: the ledger of the demo stays honest.
"""

from __future__ import annotations

import io
import sqlite3
import time
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Final

from ledger.checkpoint import LogKey
from ledger.entry import SignedEvent
from ledger.order_events import OrderQuoted
from ledger.signing import Signer, load_secret
from ledger.store_sqlite import connect
from scripts import audit_replay
from scripts.demo_forger import Provider, history_of, unprotected
from scripts.demo_order import Played
from scripts.demo_say import checked, expect, heading, python, short, step
from scripts.demo_stage import Stage

TEST: Final = "tests/integration/test_attack_table.py"
FORGED_WINDOW_S: Final = 60
FORK: Final = "FORK at position"


def show_cheat(stage: Stage, played: Played) -> None:
    """Rewrite the history of a copy, and audit it as the provider and as the buyer."""
    heading("6. The provider rewrites history with all its own keys", "cheat", TEST)
    started = time.monotonic()
    kept = played.proven[-1]
    held = stage.folder / "kept-by-the-buyer.json"
    held.write_bytes(kept.event.entry)
    step(
        "the buyer keeps",
        f"one signed event, {kept.event.event.kind!r} at position {kept.position}: {held.name}",
    )
    data_dir = stage.folder / "rewritten"
    _rewrite(stage, data_dir, played.order_id)
    _audit_of_the_provider(data_dir)
    _audit_of_the_buyer(data_dir, held, kept.event)
    step("", f"all of this took {time.monotonic() - started:.1f} s")


def _rewrite(stage: Stage, data_dir: Path, order_id: str) -> None:
    """Change the terms of a quote, and make everything after it fit."""
    provider = _provider_of(stage)
    with _copy(stage.data_dir, data_dir) as db, unprotected(db):
        history = history_of(db)
        at, terms = next(
            (at, told.event)
            for at, told in enumerate(history)
            if isinstance(told.event, OrderQuoted) and told.stream == f"order/{order_id}"
        )
        forged = terms.model_copy(update={"acceptance_window": FORGED_WINDOW_S})
        history[at] = replace(history[at], event=forged)
        note = provider.rewrite(db, history)
    db.close()
    audit_replay.default_guard(data_dir).write_bytes(note)
    step(
        "the provider forges",
        f"position {at + 1}: {terms.acceptance_window} s to complain become {FORGED_WINDOW_S} s",
    )
    step("", f"{len(history) - at} events signed anew, tiles and guard made to fit")


def _copy(source: Path, data_dir: Path) -> sqlite3.Connection:
    data_dir.mkdir()
    running = connect(str(source / "ledger.db"), read_only=True)
    copy = sqlite3.connect(data_dir / "ledger.db")
    running.backup(copy)
    running.close()
    return copy


def _provider_of(stage: Stage) -> Provider:
    keys = stage.data_dir / "keys"
    log_seed = load_secret(f"file:{keys / 'log.json'}", may_create=False)
    wallet = load_secret(f"file:{keys / 'provider.json'}", may_create=False)
    origin = stage.pinned().origin
    return Provider(origin, Signer(wallet), LogKey(origin, log_seed))


def _audit_of_the_provider(data_dir: Path) -> None:
    code, said = _audit(data_dir)
    step("the provider audits", _command(data_dir))
    verdict = said.splitlines()[-1]
    expect((code, verdict) == (0, "audit: ok"), f"a careful forger passes its own audit:\n{said}")
    step("", f"{verdict}: the provider's own files prove nothing against the provider")


def _audit_of_the_buyer(data_dir: Path, held: Path, kept: SignedEvent) -> None:
    code, said = _audit(data_dir, "--held", str(held))
    step("the buyer audits", f"{_command(data_dir)} --held {held}")
    found = next((line.strip() for line in said.splitlines() if FORK in line), "")
    expect(code == audit_replay.EXIT_FINDINGS and bool(found), f"the forgery is found:\n{said}")
    signature = str(found.partition("held with ")[2].partition(",")[0])
    logged = found.rpartition(" ")[2]
    expect(kept.stream in found, "it is the buyer's own order")
    expect(signature.startswith("0x") and logged.startswith("0x") and signature != logged, found)
    checked(found[found.index(FORK) :].partition(":")[0])
    step("signed for the buyer", signature)
    step("signed in this ledger", logged)
    step("", f"both are by {short(kept.signer)}: it signed two histories, and cannot deny either")


def _audit(data_dir: Path, *options: str) -> tuple[int, str]:
    """Run the audit as its command does, and return its exit code and what it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = audit_replay.main([str(data_dir), "--no-views", *options])
    return code, printed.getvalue().strip()


def _command(data_dir: Path) -> str:
    return f"{python()} -m scripts.audit_replay {data_dir} --no-views"
