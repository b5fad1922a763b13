"""One running anvil process, which never outlives the program that started it."""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

START_TIMEOUT_SECONDS: Final = 30
STOP_TIMEOUT_SECONDS: Final = 5
LISTENING: Final = "Listening on "

# Runs in the child, then turns into anvil under the same process id. On Linux the kernel is
# asked (PR_SET_PDEATHSIG = 1) to kill it with its parent; the parent may have died before the
# question was put, hence the comparison. Elsewhere only `stop` ends the process.
TETHER: Final = """
import os, signal, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the parent process is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class AnvilStartError(Exception):
    """anvil ended, or stayed silent, before it listened; the message holds its output."""


class AnvilProcess:
    """Starts anvil on a port picked by the system and waits until it listens there."""

    def __init__(self, program: Path, arguments: Sequence[str]) -> None:
        self._command = [
            *(sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid())),
            *(str(program), "--host", "127.0.0.1", "--port", "0", *arguments),
        ]
        self._output: list[str] = []
        self._listening: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        # Linux ties the death signal to the thread that started the child, not to the process.
        # This thread lives exactly as long as anvil does, whichever thread the caller is in.
        self._keeper = threading.Thread(target=self._keep, name="anvil", daemon=True)
        self._keeper.start()
        self.address = self._wait_until_listening()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise AnvilStartError("anvil was not started")
        return self._process.pid

    def wait(self) -> None:
        """Return when anvil has ended."""
        self._keeper.join()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._keeper.join()

    def _keep(self) -> None:
        try:
            # A session of its own keeps Ctrl-C from ending anvil before its user has finished.
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        except OSError as error:
            self._output.append(str(error))
            self._listening.put(None)
            return
        self._process = process
        with process:
            self._read_output(process)
        self._listening.put(None)

    def _read_output(self, process: subprocess.Popen[str]) -> None:
        """Drain the pipe to its end, so that anvil can never block on a full one."""
        listening = False
        for line in process.stdout or ():
            if line.startswith(LISTENING):
                listening = True
                self._listening.put(line.removeprefix(LISTENING).strip())
            elif not listening:
                self._output.append(line)

    def _wait_until_listening(self) -> str:
        try:
            address = self._listening.get(timeout=START_TIMEOUT_SECONDS)
        except queue.Empty:
            address = None
        if address is None:
            self.stop()
            raise AnvilStartError(f"anvil did not start:\n{''.join(self._output)}")
        return address
