"""The command line: reads one file, prints PASS or FAIL for each check, ends with a code."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from ledger.evidence_verify.bags import MAX_BAG_BYTES
from ledger.evidence_verify.basics import FORMAT
from ledger.evidence_verify.checks import TITLES, Checks
from ledger.evidence_verify.keys import Roots

ABOUT = """Check an evidence bundle of an order ledger, without trusting who made it.

Ends with 0 if every check holds, 1 if one fails, 2 if the bundle cannot be read at all, 3 if every
check holds but keys were taken from the bundle itself, which proves nothing against its maker."""
PASSED, FAILED, IMPOSSIBLE, UNTRUSTED = 0, 1, 2, 3
RESULTS = {
    PASSED: "every check holds",
    FAILED: "NOT AUTHENTIC, or not whole",
    UNTRUSTED: "every check holds, but against keys that the bundle itself brought",
}


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    roots = Roots()
    roots.origin, roots.log_keys = options.origin, options.log_key
    roots.wallets = [wallet.lower() for wallet in options.wallet]
    roots.witnesses = options.witness
    roots.client, roots.arbiter = _wallet(options.client), options.arbiter.lower()
    try:
        with Path(options.bundle).open("rb") as file:
            data = file.read(MAX_BAG_BYTES + 1)
    except OSError as error:
        print(f"cannot read {options.bundle}: {error.strerror}", file=sys.stderr)  # noqa: T201 - a command line prints
        return IMPOSSIBLE
    checks = Checks(data, roots)
    checks.run()
    return _report(checks, trust_bag=options.trust_bag, as_json=options.json)


def _wallet(text: str) -> str:
    """Return an EVM address in lower case; in a Solana address, case says something."""
    return text.lower() if text[:2] in ("0x", "0X") else text


def exit_code(checks: Checks, *, trust_bag: bool) -> int:
    if not checks.ok:
        return FAILED
    return UNTRUSTED if checks.roots.missing and not trust_bag else PASSED


def _report(checks: Checks, *, trust_bag: bool, as_json: bool) -> int:
    code = exit_code(checks, trust_bag=trust_bag)
    lines = [_json(checks, code)] if as_json else _lines(checks, code)
    for line in lines:
        # What a bundle says may hold what steers a terminal, or what it cannot show.
        print("".join(c if " " <= c <= "~" or c == "\n" else _escaped(c) for c in line))  # noqa: T201
    return code


def _escaped(character: str) -> str:
    return f"[U+{ord(character):04X}]"


def _json(checks: Checks, code: int) -> str:
    made = {o.name: {"holds": o.holds, "text": o.text} for o in checks.outcomes}
    document = {
        "format": FORMAT,
        "exit": code,
        "sha256": hashlib.sha256(checks.data).hexdigest(),
        "taken_from_the_bundle": checks.roots.missing,
        "checks": {name: made.get(name) for name in TITLES},
    }
    return json.dumps(document, indent=1)


def _lines(checks: Checks, code: int) -> list[str]:
    lines = [f"sha256 {hashlib.sha256(checks.data).hexdigest()}"]
    made = {outcome.name: outcome for outcome in checks.outcomes}
    for name, (title, _, _) in TITLES.items():
        outcome = made.get(name)
        word = "----" if outcome is None else "PASS" if outcome.holds else "FAIL"
        lines.append(f"{word}  {name}  {title}")
        if outcome is not None and outcome.text:
            lines.append(f"           {outcome.text}")
    lines += _own_notes(checks)
    if checks.roots.missing:
        lines += [
            "WARNING: not given: " + ", ".join(checks.roots.missing) + ".",
            "WARNING: taken from the bundle itself, where its maker can write what it likes.",
        ]
    return [*lines, f"RESULT: {RESULTS[code]}"]


def _own_notes(checks: Checks) -> list[str]:
    """Say whether the verifier that came with the bundle is this program."""
    inside = checks.files.get("verify.py")
    try:
        own = Path(__file__).read_bytes()
    except (OSError, NameError):
        return []
    if inside is None or inside == own:
        return []
    return ["note: the verify.py in the bundle is another program than this one"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="verify.py", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="the zip file")
    parser.add_argument("--origin", default="", help="the log's name")
    parser.add_argument(
        "--log-key", action="append", default=[], metavar="VKEY", help="the log's key; may repeat"
    )
    parser.add_argument(
        "--wallet", action="append", default=[], metavar="0x...", help="its wallet; may repeat"
    )
    parser.add_argument("--client", default="", metavar="0x...", help="who the client has to be")
    parser.add_argument("--arbiter", default="", metavar="0x...", help="who the arbiter has to be")
    parser.add_argument(
        "--witness", action="append", default=[], metavar="VKEY", help="who has to have cosigned"
    )
    parser.add_argument(
        "--trust-bag", action="store_true", help="take what is not given from the bundle"
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
