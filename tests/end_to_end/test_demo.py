"""The demo as a new user runs it: one command, an exit code, and nothing left behind."""

import http.client
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import scripts.demo
from scripts.demo_say import expect

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, "-m", "scripts.demo"]
DEMO_SECONDS = 300
DYING_SECONDS = 60
CHEAT_SECONDS = 3


def environment(folder: Path) -> dict[str, str]:
    """Return an environment whose temporary folders lie in `folder`."""
    return {**os.environ, "TMPDIR": str(folder), "LEDGER_PORT": "not a port"}


def answers(url: str) -> bool:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=1)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def url_in(output: Path) -> str:
    """Wait until the demo says where its service listens."""
    deadline = time.monotonic() + DEMO_SECONDS
    while time.monotonic() < deadline:
        found = re.search(r"service +(http://\S+),", output.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    raise TimeoutError(output.read_text())


@pytest.mark.slow
def test_the_demo_keeps_every_promise_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder, output = tmp_path / "tmp", tmp_path / "output"
    folder.mkdir()

    with output.open("w") as out:
        ended = subprocess.run(
            [*DEMO, "--exit"],
            cwd=ROOT,
            env=environment(folder),
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=DEMO_SECONDS,
            check=False,
        )

    text = output.read_text()
    assert ended.returncode == 0, text
    assert re.search(r"503 pending, still position \d+", text)
    assert "one claim, one payment, nothing repeated" in text
    counted = re.search(r"acknowledged (\d+), present (\d+), doubled (\d+)", text)
    assert counted
    assert counted[1] == counted[2] != "0"
    assert counted[3] == "0"
    for status in ("quoted", "paid", "processing", "ready", "delivered", "confirmed"):
        assert re.search(rf"^ *\d+ +{status} +(client, )?provider", text, re.MULTILINE), status
    assert "audit: ok" in text
    assert text.index("audit: ok: the provider's own files") < text.index("FORK at position")
    signed = re.search(
        r"signed for the buyer +(0x\w{130})\n +signed in this ledger +(0x\w{130})", text
    )
    assert signed
    assert signed[1] != signed[2]
    took = re.search(r"all of this took (\S+) s", text)
    assert took
    assert float(took[1]) < CHEAT_SECONDS
    assert "demo: ok" in text
    assert list(folder.iterdir()) == []


@pytest.mark.slow
def test_the_service_dies_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    output = tmp_path / "output"
    with output.open("w") as out:
        demo = subprocess.Popen(
            [*DEMO, "--only", "kill", "--exit"],
            cwd=ROOT,
            env=environment(tmp_path),
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        url = url_in(output)
        assert answers(url)
    finally:
        demo.send_signal(signal.SIGKILL)
        demo.wait()

    deadline = time.monotonic() + DYING_SECONDS
    while answers(url) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not answers(url)


def test_a_broken_promise_ends_the_demo_with_1_and_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    water_is_dry = False

    def broken(*_: object, **__: object) -> None:
        expect(water_is_dry, "water is dry")

    monkeypatch.setattr(scripts.demo, "run", broken)

    code = scripts.demo.main(["--exit"])

    assert code == 1
    assert "demo: FAILED: this did not hold: water is dry" in capsys.readouterr().out
