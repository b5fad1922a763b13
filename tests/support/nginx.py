"""nginx in front of a service: the configuration that ships, other ports, a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.nginx import NginxMissingError, find_nginx

SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "nginx.conf"
PREFIX = "/agents/ledger"
CUT_OFF = (
    ("location / {", f"location {PREFIX}/ {{"),
    ("proxy_pass http://order_ledger;", "proxy_pass http://order_ledger/;"),
)
"""What a proxy has that cuts the prefix off: each line as it ships, and as docs/proxy.md has it."""
WAIT_SECONDS = 10
POLL_SECONDS = 0.01

AROUND = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/start.log notice;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def program() -> Path:
    """Return nginx; without it the test is left out, but never where everything is required."""
    try:
        return find_nginx()
    except NginxMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@dataclass(frozen=True)
class Front:
    """A port that nginx will answer on, known before it does."""

    folder: Path
    address: tuple[str, int]

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    @property
    def log(self) -> str:
        """Everything that nginx has written."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    @contextmanager
    def before(self, service_url: str, *changes: tuple[str, str]) -> Iterator[None]:
        """Run nginx before a service for the length of a block."""
        self._configure(service_url, changes)
        process = subprocess.Popen(
            [program(), "-p", self.folder, "-c", self.folder / "nginx.conf"],
            stderr=subprocess.DEVNULL,
        )
        try:
            self._wait_for(process)
            yield
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while process.poll() is None and time.monotonic() < until:
            try:
                socket.create_connection(self.address).close()
            except ConnectionRefusedError:
                time.sleep(POLL_SECONDS)
            else:
                return
        pytest.fail(f"nginx does not answer: {self.log}")

    def _configure(self, service_url: str, changes: tuple[tuple[str, str], ...]) -> None:
        site = SHIPPED.read_text("utf-8")
        for shipped, here in (
            ("listen 80;", f"listen {self.url.removeprefix('http://')} reuseport;"),
            ("127.0.0.1:8402", service_url.removeprefix("http://")),
            ("/var/log/nginx", str(self.folder)),
            *changes,
        ):
            assert site.count(shipped) >= 1, shipped
            site = site.replace(shipped, here)
        (self.folder / "site.conf").write_text(site)
        (self.folder / "nginx.conf").write_text(AROUND.format(folder=self.folder))


@contextmanager
def front(folder: Path) -> Iterator[Front]:
    """Hold a port for nginx, and a folder for what it writes."""
    folder.mkdir()
    program()
    with socket.socket() as held:
        # Bound, but not listening: nobody else is given the port, and nginx may share it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield Front(folder, held.getsockname())
