"""The verifier as one file: `python -m ledger.evidence_verifier > verify.py`.

It needs nothing but Python to be made, as it needs nothing else to run.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from importlib.resources import files
from typing import Final

PACKAGE: Final = "ledger.evidence_verify"
FROM_LEDGER: Final = ("solana_wire", "solana_rules")
"""Parts that the ledger itself reads signed transactions with; they need no package either."""

PARTS: Final = (
    "basics",
    "curves",
    "trees",
    "bags",
    "shapes",
    "words",
    "money",
    "deal",
    "rules",
    "facts",
    "sentences",
    "bundle",
    "limits",
    "deal_case",
    "case",
    "style",
    "report",
    "pages",
    "keys",
    "contents",
    "checks",
    "command",
)
"""In the order in which they need each other."""

HEADER: Final = '''#!/usr/bin/env python3
"""Check an evidence bundle of an order ledger: one file, no packages, Python 3.9 or newer.

    python3 -I verify.py evidence.zip --origin ORIGIN --log-key VKEY --wallet 0x...

Take this file and the keys from a source that you trust, not from the bundle.
SPDX-License-Identifier: Apache-2.0
"""

from __future__ import annotations
'''


@cache
def verifier_source() -> bytes:
    """Return the parts joined, the imports between them left out; always the same bytes."""
    modules: set[str] = set()
    names: dict[str, set[str]] = {}
    bodies = []
    places = [("ledger", part) for part in FROM_LEDGER] + [(PACKAGE, part) for part in PARTS]
    for package, part in places:
        text = files(package).joinpath(f"{part}.py").read_text("utf-8")
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                if node.module and not node.module.startswith(("ledger.", "__future__")):
                    names.setdefault(node.module, set()).update(a.name for a in node.names)
            else:
                continue
            lines[node.lineno - 1 : node.end_lineno] = [""] * _height(node)
        bodies.append("\n".join(lines).strip())
    imports = [f"import {name}" for name in sorted(modules)]
    imports += [f"from {name} import {', '.join(sorted(names[name]))}" for name in sorted(names)]
    parts = [HEADER, "\n".join(imports), *bodies]
    return ("\n\n".join(parts) + "\n").encode()


def _height(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


if __name__ == "__main__":
    sys.stdout.write(verifier_source().decode())
