"""`/metrics`: a `Status` as Prometheus metrics. No I/O; names and units by Prometheus' conventions.

Nothing is counted here: the numbers are in the counters that all processes share, so
that a scrape costs the workers nothing. docs/admin.md lists the metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from prometheus_client import Metric

    from gateway.status import ResponderStatus, SourceStatus, Status

_P = "tls_gateway_"
_Each = TypeVar("_Each")
_REFUSED = ("revoked", "no_list", "stale", "no_answer")


def encode(status: Status, accept: str) -> tuple[bytes, str]:
    """The metrics, and their Content-Type: OpenMetrics where `accept` asks for it, else Prometheus' text."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(status))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


class _Collector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        return metrics(self._status)


def metrics(status: Status) -> Iterator[Metric]:
    """All of them."""
    yield InfoMetricFamily(f"{_P}build", "The version that runs.", {"version": status.version})
    yield _gauge("ready", "1 when ready, as /readyz.", status.ready)
    yield _gauge("workers", "Worker processes.", status.workers)
    yield _counters(
        "process_restarts",
        "Processes that died and were started again.",
        ("process",),
        [(("worker",), status.worker_restarts), (("control",), status.control_restarts)],
    )
    yield from _clients(status)
    yield from _listeners(status)
    yield from _lists([each for each in status.sources if each.kind == "list"], status.now)
    yield from _staples([each for each in status.sources if each.kind == "staple"], status.now)
    yield from _responders(status.responders)
    yield _gauges(
        "certificate_not_after_timestamp_seconds",
        "When a certificate of the configuration ends.",
        ("listener", "use", "subject", "serial"),
        [
            ((each.listener, each.use, each.subject, each.serial), each.not_after)
            for each in status.certificates
        ],
    )
    yield _gauges(
        "revoked_by_hand",
        "Certificates revoked by an operator, and by the configuration.",
        ("by",),
        [(("operator",), status.local_revocations), (("configuration",), status.configured_revocations)],
    )


def _clients(status: Status) -> Iterator[Metric]:
    totals = status.totals
    yield _counter("connections_accepted", "Connections accepted.", totals["accepted"])
    refused = [(reason, totals[f"refused_{reason}"]) for reason in _REFUSED]
    yield _counters(
        "handshakes",
        "Handshakes that have ended; a resumed session that is refused has completed one, too.",
        ("result", "tls_version"),
        [
            (("completed", "TLSv1.2"), totals["tls12"]),
            (("completed", "TLSv1.3"), totals["handshakes"] - totals["tls12"]),
            (("refused", ""), sum(count for _reason, count in refused)),
            (("failed", ""), totals["failed"]),
            (("timed_out", ""), totals["timed_out"]),
        ],
    )
    yield _counter("handshakes_resumed", "Completed handshakes that resumed a session.", totals["resumed"])
    yield _counter("handshakes_stapled", "Handshakes with a stapled OCSP response.", totals["stapled"])
    yield _counters(
        "clients_refused", "Clients refused, by reason.", ("reason",), [((r,), n) for r, n in refused]
    )
    yield _counter(
        "clients_unchecked", "Clients let in by on_unavailable = accept.", totals["accepted_unchecked"]
    )
    yield _counter("clients_disconnected", "Live clients closed, revoked since.", totals["disconnected"])
    yield _counter("connections_throttled", "Connections refused or delayed by a limit.", totals["throttled"])
    yield _counter("connections_relayed", "Connections handed to a broker.", totals["relayed"])
    yield _counter(
        "upstream_failures", "Clients closed because no broker was reached.", totals["upstream_failed"]
    )
    yield _counter("log_lines_lost", "Lines of the log that workers could not write.", totals["unlogged"])
    yield _counter("lookups", "Serial numbers looked up.", totals["lookups"])
    yield _counters(
        "relayed_bytes",
        "Plain bytes, in: from clients to brokers, out: from brokers to clients.",
        ("direction",),
        [(("in",), totals["bytes_in"]), (("out",), totals["bytes_out"])],
    )
    yield _gauge("connections_live", "Connections in the relay.", totals["live"])
    yield _gauge("handshakes_in_progress", "Handshakes in progress.", totals["handshaking"])
    times = HistogramMetricFamily(
        f"{_P}handshake_duration_seconds", "From accept to the end of completed handshakes."
    )
    ends = ["+Inf" if each.seconds is None else str(each.seconds) for each in status.handshake_times]
    counts = [each.count for each in status.handshake_times]
    times.add_metric([], list(zip(ends, counts, strict=True)), totals["handshake_ms"] / 1000)
    yield times


def _listeners(status: Status) -> Iterator[Metric]:
    yield _gauges(
        "connections",
        "Connections of a listener, from accept to end.",
        ("listener",),
        [((each.name,), each.connections) for each in status.listeners],
    )
    yield _gauges(
        "connections_max",
        "max_connections of a listener.",
        ("listener",),
        [((each.name,), each.max_connections) for each in status.listeners],
    )
    yield _gauges(
        "broker_up",
        "1 while the health checks of a broker say that it is there.",
        ("listener", "broker"),
        [
            ((each.name, broker.address), broker.up)
            for each in status.listeners
            for broker in each.brokers
            if broker.up is not None
        ],
    )


def _lists(sources: Sequence[SourceStatus], now: float) -> Iterator[Metric]:
    labelled = [((url,), each) for url, each in _distinct((each.url, each) for each in sources)]
    yield from _sources("list", ("url",), labelled, now)
    yield _gauges(
        "list_entries",
        "Entries of the list in force.",
        ("url",),
        [(labels, each.entries) for labels, each in labelled if each.entries is not None],
    )


def _staples(sources: Sequence[SourceStatus], now: float) -> Iterator[Metric]:
    labelled = [((each.url, each.subject, each.serial), each) for each in sources]
    names = ("url", "subject", "serial")
    yield from _sources("staple", names, labelled, now)
    yield _gauges(
        "staple_revoked",
        "1 when the responder says that the certificate is revoked.",
        names,
        [(labels, each.revoked) for labels, each in labelled],
    )


def _responders(responders: Sequence[ResponderStatus]) -> Iterator[Metric]:
    labelled = [((url,), each) for url, each in _distinct((each.url, each) for each in responders)]
    said = "Requests about clients' certificates that an OCSP responder answered."
    failed = "Requests about clients' certificates that an OCSP responder did not answer, or not in time."
    left = "1 while clients do not wait for an OCSP responder, because it has failed too often."
    yield _counters("responder_answers", said, ("url",), [(names, each.answers) for names, each in labelled])
    yield _counters(
        "responder_failures", failed, ("url",), [(names, each.failures) for names, each in labelled]
    )
    yield _gauges("responder_given_up", left, ("url",), [(names, each.given_up) for names, each in labelled])


def _sources(
    kind: str, names: tuple[str, ...], labelled: Sequence[tuple[tuple[str, ...], SourceStatus]], now: float
) -> Iterator[Metric]:
    def gauges(name: str, text: str, values: Iterable[float | None]) -> GaugeMetricFamily:
        pairs = [(labels, value) for (labels, _each), value in zip(labelled, values, strict=True)]
        return _gauges(f"{kind}_{name}", text, names, [(labels, n) for labels, n in pairs if n is not None])

    found = [each for _labels, each in labelled]
    yield gauges("in_force", f"1 while this {kind} is there and has not expired.",
                 (each.condition == "in force" for each in found))  # fmt: skip
    yield gauges("age_seconds", f"Since thisUpdate of the {kind}.",
                 (each.this_update and now - each.this_update for each in found))  # fmt: skip
    yield gauges(
        "next_update_timestamp_seconds", f"When the {kind} ends.", (each.next_update for each in found)
    )
    yield gauges("last_success_timestamp_seconds", "When it was last fetched, or found unchanged.",
                 (each.last_success for each in found))  # fmt: skip
    yield gauges("last_attempt_failed", "1 when the last attempt failed; /status has the reason.",
                 (each.last_error is not None for each in found))  # fmt: skip
    yield _counters(
        f"{kind}_attempts_failed",
        "Attempts that failed.",
        names,
        [(labels, each.failures) for labels, each in labelled],
    )
    duration = SummaryMetricFamily(
        f"{_P}{kind}_attempt_duration_seconds", "Attempts, from the fetch until it is in force.", labels=names
    )
    for labels, each in labelled:
        duration.add_metric(labels, each.attempts, each.seconds)
    yield duration


def _distinct(pairs: Iterable[tuple[str, _Each]]) -> Iterator[tuple[str, _Each]]:
    """With labels that differ: two URLs may be the same but for a password, which is not shown."""
    seen: dict[str, int] = {}
    for label, each in pairs:
        seen[label] = seen.get(label, 0) + 1
        yield (label if seen[label] == 1 else f"{label} ({seen[label]})"), each


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(_P + name, text, value=float(value))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(_P + name, text, value=value)


def _gauges(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(_P + name, text, labels=labels)
    for own, value in values:
        family.add_metric(own, float(value))
    return family


def _counters(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> CounterMetricFamily:
    family = CounterMetricFamily(_P + name, text, labels=labels)
    for own, value in values:
        family.add_metric(own, float(value))
    return family
