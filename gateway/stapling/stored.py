"""What can be known of staples before anybody is asked: from the certificates and what is stored. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.errors import StapleError
from gateway.extensions import must_staple
from gateway.fetch import display_url
from gateway.names import describe, fingerprint
from gateway.stapling.response import verify_staple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from gateway.config.certificates import ServerCertificate
    from gateway.config.material import ListenerMaterial
    from gateway.config.model import Listener


class Remark(NamedTuple):
    """One line for an operator, and whether it is a warning."""

    text: str
    warning: bool


def remarks(
    listeners: Sequence[Listener],
    materials: Sequence[ListenerMaterial],
    load: Callable[[str], bytes | None],
    *,
    now: int,
) -> Iterator[Remark]:
    """What will be missed at the start. `load` gives what is stored for a certificate's fingerprint."""
    for listener, material in zip(listeners, materials, strict=True):
        if not listener.stapling.enabled:
            continue
        for server in material.certificates:
            who = f'listener "{listener.name}": {describe(server.leaf)}'
            if server.ocsp_responder_url is None:
                yield Remark(f"{who} names no OCSP responder: nothing is stapled for it", warning=False)
                continue
            effects = [
                *(["the listener accepts nobody"] if listener.stapling.required else []),
                *(["clients refuse it (must-staple)"] if must_staple(server.leaf) else []),
            ]
            fault = _fault(server, load(fingerprint(server.leaf)), now) if effects else None
            if fault is not None:
                until = f"until {display_url(server.ocsp_responder_url)} answers"
                yield Remark(f"{who}: {fault}: {' and '.join(effects)} {until}", warning=True)


def _fault(server: ServerCertificate, stored: bytes | None, now: int) -> str | None:
    """Why nothing can be stapled from the start; None when something can."""
    assert server.ocsp_issuer is not None
    if stored is None:
        return "no OCSP response is stored"
    try:
        verify_staple(stored, server.leaf, server.ocsp_issuer, now=now)
    except StapleError as exc:
        return f"the stored OCSP response is not good ({exc})"
    return None
