"""The brokers behind a listener: choose one, connect, tell it who the client is."""

from gateway.upstream.pool import CONNECT_TIMEOUT, SHUNNED, Connected, Upstream

__all__ = ["CONNECT_TIMEOUT", "SHUNNED", "Connected", "Upstream"]
