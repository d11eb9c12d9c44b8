"""The one error of the benchmarks: a measurement that cannot be made."""

from __future__ import annotations


class BenchError(Exception):
    """What is missing or went wrong, in one line that says what to do where that is known."""
