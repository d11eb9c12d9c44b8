"""What Prometheus' own parser reads is what the status has, under names by its conventions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from gateway.admin import exposition
from gateway.metrics import Counter
from gateway.status import CertificateStatus
from tests.end_to_end.parts import run
from tests.statuses import NOW, a_source, a_status
from tests.test_layers import ROOT

if TYPE_CHECKING:
    from gateway.status import Status

HOSTILE = '</script>"\\\n\x1b[31m\u202e{le="1"}'


def samples(status: Status) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """By name and labels."""
    body, content_type = exposition.encode(status, "")
    assert content_type.startswith("text/plain; version=")
    return {
        (sample.name.removeprefix("tls_gateway_"), tuple(sorted(sample.labels.items()))): sample.value
        for family in parse(body.decode())
        for sample in family.samples
    }


def value(status: Status, name: str, **labels: str) -> float:
    return samples(status)[name, tuple(sorted(labels.items()))]


def test_both_formats_say_the_same() -> None:
    body, content_type = exposition.encode(a_status(), "application/openmetrics-text;version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert {
        family.name
        for family in parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]  # the library has no types
    } == {family.name for family in exposition.metrics(a_status())}


def test_every_name_has_its_unit_and_every_counter_is_a_total() -> None:
    for family in exposition.metrics(a_status()):
        assert re.fullmatch(r"tls_gateway_[a-z_]+", family.name)
        for word, unit in (("duration", "_seconds"), ("timestamp", "_seconds"), ("age", "_seconds")):
            assert f"_{word}_" not in family.name or family.name.endswith(unit)
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        assert family.documentation.endswith(".")


def test_prometheus_linter_has_nothing_to_say_against_it() -> None:
    body, _content_type = exposition.encode(a_status(), "")
    run("promtool", "check", "metrics", said=body.decode())


@pytest.mark.parametrize("counter", set(Counter) - {Counter.HANDSHAKES})
def test_no_counter_is_left_out(counter: Counter) -> None:
    quiet = a_status(totals=dict.fromkeys(a_status().totals, 0))
    loud = a_status(totals={**quiet.totals, counter.name.lower(): 7})
    assert samples(quiet) != samples(loud)


def test_handshakes_are_told_by_result_and_version() -> None:
    totals = dict.fromkeys(a_status().totals, 0) | {
        "handshakes": 10, "tls12": 3, "failed": 4, "timed_out": 5,
        "refused_revoked": 1, "refused_no_list": 2, "refused_stale": 3,
    }  # fmt: skip
    status = a_status(totals=totals)
    assert value(status, "handshakes_total", result="completed", tls_version="TLSv1.2") == 3
    assert value(status, "handshakes_total", result="completed", tls_version="TLSv1.3") == 7
    assert value(status, "handshakes_total", result="refused", tls_version="") == 6
    assert value(status, "clients_refused_total", reason="no_list") == 2


def test_times_are_a_histogram_in_seconds() -> None:
    status = a_status(totals={**a_status().totals, "handshake_ms": 2500})
    assert value(status, "handshake_duration_seconds_bucket", le="0.001") == 5
    assert value(status, "handshake_duration_seconds_bucket", le="+Inf") == 5
    assert value(status, "handshake_duration_seconds_sum") == 2.5


def test_a_list_has_its_age_end_entries_failures_and_times() -> None:
    url = "http://crl.example/ca.crl"
    assert value(a_status(), "list_age_seconds", url=url) == 3600
    assert value(a_status(), "list_next_update_timestamp_seconds", url=url) == NOW + 7200
    assert value(a_status(), "list_entries", url=url) == 12
    assert value(a_status(), "list_in_force", url=url) == 1
    assert value(a_status(), "list_last_attempt_failed", url=url) == 0
    assert value(a_status(), "list_attempts_failed_total", url=url) == 1
    assert value(a_status(), "list_attempt_duration_seconds_count", url=url) == 3
    assert value(a_status(), "list_attempt_duration_seconds_sum", url=url) == 0.75


def test_a_list_that_was_never_there_has_no_age() -> None:
    never = dict.fromkeys(("this_update", "next_update", "entries", "last_success"))
    missing = a_source(condition="missing", last_error="nobody there", **never)
    found = samples(a_status(sources=(missing,)))
    names = {name for name, _labels in found}
    assert names.isdisjoint({"list_age_seconds", "list_next_update_timestamp_seconds", "list_entries"})
    assert value(a_status(sources=(missing,)), "list_in_force", url=missing.url) == 0
    assert value(a_status(sources=(missing,)), "list_last_attempt_failed", url=missing.url) == 1


def test_urls_that_differ_in_their_password_alone_are_two() -> None:
    found = samples(a_status(sources=(a_source(entries=1), a_source(entries=2))))
    url = "http://crl.example/ca.crl"
    assert (found["list_entries", (("url", url),)], found["list_entries", (("url", f"{url} (2)"),)]) == (1, 2)


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example(HOSTILE)
def test_what_a_certificate_says_of_itself_stays_a_label(subject: str) -> None:
    one = CertificateStatus("external", "server", subject, "CN=CA", "0A", 5)
    name = "certificate_not_after_timestamp_seconds"
    labels = {"listener": "external", "use": "server", "subject": subject, "serial": "0A"}
    assert value(a_status(certificates=(one,)), name, **labels) == 5


def test_the_documents_list_every_metric_with_its_type_and_labels() -> None:
    page = (ROOT / "docs" / "admin.md").read_text()
    documented = re.findall(r"^\| `(tls_gateway_\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    assert {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in documented} == {
        (
            family.name + {"counter": "_total", "info": "_info"}.get(family.type, ""),
            family.type,
            frozenset(label for sample in family.samples for label in sample.labels) - {"le"},
        )
        for family in exposition.metrics(a_status())
    }
