"""The limits that docs/operations.md tells of and nobody can set are those that the code has."""

from __future__ import annotations

import re

import pytest

from gateway import commands, control, generations, operations, premises, worker
from gateway.admin import http
from gateway.config import serials
from tests.test_layers import ROOT

BOUNDS = [
    (worker._MAX_HANDSHAKES, "4096", "handshakes at a time in a worker"),
    (generations._MOST_DRAINING, "4", "generations of workers that serve somebody"),
    (control._MAX_LEARNT, "1000", "learnt URLs"),
    (control._MAX_CAS, "1000", "learnt CAs"),
    (operations._MOST_BY_HAND, "10,000", "certificates revoked by hand"),
    (serials.MOST, "100,000", "by a file of `revoked_serials`"),
    (premises._MOST_ANSWERS, "million", "certificates whose OCSP answers are kept"),
    (http.MOST_AT_ONCE, "32", "connections to the admin interface"),
    (commands._MOST_AT_ONCE, "32", "commands answered at a time"),
    (commands._MOST_WAITING, "128", "commands answered at a time, and waiting to be"),
]


@pytest.mark.parametrize(("bound", "said", "of"), BOUNDS, ids=str)
def test_a_limit_in_the_documents_is_that_of_the_code(bound: int, said: str, of: str) -> None:
    section = (
        (ROOT / "docs" / "operations.md").read_text().partition("\n## Limits\n")[2].partition("\n## ")[0]
    )
    (row,) = (line for line in section.splitlines() if of in line)
    assert said in re.findall(r"million|[\d,]+\d|\d", row.split("|")[1])
    assert bound == (1_000_000 if said == "million" else int(said.replace(",", "")))
