"""Running one step of an installation into the project's own tools folder: quiet unless it fails.

Only the standard library is used, so that it runs in a bare virtual environment.
"""

import subprocess
from collections.abc import Sequence
from typing import Final

FETCH_TIMEOUT_SECONDS: Final = 600


class FetchError(Exception):
    """A step failed; the message is the command and what it said."""


def run_step(command: Sequence[str]) -> None:
    """Run a command to its end, or raise `FetchError`."""
    try:
        subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=FETCH_TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise FetchError(f"{' '.join(command)} failed:\n{error.stdout}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FetchError(f"{' '.join(command)} failed: {error}") from error
