"""Whatever comes over the socket, what is revoked stays what it says, and the control process stays alive."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.commands import Answer, ListRevoked, Refresh, Revoke, Unrevoke
from gateway.config.values import one_line
from gateway.errors import GatewayError
from gateway.log import get_logger
from gateway.names import canonical_name, serial_hex
from gateway.operations import Operations
from gateway.revocation.authorities import Authorities
from gateway.revocation.local import REASONS
from gateway.revocation.serials import SerialFiles
from gateway.revocation.table import Tables
from gateway.store import StateStore
from tests.authority import Authority, common_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gateway.commands import Command
    from gateway.revocation.coverage import Coverage

CA = Authority.root("CA")
NAME = CA.cert.subject.public_bytes()
WHEN = 1_700_000_000

# What a client of another version, or a person with a hex editor, may send; and what makes sense.
ISSUERS = st.sampled_from([NAME, common_name("Other").public_bytes(), b"", b"\x30\x00"]) | st.binary(
    max_size=30
)
SERIALS = st.integers(-9, 9).map(lambda serial: f"{serial:x}") | st.text(max_size=10) | st.just("f" * 200)
TEXTS = st.text(max_size=12) | st.just("x" * 600)
REVOKES = st.builds(Revoke, ISSUERS, SERIALS, st.sampled_from([*REASONS, "removeFromCRL"]) | TEXTS, TEXTS)
COMMANDS: st.SearchStrategy[Command] = st.one_of(
    REVOKES,
    REVOKES,
    st.builds(Unrevoke, ISSUERS, SERIALS),
    st.builds(Refresh, st.none() | TEXTS),
    st.just(ListRevoked()),
)


async def none_late() -> int:
    await trio.lowlevel.checkpoint()
    return 0


class Office:
    """The real parts, as control has them; made again, it is a restart."""

    def __init__(self, directory: Path) -> None:
        self.coverages: Sequence[Coverage] = ()
        store = StateStore(directory)
        store.prepare()
        unused: Any = None
        self.operations = Operations(
            Tables(store, Authorities([CA.cert]), self),
            store,
            SerialFiles([]),
            list,
            lambda: [NAME],
            unused,
            get_logger(process="control"),
            late=none_late,
            reload=unused,
            drain=unused,
            now=lambda: WHEN,
        )

    def published(self, coverages: Sequence[Coverage]) -> None:
        self.coverages = coverages

    def in_force(self, *_arguments: object) -> None:
        raise AssertionError("there are no lists")

    left_out = in_force

    async def ask(self, command: Command) -> Answer:
        try:
            return await self.operations.handle(command, "root (uid 0)")
        except GatewayError as exc:
            return Answer(ok=False, lines=(str(exc),))

    @property
    def revoked(self) -> set[int]:
        """The serials of CA's that the lookup has."""
        return {
            serial
            for coverage in self.coverages
            for serial, _entry in coverage.table.table
            if coverage.issuers
        }


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COMMANDS, max_size=8))
async def test_what_is_asked_is_done_or_refused_and_what_is_listed_is_in_force(
    tmp_path_factory: Any, commands: list[Command]
) -> None:
    directory = tmp_path_factory.mktemp("state")
    office, expected = Office(directory), set[tuple[Any, int]]()
    with capture_logs():
        await office.operations.restore()
        for command in commands:
            answer = await office.ask(command)
            assert all(one_line(line).isprintable() for line in answer.lines)
            assert answer.ok or len(answer.lines) == 1
            if answer.ok and isinstance(command, Revoke):
                expected.add((canonical_name(command.issuer), int(command.serial, 16)))
            if answer.ok and isinstance(command, Unrevoke):
                expected.remove((canonical_name(command.issuer), int(command.serial, 16)))
        listed = json.loads((await office.ask(ListRevoked())).data)
        assert sorted(each["serial"] for each in listed) == sorted(
            serial_hex(serial) for _, serial in expected
        )
        of_ca = {serial for issuer, serial in expected if issuer == canonical_name(NAME)}
        assert office.revoked == of_ca
        again = Office(directory)
        await again.operations.restore()
        assert again.revoked == of_ca
