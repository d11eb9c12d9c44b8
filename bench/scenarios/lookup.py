"""The lookup of one serial number, alone, beside other ways to look it up; and the making of the table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import compile_figures
from bench.errors import BenchError
from bench.scenarios.base import Quantity, Scenario
from bench.workbench import entries_in_words

if TYPE_CHECKING:
    from bench.workbench import Settings, Workbench

_MIB = 1 << 20


class Lookup(Scenario):
    """Random serials that are in a table, and that are not."""

    name = "lookup"
    title = "The lookup alone"
    quantities = (
        Quantity(
            "lookup of a random hit",
            "ns",
            "One lookup of a serial that is listed, in random order, by entries in the list: the gateway's "
            "table beside what a programmer would take instead.",
            curve=True,
        ),
        Quantity(
            "lookup of a random miss",
            "ns",
            "The same for a serial that is not listed, as nearly all are.",
            curve=True,
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:  # noqa: ARG002 - no server is in it
        """As long as the lookups say."""
        return 10.0 if settings.quick else 115.0

    def measure(self, bench: Workbench) -> None:
        """No server takes part: the table is the gateway's."""
        try:
            from bench import lookups  # noqa: PLC0415 - what ours is compared with is an extra
        except ModuleNotFoundError as exc:
            raise BenchError(f"{exc.name} is missing: pip install -e .[bench]") from exc
        bench.watcher.step("lookups")
        figures = []
        for left_out in lookups.notes(bench.settings.quick):
            bench.note(left_out)
        for found in lookups.measure(bench.settings.quick):
            words = entries_in_words(found.entries)
            figure = bench.figure(
                f"lookup of a random {found.what}", "ns", found.method, words, at=found.entries
            )
            figure.rounds.extend(found.rounds)
            figures.append(figure)
        bench.keep(*figures)


class Compile(Scenario):
    """A list from the web server's bytes to the table that workers map."""

    name = "compile"
    title = "From DER to a published table"
    quantities = (
        Quantity(
            "1,000,000 entries to a table",
            "s",
            "Wall time to verify a CRL of 39 MB, and until its table is written, flushed and in force, in a "
            "fresh process.",
        ),
        Quantity(
            "memory above idle",
            "MiB",
            "The highest resident memory of that process above what it had before.",
        ),
    )

    def seconds(self, settings: Settings, servers: int) -> float:  # noqa: ARG002 - no server is in it
        """A process each round."""
        return 3.0 + 2.0 * settings.few(1, 5)

    def measure(self, bench: Workbench) -> None:
        """No server takes part: the code is the control process's."""
        rounds = compile_figures.measure(bench.settings.few(1, 5))
        what, words = self.quantities[0].what, entries_in_words(rounds[0].entries)
        verified = bench.figure(what, "s", "gateway", "signature verified", at=0)
        published = bench.figure(what, "s", "gateway", "DER to published", at=1)
        memory = bench.figure("memory above idle", "MiB", "gateway", words)
        for one in rounds:
            verified.rounds.append(one.verify_seconds)
            published.rounds.append(one.verify_seconds + one.publish_seconds)
            memory.rounds.append((one.peak_bytes - one.idle_bytes) / _MIB)
        bench.keep(verified, published, memory)
