"""What is measured, in the order in which it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.scenarios.answers import Answers
from bench.scenarios.echo import Bulk, Echo
from bench.scenarios.floor import Floor
from bench.scenarios.handshakes import Handshakes
from bench.scenarios.idle import Idle
from bench.scenarios.lookup import Compile, Lookup
from bench.scenarios.replace import Replace
from bench.scenarios.resumed import Resumed
from bench.scenarios.revoke import Revoke
from bench.scenarios.scale import Scale, Workers
from bench.scenarios.start import Start
from bench.scenarios.storm import Storm

if TYPE_CHECKING:
    from bench.scenarios.base import Quantity, Scenario

SCENARIOS: tuple[Scenario, ...] = (
    Handshakes(),
    Resumed(),
    Answers(),
    Floor(),
    Echo(),
    Bulk(),
    Idle(),
    Storm(),
    Replace(),
    Start(),
    Lookup(),
    Compile(),
    Revoke(),
    Scale(),
    Workers(),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def quantity(scenario: str, what: str) -> Quantity | None:
    """What is said of a kind of figure; None for one that this version does not measure."""
    found = BY_NAME[scenario].quantities if scenario in BY_NAME else ()
    return next((one for one in found if one.what == what), None)
