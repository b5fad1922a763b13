"""A service handler that a test can hold; it runs inside the service's process."""

from __future__ import annotations

import os
import time
from pathlib import Path

from api.handler import Produced, ServiceRequest

FOLDER = "HELD_HANDLERS"
LOOK_SECONDS = 0.01


def held(request: ServiceRequest) -> Produced:
    """Note the start, then produce as soon as the test lets it."""
    folder = Path(os.environ[FOLDER])
    with (folder / f"{request.order_id}.started").open("a") as starts:
        starts.write("started\n")
    while not (folder / f"{request.order_id}.go").exists():
        time.sleep(LOOK_SECONDS)
    return Produced(request.description, format="text", content_type="text/plain")
