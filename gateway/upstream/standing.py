"""What is known of one broker: its health check's word, and whether it took the last clients.

No I/O, no clock: times are seconds of a clock that does not jump.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of a slow start: what a broker that has just come back gets at once, and how often that is raised.
_LEAST = 0.05
_STEPS = 20


@dataclass
class Standing:
    """Up until something else is heard."""

    slow_start: float = 0.0
    """Seconds from a broker's return to its whole share; 0: at once."""
    up: bool = True
    """What its health check says."""
    live: int = 0
    """Connections that this worker has with it; counted for least-connections alone."""
    _back: float = -math.inf
    _shunned_until: float = -math.inf

    def checked(self, now: float, *, up: bool) -> None:
        """Its health check says another thing."""
        if up and not self.up:
            self._back, self._shunned_until = now, -math.inf
        self.up = up

    def refused(self, until: float) -> None:
        """It did not take a client: others come first until then."""
        self._shunned_until = until

    def took(self) -> None:
        """It took a client."""
        self._shunned_until = -math.inf

    def share(self, now: float) -> float:
        """How much of its part it gets, from 0 to 1."""
        if not self.up or now < self._shunned_until:
            return 0.0
        if now >= self._back + self.slow_start:
            return 1.0
        return max(_LEAST, (now - self._back) / self.slow_start)

    def changes_at(self, now: float) -> float:
        """When to ask for the share again, if nothing is heard."""
        if not self.up:
            return math.inf
        if now < self._shunned_until:
            return self._shunned_until
        if now < self._back + self.slow_start:
            return now + self.slow_start / _STEPS
        return math.inf
