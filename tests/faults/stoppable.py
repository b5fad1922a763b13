"""A reader in a process of its own, which the test stops: fetch, wait for a word, acknowledge.

`python -m tests.faults.stoppable URL BEARER`: URL is the cursor's. It prints what it was handed,
and after a line on its input the answer to its acknowledgement.
"""

from __future__ import annotations

import json
import sys

import requests


def main(url: str, bearer: str) -> None:
    """Read once."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {bearer}"
    found = session.post(f"{url}/fetch", json={"holder": "stopped", "limit": 2}, timeout=10).json()
    _say(found)
    sys.stdin.readline()
    ack = {"lease_token": found["lease_token"], "through": found["events"][-1]["pos"]}
    answer = session.post(f"{url}/ack", json=ack, timeout=10)
    _say({"status": answer.status_code, **answer.json()})


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
