"""A name server inside the process: names have whatever addresses a test wants."""

from __future__ import annotations

import socket
from typing import Any

import trio


class Resolver(trio.abc.HostnameResolver):
    """Answers with these addresses in turn, the last one ever after."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def getaddrinfo(self, host: Any, port: Any, *_args: Any, **_kwargs: Any) -> Any:
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = (socket.SOCK_STREAM, 6, "")
        return [
            (socket.AF_INET6, *kind, (text, port, 0, 0))
            if ":" in text
            else (socket.AF_INET, *kind, (text, port))
            for text in found
        ]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise AssertionError("nobody asks for a name")


def resolving(*answers: list[str]) -> Resolver:
    """Resolve every name like this for the rest of the test."""
    resolver = Resolver(*answers)
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver
