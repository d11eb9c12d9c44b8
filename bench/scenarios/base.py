"""What every scenario has: a name, the quantities that it measures, how long it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from bench.workbench import Settings, Workbench

# A server that is started and stopped, without a list.
START_SECONDS = 0.8
# A connection that is opened to be held, by a server and a generator of about a millisecond each.
OPEN_SECONDS = 0.0013
# Of a round: the generator's start, and the reading of its result.
BESIDE_ROUND = 0.15


@dataclass(frozen=True)
class Quantity:
    """One kind of figure: what is measured, in which unit, and the sentence that a reader needs.

    `curve`: its conditions are in an order, and it is drawn as a line over them.
    """

    what: str
    unit: str
    says: str
    curve: bool = False


class Scenario(ABC):
    """One situation in which servers are compared. Stateless: all that a run has is in the workbench."""

    name: ClassVar[str]
    """What `--only` calls it."""
    title: ClassVar[str]
    quantities: ClassVar[tuple[Quantity, ...]]

    @abstractmethod
    def seconds(self, settings: Settings, servers: int) -> float:
        """About how long `measure` takes with so many servers."""

    @abstractmethod
    def measure(self, bench: Workbench) -> None:
        """Make the figures and keep them in the workbench.

        Raises:
            BenchError: none can be made.
        """

    def revoked_clients(self, settings: Settings) -> int:  # noqa: ARG002 - some say so, by settings
        """How many client certificates that can be revoked it needs."""
        return 1
