"""Format, lint, types, tests: the one command for people and for continuous integration.

`python -m scripts.check` stops at the first step that fails and returns its exit code.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGES: Final = ("ledger", "projections", "api", "scripts")
TEST_WORKERS: Final = 2

Step = tuple[str, list[str]]


def steps(*, fast: bool) -> list[Step]:
    """Return the steps in order. pytest itself fails when it finds no test at all."""
    tests = ["pytest", "-n", str(TEST_WORKERS)]
    if fast:
        tests += ["-m", "not slow"]
    return [
        ("format", ["ruff", "format", "--check", "."]),
        ("lint", ["ruff", "check", "."]),
        ("types", ["mypy", *PACKAGES]),
        ("tests", tests),
    ]


def run(name: str, arguments: list[str]) -> int:
    print(f"== {name}: {' '.join(arguments)}", flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False).returncode
    outcome = "passed" if code == 0 else f"FAILED (exit code {code})"
    print(f"== {name} {outcome} in {time.monotonic() - started:.1f} s\n", flush=True)
    return code


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.check", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="leave out the tests marked slow")
    options = parser.parse_args(argv)
    for name, arguments in steps(fast=options.fast):
        code = run(name, arguments)
        if code != os.EX_OK:
            return code
    return os.EX_OK


if __name__ == "__main__":
    raise SystemExit(main())
