"""A reload is due when a file has changed that would make another gateway."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.config.model import Address, Certificate, Config, Listener, Revocation, Stapling, UpstreamTls
from gateway.reading import files


def paths(value: object) -> set[Path]:
    """Every path in a configuration."""
    if isinstance(value, Path):
        return {value}
    inner = value if isinstance(value, tuple) else []
    if isinstance(value, msgspec.Struct):
        inner = [getattr(value, name) for name in value.__struct_fields__]
    return set().union(*map(paths, inner))


def test_every_file_that_a_listener_names_is_watched() -> None:
    listener = Listener(
        name="external",
        bind=(Address("", 8883),),
        upstreams=(Address(path="/run/broker"),),
        certificates=(Certificate(cert=Path("/cert"), key=Path("/key")),),
        client_ca=Path("/client_ca"),
        revocation=Revocation(revoked_serials=Path("/serials")),
        stapling=Stapling(issuer=Path("/issuer")),
        upstream_tls=UpstreamTls(ca=Path("/up_ca"), cert=Path("/up_cert"), key=Path("/up_key")),
    )
    config = Config(listeners=(listener,), state_dir=Path("/state"))
    # The file of revoked serials is looked at by whom it concerns: it needs no reload.
    others = {Path("/state"), Path("/serials")}
    assert files(Path("/conf"), config) == {Path("/conf"), *paths(config)} - others
    assert len(paths(config)) == 9
