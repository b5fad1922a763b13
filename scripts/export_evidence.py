"""Write the evidence bundle of one order, from a data folder or from a live service.

`python -m scripts.export_evidence LEDGER ORDER_ID` ends with 0 once the bundle is written, 1 if it
is written but does not verify, and 2 if there is none. A data folder is only read, also while the
service runs; the wallet's key in it signs the bundle.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import sys
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp

from api.config import Settings
from ledger.audit_source import AuditImpossible
from ledger.errors import InvalidInput, LedgerError, NotFound, VerificationError
from ledger.evidence import Bundle, parse_redactions
from ledger.evidence_source import Exported, Folder, export
from ledger.evidence_verify.bags import MAX_BAG_BYTES, read_zip
from ledger.evidence_verify.basics import Bad
from ledger.evidence_verify.checks import Checks
from ledger.evidence_verify.keys import Roots

EXIT_UNVERIFIED: Final = 1
EXIT_IMPOSSIBLE: Final = 2
TIMEOUT_SECONDS: Final = 120
CHUNK_BYTES: Final = 1 << 16
TOKEN: Final = "LEDGER_TOKEN"  # noqa: S105 - the name of a variable


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    try:
        if "://" in options.ledger:
            _write(asyncio.run(_fetched(options)), options.out)
            return os.EX_OK
        found = _exported(options)
        _write(found.bundle, options.out)
    except (LedgerError, AuditImpossible, OSError, sqlite3.Error, aiohttp.ClientError) as error:
        print(f"export: {str(error) or type(error).__name__}", file=sys.stderr)
        return EXIT_IMPOSSIBLE
    print("check it, with verify.py of a source that you trust:")
    print(f"  python3 -I verify.py {found.bundle.name} --origin {found.origin} \\")
    print(f"    --log-key {found.log_key} --wallet {found.wallet}")
    return _verified(found)


def _exported(options: argparse.Namespace) -> Exported:
    redact, data_dir = parse_redactions(options.redact), Path(options.ledger)
    folder = Folder(
        data_dir,
        options.guard or data_dir.absolute().with_name(data_dir.absolute().name + ".guard"),
        options.signer or f"file:{data_dir / 'keys' / 'provider.json'}",
        options.log_key or f"file:{data_dir / 'keys' / 'log.json'}",
    )
    policies = (options.policy.read_text("utf-8") if options.policy else _policy(),)
    return export(folder, options.order, size=options.size, redact=redact, policies=policies)


def _policy() -> str:
    """Return the refund policy that the service would show; the quote says whether it is its."""
    return os.environ.get("LEDGER_REFUND_POLICY") or str(
        Settings.model_fields["refund_policy"].default
    )


async def _fetched(options: argparse.Namespace) -> Bundle:
    """Ask a live service. What it sends is not believed: verify.py judges it."""
    token = os.environ.get(TOKEN, "")
    if not token:
        raise InvalidInput(f"{TOKEN}: a token of POST /v1/auth/token is needed")
    wanted = {"size": options.size, "redact": options.redact}
    url = f"{options.ledger.rstrip('/')}/ledger/orders/{options.order}/evidence"
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.get(
            url,
            params={name: str(value) for name, value in wanted.items() if value},
            headers={"Authorization": f"Bearer {token}"},
            allow_redirects=False,
        ) as response,
    ):
        if response.status == HTTPStatus.NOT_FOUND:
            raise NotFound("the service knows no such order, or none that the token is for")
        if response.status != HTTPStatus.OK:
            raise VerificationError(f"the service answered {response.status}")
        data = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK_BYTES):
            data += chunk
            if len(data) > MAX_BAG_BYTES:
                raise VerificationError(f"the answer is longer than {MAX_BAG_BYTES} bytes")
    return Bundle(_name(bytes(data), options.order), bytes(data))


def _name(data: bytes, order_id: str) -> str:
    """Return the file name that a bundle gives itself, if it is one of this order."""
    try:
        base, _ = read_zip(data)
    except Bad as error:
        raise VerificationError(f"the service sent no bundle: {error}") from error
    if not base.startswith(f"evidence-{order_id}-"):
        raise VerificationError("the service sent the bundle of another order")
    return f"{base}.zip"


def _write(bundle: Bundle, out: Path | None) -> None:
    """Write the bundle for this user alone: it holds the order's secret and the parties' words."""
    path = out or Path(bundle.name)
    fresh = path.with_name(f".{path.name}.new")
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(bundle.data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    print(f"{path}: {len(bundle.data)} bytes, sha256 {bundle.digest}")


def _verified(found: Exported) -> int:
    """Check what was written as its reader will: a damaged ledger makes no good evidence."""
    roots = Roots()
    roots.origin, roots.log_keys, roots.wallets = found.origin, [found.log_key], [found.wallet]
    checks = Checks(found.bundle.data, roots)
    checks.run()
    for outcome in checks.outcomes:
        if not outcome.holds:
            print(f"export: {outcome.name} fails: {outcome.text}", file=sys.stderr)
    return os.EX_OK if checks.ok else EXIT_UNVERIFIED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.export_evidence",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ledger", help=f"a data folder, or a service's URL (token in {TOKEN})")
    parser.add_argument("order", metavar="ORDER_ID")
    parser.add_argument("--out", type=Path, help="default: evidence-ORDER_ID-SIZE.zip, here")
    parser.add_argument("--size", type=int, help="as of this many events; default: the newest head")
    parser.add_argument(
        "--redact", default="", metavar="FIELDS", help="content to leave out, a comma list"
    )
    folder = parser.add_argument_group("for a data folder")
    folder.add_argument(
        "--guard",
        type=Path,
        default=os.environ.get("LEDGER_GUARD_FILE"),
        help="the guard file; default: LEDGER_GUARD_FILE, or DATA_DIR.guard",
    )
    folder.add_argument(
        "--signer",
        default=os.environ.get("LEDGER_SIGNER"),
        help="the wallet's key: file:PATH or env:NAME; default: LEDGER_SIGNER, or in DATA_DIR/keys",
    )
    folder.add_argument(
        "--log-key",
        default=os.environ.get("LEDGER_LOG_KEY"),
        help="the log's key, for an older size; default: LEDGER_LOG_KEY, or in DATA_DIR/keys",
    )
    folder.add_argument("--policy", type=Path, help="the refund policy that the quote names")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
