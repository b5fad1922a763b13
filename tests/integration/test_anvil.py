import shutil
from pathlib import Path

import pytest

from scripts.anvil import AnvilMissingError, find_anvil, version_of
from scripts.anvil_process import AnvilProcess, AnvilStartError


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_anvil_on_the_search_path_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path = program(tmp_path / "bin" / "anvil", "echo 'anvil Version: 9.9.9'")
    monkeypatch.setenv("PATH", str(on_path.parent))

    assert find_anvil(tmp_path) == on_path
    assert version_of(on_path) == "9.9.9"


def test_another_program_named_anvil_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = program(tmp_path / "bin" / "anvil", "echo 'anvil 0.1.1'")
    tool = tmp_path / "node_modules" / "@foundry-rs" / "anvil-linux-amd64" / "bin" / "anvil"
    program(tool, "echo 'anvil Version: 9.9.9'")
    monkeypatch.setenv("PATH", str(stranger.parent))

    assert find_anvil(tmp_path) == tool


def test_a_missing_anvil_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(AnvilMissingError, match=r"python -m scripts\.anvil"):
        find_anvil(tmp_path)


def test_an_anvil_that_ends_at_once_is_reported_with_its_output(tmp_path: Path) -> None:
    broken = program(tmp_path / "anvil", "echo 'no room left'; exit 3")

    with pytest.raises(AnvilStartError, match="no room left"):
        AnvilProcess(broken, [])


def test_a_program_that_cannot_be_run_is_reported(tmp_path: Path) -> None:
    with pytest.raises(AnvilStartError, match="did not start"):
        AnvilProcess(tmp_path / "absent", [])
