"""Part 5: an audit of everything the demo recorded, by the script that any auditor runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from scripts.demo_say import checked, expect, heading, python, step
from scripts.demo_stage import Stage

ROOT: Final = Path(__file__).resolve().parent.parent
AUDIT_SECONDS: Final = 60
VERDICT: Final = "audit: ok"
CHECK: Final = re.compile(r"C\d\d ")


def show_audit(stage: Stage) -> None:
    """Replay the ledger while the service runs, and print the verdict."""
    heading("5. The audit of this ledger", "audit")
    arguments = ["-m", "scripts.audit_replay", str(stage.data_dir)]
    step("command", f"{python()} {' '.join(arguments)}")
    audit = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=AUDIT_SECONDS,
        check=False,
    )
    lines = audit.stdout.strip().splitlines()
    clean = audit.returncode == 0 and VERDICT in lines
    expect(clean, f"the audit is clean:\n{audit.stdout}{audit.stderr}")
    passed = [line for line in lines if CHECK.match(line) and line.endswith("ok")]
    step("checks that found nothing", f"{len(passed)}; the command lists them")
    checked(VERDICT)
