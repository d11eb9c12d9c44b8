"""A `Status` for tests that need one: whatever they say of it, the rest is quiet."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.metrics import HANDSHAKE_TIMES, Counter
from gateway.status import (
    BrokerStatus,
    CertificateStatus,
    HandshakeTimes,
    ListenerStatus,
    ResponderStatus,
    SourceStatus,
    Status,
)

NOW = 1_700_000_000.0
OCSP = "http://ocsp.example/"


def a_source(**changes: Any) -> SourceStatus:
    """A list in force."""
    source = SourceStatus(
        kind="list",
        url="http://crl.example/ca.crl",
        condition="in force",
        learnt=False,
        subject="",
        serial="",
        this_update=int(NOW) - 3600,
        next_update=int(NOW) + 7200,
        number="7",
        entries=12,
        last_attempt=NOW - 60,
        last_success=NOW - 60,
        next_attempt=NOW + 840,
        last_error=None,
        consecutive_failures=0,
        attempts=3,
        failures=1,
        seconds=0.75,
        revoked=False,
    )
    return msgspec.structs.replace(source, **changes)


def a_status(**changes: Any) -> Status:
    """A gateway that is ready, with one listener, one list, one staple and two certificates."""
    status = Status(
        version="1.0",
        now=NOW,
        started=NOW - 90_061,
        ready=True,
        reasons=(),
        warnings=(),
        workers=2,
        worker_restarts=0,
        control_restarts=0,
        totals={counter.name.lower(): counter + 1 for counter in Counter} | {"handshakes": 100},
        handshake_times=tuple(HandshakeTimes(end, 5) for end in (*HANDSHAKE_TIMES, None)),
        listeners=(
            ListenerStatus(
                "external",
                ("0.0.0.0:8883",),
                5,
                100_000,
                "required",
                "chain",
                "reject",
                stapling=True,
                brokers=(BrokerStatus("127.0.0.1:1883", up=True), BrokerStatus("127.0.0.1:1884", up=None)),
            ),
        ),
        certificates=(
            CertificateStatus("external", "server", "CN=gateway", "CN=CA", "0A", int(NOW) + 86_400 * 30),
            CertificateStatus("external", "client_ca", "CN=CA", "CN=CA", "01", int(NOW) + 86_400 * 900),
        ),
        sources=(
            a_source(),
            a_source(kind="staple", url=OCSP, subject="CN=gateway", serial="0A", number=None, entries=None),
        ),
        responders=(ResponderStatus(OCSP, 9, 2, 0, given_up=False, last_error=None),),
        issuers=("CN=CA",),
        local_revocations=1,
        configured_revocations=0,
        refusals=(),
    )
    return msgspec.structs.replace(status, **changes)
