"""How the demo speaks: headings with the commands that repeat a part, one line per step."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

WIDTH_WITHOUT_TERMINAL: Final = 136
LABEL_WIDTH: Final = 26


_console: Final = Console(
    highlight=False, width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL
)


class DemoFailed(Exception):
    """Something did not happen as this product promises; the message says what."""


def expect(condition: bool, promise: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Raise `DemoFailed` unless the promise was kept."""
    if not condition:
        raise DemoFailed(f"this did not hold: {promise}")


def title(text: str) -> None:
    _console.print(Text(text, style="bold"))


def heading(text: str, only: str, test: str = "") -> None:
    """Open a part and say how to repeat it alone, and which test tries it harder."""
    _console.print()
    _console.print(Text(text, style="bold cyan"))
    commands = {"alone": f"scripts.demo --only {only}", "tested": test and f"pytest {test}"}
    for label, command in commands.items():
        if command:
            line = f"   {label + ':':<8}{python()} -m {command}"
            _console.print(Text(line, style="dim"), soft_wrap=True)


def step(label: str, outcome: str = "") -> None:
    """Say what was done and what came of it."""
    _console.print(Text.assemble(f"   {label:<{LABEL_WIDTH}} ", outcome), soft_wrap=True)


def checked(outcome: str) -> None:
    """Say what was verified; whatever does not verify ends the demo."""
    _console.print(
        Text.assemble(f"   {'':<{LABEL_WIDTH}} ", ("ok ", "green"), outcome), soft_wrap=True
    )


def show(renderable: object) -> None:
    _console.print(renderable)


def failed(reason: str) -> None:
    _console.print(Text.assemble(("demo: FAILED: ", "bold red"), reason), soft_wrap=True)


def passed(text: str) -> None:
    _console.print(Text(text, style="bold green"))


def python() -> str:
    """Return how the reader starts this interpreter from the folder they stand in."""
    program = Path(sys.executable)
    try:
        return str(program.relative_to(Path.cwd()))
    except ValueError:
        return str(program)


def short(text: str, head: int = 10, tail: int = 4) -> str:
    """Shorten a hash or an address for reading."""
    return text if len(text) <= head + tail + 2 else f"{text[:head]}..{text[-tail:]}"
