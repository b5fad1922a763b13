"""The model bites: each wrong product is caught by playing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
from hypothesis import Phase

from api import idempotency
from api.ivxp import deliver, views
from ledger import (
    decide,
    decide_chain,
    decide_delivery,
    decide_dispute,
    decide_payment,
    evolve,
    payments,
)
from ledger.batch import Batch
from ledger.decision import Decision
from ledger.money import Bucket, Money
from ledger.order import Order, Status
from projections.reader import ViewReader
from projections.runner import Projector
from tests.model.test_order_model import play

EXAMPLES: Final = 120
SEED: Final = 1

Patch = pytest.MonkeyPatch
