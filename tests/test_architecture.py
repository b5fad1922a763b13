"""The shape of the code: who may import whom, and how long things may get."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each package, and those of ours that it may import besides itself.
MAY_IMPORT: dict[str, frozenset[str]] = {
    "ledger": frozenset(),
    "projections": frozenset({"ledger"}),
    "api": frozenset({"ledger", "projections"}),
    "scripts": frozenset({"ledger", "projections", "api"}),
}
OURS = frozenset({*MAY_IMPORT, "tests"})
FUNCTION_LINES = 50
MODULE_LINES = 300

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def violations(root: Path) -> list[str]:
    """Return one line for each breach of the rules in the four packages below `root`."""
    found: list[str] = []
    for package in MAY_IMPORT:
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text, filename=str(path))
            place = path.relative_to(root)
            found += wrong_imports(place, tree)
            found += too_long(place, text, tree)
    return found


def wrong_imports(place: Path, tree: ast.Module) -> Iterator[str]:
    package = place.parts[0]
    forbidden = OURS - MAY_IMPORT[package] - {package}
    for line, module in imported_modules(tree):
        top = module.partition(".")[0]
        if top in forbidden:
            yield f"{place}:{line}: {package} must not import {top}"
        # The benchmark measures the library beside us, used the plain way.
        compared = place == Path("scripts/bench_library.py")
        if top == "eventsourcing" and not place.match("ledger/store*.py") and not compared:
            yield f"{place}:{line}: only ledger/store*.py may import eventsourcing"


def imported_modules(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Walk everywhere: an import inside a function or under TYPE_CHECKING counts as well."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            # A relative import cannot leave its own package.
            yield node.lineno, node.module


def too_long(place: Path, text: str, tree: ast.Module) -> Iterator[str]:
    lines = len(text.splitlines())
    if lines > MODULE_LINES:
        yield f"{place}: {lines} lines, more than {MODULE_LINES}"
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES:
                where = f"{place}:{node.lineno}: {node.name}"
                yield f"{where} has {length} lines, more than {FUNCTION_LINES}"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Lay out the packages without a module, to plant some."""
    for package in MAY_IMPORT:
        (tmp_path / package).mkdir()
    return tmp_path


def test_every_import_points_the_right_way_and_nothing_is_too_long() -> None:
    assert violations(ROOT) == []


def test_every_package_is_looked_at() -> None:
    assert all(any((ROOT / package).rglob("*.py")) for package in MAY_IMPORT)


@pytest.mark.parametrize(
    ("module", "statement", "complaint"),
    [
        ("ledger/planted.py", "import projections.orders", "ledger must not import projections"),
        ("ledger/planted.py", "from api import app", "ledger must not import api"),
        ("ledger/planted.py", "def f():\n    import scripts", "ledger must not import scripts"),
        ("projections/planted.py", "from api.app import x", "projections must not import api"),
        ("api/deep/planted.py", "import scripts.cli", "api must not import scripts"),
        ("scripts/planted.py", "from tests import support", "scripts must not import tests"),
        (
            "ledger/planted.py",
            "from eventsourcing.persistence import Mapper",
            "only ledger/store*.py may import eventsourcing",
        ),
        (
            "projections/store.py",
            "import eventsourcing",
            "only ledger/store*.py may import eventsourcing",
        ),
    ],
)
def test_a_planted_import_is_caught(
    empty: Path, module: str, statement: str, complaint: str
) -> None:
    planted = empty / module
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(statement)

    [caught] = violations(empty)

    assert caught.startswith(module)
    assert caught.endswith(complaint)


def test_the_allowed_imports_are_not_caught(empty: Path) -> None:
    (empty / "ledger" / "store_planted.py").write_text("import eventsourcing.sqlite")
    (empty / "projections" / "planted.py").write_text("import ledger.events")
    (empty / "api" / "planted.py").write_text("import ledger, projections")
    (empty / "scripts" / "planted.py").write_text("import api, ledger, projections, scripts.cli")

    assert violations(empty) == []


def test_a_function_of_51_lines_is_caught_and_one_of_50_is_not(empty: Path) -> None:
    planted = empty / "api" / "planted.py"

    planted.write_text("def longest():\n" + "    pass\n" * 49)
    assert violations(empty) == []

    planted.write_text("async def longest():\n" + "    pass\n" * 50)
    [caught] = violations(empty)
    assert caught == "api/planted.py:1: longest has 51 lines, more than 50"


def test_a_module_of_301_lines_is_caught_and_one_of_300_is_not(empty: Path) -> None:
    planted = empty / "api" / "planted.py"

    planted.write_text("x = 1\n" * 300)
    assert violations(empty) == []

    planted.write_text("x = 1\n" * 301)
    [caught] = violations(empty)
    assert caught == "api/planted.py: 301 lines, more than 300"
