"""The keys of EMQX 4.4's configuration: which are ours, and what to say about the others. No I/O."""

from __future__ import annotations

import difflib

LISTENER_KEYS = {
    "keyfile": "certificates[0].key",
    "certfile": "certificates[0].cert",
    "cacertfile": "client_ca",
    "verify": "verify",
    "fail_if_no_peer_cert": "verify",
    "partial_chain": "trust",
    "depth": "verify_depth",
    "verify_peer_ext_key_usage": "client_extended_key_usage",
    "tls_versions": "tls_versions",
    "ciphers": "ciphers",
    "honor_cipher_order": "ciphers",
    "secure_renegotiate": "ciphers",
    "eccs": "groups",
    "reuse_sessions": "session_tickets",
    "handshake_timeout": "handshake_timeout",
    "max_connections": "max_connections",
    "max_conn_rate": "max_conn_rate",
    "proxy_protocol": "accept_proxy_protocol",
    "enable_crl_check": "revocation.check",
    "crl_cache_urls": "revocation.crl_urls",
    "enable_ocsp_stapling": "stapling.enabled",
    "ocsp_responder_url": "stapling.responder_url",
    "ocsp_issuer_pem": "stapling.issuer",
    "ocsp_refresh_interval": "stapling.refresh_interval",
    "ocsp_refresh_http_timeout": "stapling.http_timeout",
}
"""The keys behind `listener.ssl.NAME.`, and where below a listener they go."""

GLOBAL_KEYS = {
    "crl_cache_http_timeout": "crl_cache.http_timeout",
    "crl_cache_refresh_interval": "crl_cache.refresh_interval",
    "node.data_dir": "state_dir",
}

# Keys that EMQX has behind `listener.ssl.NAME.` and we do not: no misspellings of ours.
_BROKER_KEYS = frozenset(
    "access acceptors active_n backlog buffer dhfile enable_tracing gc_after_handshake"  # noqa: SIM905 - as a list it fills a screen
    " high_watermark key_password nodelay peer_cert_as_clientid"
    " peer_cert_as_username proxy_address_header proxy_port_header proxy_protocol_timeout psk_ciphers"
    " rate_limit recbuf reuseaddr send_timeout send_timeout_close sndbuf"
    " tune_buffer user_lookup_fun zone".split()
)
_HEADS = ("listener.ssl", "listener.tcp", "listener.wss", "listener.ws")
_CLOSE = 0.8
_COLLAPSE_ABOVE = 3


def meant(key: str) -> str | None:
    """The key of ours that an unknown key is close to; None for a key that EMQX has."""
    parts = key.split(".")
    head, suffix = ".".join(parts[:2]), ".".join(parts[3:])
    if head in _HEADS:
        if head != "listener.ssl" or not suffix or suffix in LISTENER_KEYS or parts[3] in _BROKER_KEYS:
            return None
        close = difflib.get_close_matches(suffix, [*LISTENER_KEYS, *GLOBAL_KEYS], n=1, cutoff=_CLOSE)
        if not close:
            return None
        return close[0] if close[0] in GLOBAL_KEYS else ".".join([*parts[:3], close[0]])
    close = difflib.get_close_matches(head, _HEADS, n=1, cutoff=_CLOSE)
    if close and len(parts) > 2:  # noqa: PLR2004 - listener.KIND.NAME
        return ".".join([close[0], *parts[2:]])
    return next(iter(difflib.get_close_matches(key, GLOBAL_KEYS, n=1, cutoff=_CLOSE)), None)


def collapsed(keys: list[str]) -> str:
    """The keys in one line: a family of many is counted, but those of the TLS listeners each have their name.

    A TLS listener's key may be one that an operator relies on, such as `ciphers`
    or `peer_cert_as_username`; nobody misses one of `mqtt.*` here.
    """
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(_family(key), []).append(key)
    return ", ".join(
        ", ".join(members)
        if len(members) <= _COLLAPSE_ABOVE or family.startswith("listener.ssl")
        else f"{family}.* ({len(members)} keys)"
        for family, members in families.items()
    )


def _family(key: str) -> str:
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] == "listener" else parts[0]
