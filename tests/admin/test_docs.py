"""docs/admin.md says what there is: every URL, every field of the status."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gateway import status
from gateway.admin.actions import RefreshBody, RevokeBody, UnrevokeBody
from gateway.publish import Refusal
from tests.admin.test_app import Office
from tests.test_layers import ROOT

if TYPE_CHECKING:
    import msgspec

PAGE = (ROOT / "docs" / "admin.md").read_text()


def section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def test_every_url_is_documented_with_its_method() -> None:
    app = Office().app
    served = {
        f"{method} {path}"
        for path, methods in app._routes.items()
        for method in methods
        if path == "/" or path not in app._page
    }
    documented = set(re.findall(r"^\| `((?:GET|POST) /[a-z]*)", section("URLs"), re.MULTILINE))
    assert documented == served | {"GET /healthz", "GET /readyz"}


def fields(*structs: type[msgspec.Struct]) -> set[str]:
    return {name for struct in structs for name in struct.__struct_fields__}


def test_every_field_of_the_status_is_documented_and_no_other() -> None:
    rows = [line.split("|")[1:3] for line in section("The status").splitlines() if line.startswith("|")]
    named = {name for row in rows for name in re.findall(r"`(\w+)`", " ".join(row))}
    kinds = (
        status.ListenerStatus,
        status.BrokerStatus,
        status.CertificateStatus,
        status.SourceStatus,
        status.HandshakeTimes,
        status.ResponderStatus,
        Refusal,
    )
    assert named == fields(status.Status, *kinds)


def test_what_a_post_takes_is_documented() -> None:
    shown = set(re.findall(r"[`\"](\w+)[`\"]", section("URLs")))
    assert fields(RefreshBody, RevokeBody, UnrevokeBody) <= shown
