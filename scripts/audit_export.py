"""C28: an export made twice is the same file, so nobody needs to believe one that is shown."""

from __future__ import annotations

from pathlib import Path

from ledger.audit_report import AuditFinding, Report
from ledger.audit_source import AuditImpossible, read_guard
from ledger.checkpoint import parse_note
from ledger.errors import LedgerError, VerificationError
from ledger.evidence_source import Folder, export
from ledger.witness import read_checkpoint


def c28_reproducible(data_dir: Path, guard: Path, order_id: str, report: Report) -> None:
    """Export an order twice as of one head and compare; the folder must hold the provider's keys.

    What keeps the export from being made is no finding: it is said, and not held against anybody.
    """
    keys = data_dir / "keys"
    signer, log_key = (f"file:{keys / name}.json" for name in ("provider", "log"))
    folder = Folder(data_dir, guard, signer, log_key)
    try:
        size = read_checkpoint(parse_note((read_guard(guard) or b"").decode()).text).size
        first, second = (export(folder, order_id, size=size).bundle for _ in range(2))
    except (LedgerError, AuditImpossible, VerificationError, UnicodeDecodeError) as error:
        report.unknown_count += 1
        report.unknown.append(AuditFinding("C28", None, None, f"no export was made: {error}"))
        return
    report.checked["C28"] = 1
    if first.data != second.data:
        message = f"two exports of {order_id} as of size {size} differ: {first.digest}"
        report.findings.append(AuditFinding("C28", None, None, f"{message} and {second.digest}"))
