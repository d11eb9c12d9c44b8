"""Listeners as a configuration describes them, without what a context does not need."""

from __future__ import annotations

from typing import Any

from gateway.config.model import Listener


def listener(name: str = "external", **options: Any) -> Listener:
    """One without addresses, brokers and files; `options` are keys of a listener."""
    return Listener(name=name, bind=(), upstreams=(), certificates=(), **options)
