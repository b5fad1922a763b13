"""The real service as a process of its own, on a port that the system picked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PAYMENT_ADDRESS = "0x00000000000000000000000000000000000000aa"
RECOVERY_ADDRESS = "0x00000000000000000000000000000000000000bb"
READY_SECONDS = 30


class Service:
    """One data folder and, while running, one process. `kill` is SIGKILL, `stop` is SIGTERM."""

    def __init__(self, folder: Path, rpc_url: str = "", **settings: str) -> None:
        self.data_dir = folder / "data"
        self.guard = folder / "data.guard"
        self.errors = folder / "service.log"
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("LEDGER_")},
            "LEDGER_PORT": "0",
            "LEDGER_DATA_DIR": str(self.data_dir),
            "LEDGER_RPC_URLS": rpc_url,
            "LEDGER_DEV_CHAIN": "true",
            "LEDGER_PAYMENT_ADDRESS": PAYMENT_ADDRESS,
            "LEDGER_RECOVERY_ADDRESS": RECOVERY_ADDRESS,
            "LEDGER_RATE_LIMIT": "0",
            "LEDGER_MAX_OPEN_QUOTES": "0",
            "LEDGER_LOOP_INTERVAL": "0.1",
            **{f"LEDGER_{name.upper()}": value for name, value in settings.items()},
        }
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self, *command: str) -> None:
        """Start and wait for the line that says where it listens.

        `command` is the module to run, with arguments, where it is not the service as it is.
        """
        with self.errors.open("a") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *(command or ("scripts.cli", "serve"))],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), self.errors.read_text()[-2000:]
        self.url = line.split()[-1]

    def kill(self) -> None:
        """End the process as a power cut would end it."""
        self._end(signal.SIGKILL)

    def died(self) -> None:
        """Take note that the process has ended itself with SIGKILL."""
        assert self._process is not None
        assert self._process.wait(READY_SECONDS) == -signal.SIGKILL
        self.kill()

    def stop(self) -> int:
        """Ask the process to end and return its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, signal_number: signal.Signals) -> int:
        process = self._process
        if process is None:
            return 0
        process.send_signal(signal_number)
        code = process.wait(READY_SECONDS)
        assert process.stdout is not None
        process.stdout.close()
        self._process = None
        return code


@contextmanager
def running(folder: Path, rpc_url: str = "", **settings: str) -> Iterator[Service]:
    """Run a service for the length of a block."""
    service = Service(folder, rpc_url, **settings)
    service.start()
    try:
        yield service
    finally:
        service.stop()
