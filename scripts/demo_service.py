"""The real service as a process of its own, which dies with the demo that started it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final
from urllib.parse import urlsplit

from scripts.anvil_process import TETHER
from scripts.demo_say import DemoFailed

READY_SECONDS: Final = 30
STOP_SECONDS: Final = 15
LISTENING: Final = "listening on "
LOG_TAIL: Final = 2000


class ServiceProcess:
    """One data folder and, while running, one process. `kill` is SIGKILL, `stop` is SIGTERM.

    To be started from the main thread: the kernel ends the process with the thread that made it.
    """

    def __init__(self, settings: Mapping[str, str], log: Path) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LEDGER_")}
        self._environment = {**inherited, **settings}
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> float:
        """Start it and return after how many seconds it listened; later on the same port."""
        started = time.monotonic()
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid())),
                    *(sys.executable, "-m", "scripts.cli", "serve"),
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.url = self._listening(self._process.stdout)
        self._environment["LEDGER_PORT"] = str(urlsplit(self.url).port)
        return time.monotonic() - started

    def kill(self) -> None:
        """End it as a power cut would, without a word."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and see that it does."""
        self._end(signal.SIGTERM)

    def _end(self, signal_number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal_number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()

    def _listening(self, output: IO[str] | None) -> str:
        """Return the address of the line that says where it listens."""
        if output is not None and select.select([output], [], [], READY_SECONDS)[0]:
            line = output.readline()
            if line.startswith(LISTENING):
                return line.removeprefix(LISTENING).strip()
        self.kill()
        raise DemoFailed(f"the service did not start:\n{self._log.read_text()[-LOG_TAIL:]}")
