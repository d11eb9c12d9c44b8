"""The admin interface with a gateway behind it that is made up: an hour of samples, lists, staples, refusals.

`python -m tests.admin.stage PORT` serves it to whoever works on the page.
"""

from __future__ import annotations

import math
import socket
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from cryptography import x509
from cryptography.x509.oid import NameOID

from gateway.admin import http
from gateway.admin.access import Access
from gateway.admin.app import App, Desk
from gateway.admin.history import KEPT, PACE, History
from gateway.commands import Answer, ListRevoked
from gateway.log import get_logger
from gateway.metrics import Counter, Counters
from gateway.publish import Refusal
from gateway.status import BrokerStatus, CertificateStatus, ListenerStatus, SourceStatus, Status
from tests.statuses import a_source, a_status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.commands import Command

TOKEN = "0123456789abcdef0123456789abcdef"
FLEET = "CN=Fleet CA,O=Example"
DAY = 86_400
PARTNER = "http://crl.partner.example/partner"
UP = tuple(BrokerStatus(f"10.20.1.{host}:1883", up=True) for host in (11, 12, 13))
EXTERNAL = ListenerStatus(
    "external",
    ("0.0.0.0:8883", "[::]:8883"),
    61_902,
    100_000,
    "required",
    "chain",
    "reject",
    stapling=True,
    brokers=UP,
)
PARTNERS = ListenerStatus(
    "partners", ("10.20.0.4:8884",), 6_510, 7_000, "required", "leaf", "wait", stapling=False, brokers=()
)


def name(text: str) -> bytes:
    """A Name (DER) that has `text` as its common name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]).public_bytes()


class Stage:
    """What the page is shown, and what it asked for. A test changes `status` and `refusals`."""

    def __init__(self) -> None:
        self.done: list[Command] = []
        self.revoked: list[dict[str, str]] = []
        self.now = time.time()
        self.refusals = [self._refusal(number) for number in range(14)]
        self.status = self._status()
        self.issuers = [x509.Name.from_rfc4514_string(FLEET).public_bytes(), name("Partner CA")]
        counters = Counters(1, 1)
        self.history = History(counters)
        numbers = memoryview(counters.pages[0]).cast("Q")
        for number in range(KEPT):
            self._sample(numbers, number)
        self.access = Access(TOKEN.encode())
        self.app = App(
            self.access,
            Desk(
                look=lambda: msgspec.structs.replace(self.status, now=time.time()),
                handler=self,
                issuers=lambda: self.issuers,
                coverages=list,
                refusals=lambda: self.refusals,
                history=self.history,
            ),
            get_logger(),
            time.monotonic,
        )

    async def handle(self, command: Command, by: str) -> Answer:
        """Take note of it; `commands.Handler`."""
        await trio.lowlevel.checkpoint()
        if isinstance(command, ListRevoked):
            return Answer(ok=True, lines=(), data=msgspec.json.encode(self.revoked))
        self.done.append(command)
        return Answer(ok=True, lines=(f"done: {type(command).__name__}",))

    def _sample(self, numbers: memoryview, number: int) -> None:
        wave = math.sin(number / 25) + 0.35 * math.sin(number / 4.1) + 0.2 * math.sin(number * 1.7)
        numbers[Counter.LIVE] = int(54_650 + 5200 * wave + 22 * number)
        numbers[Counter.HANDSHAKES] += int(420 + 160 * wave + (1900 if 205 < number < 222 else 0))
        storm = 60 if 205 < number < 222 else 1
        numbers[Counter.REFUSED_REVOKED] += int(storm * (1 + math.sin(number * 2.3)))
        self.history.sample(self.now - PACE * (KEPT - 1 - number))

    def _refusal(self, number: int) -> Refusal:
        disconnected = number % 5 == 2
        reasons = ("certificate_revoked", "certificate_revoked", "no_list", "list_expired")
        return Refusal(
            at=self.now - 7 - 23 * number**1.6,
            event="client disconnected" if disconnected else "client refused",
            listener="external" if number % 4 else "partners",
            peer=f"198.51.100.{20 + 7 * number}:{40_000 + 991 * number}",
            reason="certificate_revoked" if disconnected else reasons[number % 4],
            subject=f"CN=meter-{77_120 + 317 * number},OU=Grid",
            issuer=FLEET,
            serial=f"{0x5A31C0DE7700 + 0x1357B * number:012X}",
            tls="" if disconnected else ("TLSv1.3", "TLSv1.2")[number % 3 == 0],
            resumed=number % 3 == 1 and not disconnected,
        )

    def _status(self) -> Status:
        now = int(self.now)
        totals = a_status().totals | {
            "accepted": 1_913_002, "handshakes": 1_898_401, "resumed": 1_214_976, "failed": 10_482,
            "timed_out": 311, "refused_revoked": 3_411, "refused_no_list": 212, "refused_stale": 14,
            "lookups": 3_796_802, "live": 68_412, "handshaking": 37, "disconnected": 96,
            "bytes_in": 81_203_441_022, "bytes_out": 24_918_553_870, "tls12": 120_441,
        }  # fmt: skip
        return msgspec.structs.replace(
            a_status(),
            version="0.1",
            now=self.now,
            started=now - 11 * DAY - 7200,
            workers=8,
            worker_restarts=1,
            warnings=(f"list {PARTNER}-delta.crl: missing",),
            totals=totals,
            listeners=(EXTERNAL, PARTNERS),
            certificates=(
                self._certificate("server", "CN=mqtt.example", 61),
                self._certificate("client_ca", FLEET, 1288),
                self._certificate("client_ca", "CN=Partner CA", 9),
            ),
            sources=(
                self._source("http://crl.example/fleet.crl", 0.31, DAY, 1_204_331, "88214"),
                self._source("http://crl.example/fleet-delta.crl", 0.72, 3600, 418, "88216"),
                self._source(f"{PARTNER}.crl", 0.94, 7 * DAY, 52_108, "311",
                             last_error=f"{PARTNER}.crl: connection refused",
                             consecutive_failures=9),
                a_source(url=f"{PARTNER}-delta.crl", condition="missing", this_update=None,
                         next_update=None, entries=None, number=None, learnt=True, consecutive_failures=9,
                         last_error=f"{PARTNER}-delta.crl: status 404",
                         next_attempt=self.now + 290),
                self._source("http://ocsp.example/", 0.44, 7 * DAY, None, None, kind="staple",
                             subject="CN=mqtt.example", serial="0A31C0DE"),
            ),
            responders=(),
            issuers=("CN=Partner CA", FLEET),
            local_revocations=1,
        )  # fmt: skip

    def _certificate(self, use: str, subject: str, days: int) -> CertificateStatus:
        issuer = FLEET if use == "server" else subject
        return CertificateStatus(
            "external", use, subject, issuer, "0A31C0DE", int(self.now) + days * DAY + 3600
        )

    def _source(
        self, url: str, age: float, life: int, entries: int | None, number: str | None, **changes: Any
    ) -> SourceStatus:
        begun = int(self.now - age * life)
        return a_source(
            url=url, this_update=begun, next_update=begun + life, entries=entries, number=number,
            next_attempt=self.now + 412, **changes,
        )  # fmt: skip


@contextmanager
def served(stage: Stage, port: int = 0) -> Iterator[str]:
    """Its URL, without the token; it is served by a thread."""
    listening = socket.create_server(("127.0.0.1", port))
    listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    began = threading.Event()
    scope = trio.CancelScope()
    token: list[trio.lowlevel.TrioToken] = []

    async def main() -> None:
        token.append(trio.lowlevel.current_trio_token())
        with scope:
            began.set()
            await http.serve(listening, stage.app, get_logger())

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    began.wait()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        token[0].run_sync_soon(scope.cancel)
        thread.join()


if __name__ == "__main__":
    made = Stage()
    by = {"revoked_at": "2026-01-01T00:00:00Z", "by": "root (uid 0)", "note": "stolen van"}
    made.revoked = [{"issuer": FLEET, "serial": "5A31C0DE7700", "reason": "keyCompromise", **by}]
    with served(made, int(sys.argv[1])) as url:
        print(url, "token", TOKEN)  # noqa: T201 - for whoever started it
        threading.Event().wait()
