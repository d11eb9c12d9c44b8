"""Generations: what each configuration has made, which of them accepts, and when those before end.

One is in force; a reload begins the next one beside it, and only when all workers of that
accept do those before stop, and serve the connections that they have. The supervisor asks
after each signal; nothing here waits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway import children, publish
from gateway.children import KILL_AFTER, NEVER
from gateway.metrics import Counters

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from gateway.children import Child
    from gateway.config.model import Config
    from gateway.reading import Reading
    from gateway.tls.context import ServerContext

# Generations that still have connections; whoever reloads more often than these end loses the oldest ones.
_MOST_DRAINING = 4


@dataclass(eq=False)
class Generation:
    """What one configuration makes."""

    number: int
    reading: Reading
    servers: Sequence[ServerContext]
    workers: int
    counters: Counters
    admin: tuple[socket.socket, bytes | None] | None
    children: list[Child] = field(default_factory=list)
    """Its workers."""
    bound: list[socket.socket] = field(default_factory=list)
    """The listening sockets that nobody before it has, for as long as it is not in force."""
    accept_by: float = NEVER
    """When all of its workers have to accept, or it is given up."""
    look_at: float = NEVER
    """When workers of it hang that serve nobody and are there all the same, where others accept by now."""
    stop_at: float = NEVER
    """When its last connections are ended, likewise."""
    stopped: bool = False
    """That was so."""

    @property
    def config(self) -> Config:
        """The configuration."""
        return self.reading.config

    @property
    def next_step(self) -> float:
        """When there is something to do about it, on the monotonic clock."""
        return min(self.accept_by, self.look_at, self.stop_at)

    def serves(self) -> bool:
        """Whether any of its workers has a connection."""
        return any(map(self.counters.serves, range(self.workers)))

    def silent(self) -> list[str]:
        """The names of those workers that do not accept."""
        return [child.name for child in self.children if not self.counters.accepts(child.worker or 0)]


class Generations:
    """The one in force, the next one, and those that drain."""

    def __init__(self, first: Generation) -> None:
        self.current = first
        self.next: Generation | None = None
        """Begun, but not all of its workers accept yet."""
        self._draining: list[Generation] = []
        self._leaving: Generation | None = None
        """Of these the one that was in force last, as long as any of its workers may accept."""

    @property
    def latest(self) -> Generation:
        """The one that the next would succeed."""
        return self.next or self.current

    def in_force(self) -> list[Generation]:
        """Those that accept, or are about to."""
        return [self.current, *([self.next] if self.next else [])]

    def all(self) -> list[Generation]:
        """The oldest first."""
        return [*self._draining, *self.in_force()]

    def workers(self) -> Iterator[Child]:
        """Those of all."""
        for generation in self.all():
            yield from generation.children

    def forget(self, pid: int) -> None:
        """The worker of this process id, if it is one, has ended, and its connections with it."""
        for generation in self.all():
            for child in generation.children:
                if child.pid == pid:
                    generation.counters.clear_gauges(child.worker or 0)

    def next_step(self) -> float:
        """When there is something to do about any of them, on the monotonic clock."""
        return min(generation.next_step for generation in self.all())

    def begin(self, after: Generation) -> None:
        """`after` is the next one; its workers are not due before `start_next`."""
        if self.next is not None:
            after.bound = [*self.next.bound, *after.bound]
            self._hand_over(self.next)
        self.next = after
        after.accept_by = time.monotonic() + after.config.reload_timeout
        # Workers that met the control process before this one would let clients in by its lists.
        for child in after.children:
            child.due = NEVER

    def start_next(self) -> None:
        """The workers of the next one are due."""
        for child in self.next.children if self.next else ():
            child.due = time.monotonic()

    def take_over(self) -> Generation | None:
        """Where all workers of the next one accept, those before need not any more: the one before, then."""
        if self.next is None or self._leaving is not None or not self.next.counters.accepting:
            return None
        before, self.current, self.next = self.current, self.next, None
        self._leaving = before
        self.current.accept_by = NEVER
        self._hand_over(before)
        return before

    def handed_over(self) -> Generation | None:
        """Where no worker of the one before accepts any more: that one, once.

        It is not waited for longer than for those that hang.
        """
        before = self._leaving
        if before is None or (before.look_at != NEVER and len(before.silent()) < before.workers):
            return None
        self._leaving = None
        return before

    def give_up(self) -> Generation | None:
        """Where the next one has had its time, the current one goes on instead: the one given up, then."""
        if self.next is None or self.next.counters.accepting or time.monotonic() < self.next.accept_by:
            return None
        undone, self.next = self.next, None
        self.current.counters.take_back(undone.counters, _same(self.current.config, undone.config))
        self._hand_over(undone)
        return undone

    def _hand_over(self, generation: Generation) -> None:
        """Have it accept no more, and serve those that it has."""
        now = time.monotonic()
        generation.accept_by = NEVER
        generation.look_at = now + KILL_AFTER
        generation.stop_at = now + generation.config.reload_drain_timeout
        for child in generation.children:
            child.dismissed = True
            # One that has just died would come back without a word that others accept.
            child.due = NEVER
        children.send(generation.children, publish.HAND_OVER)
        self._draining.append(generation)
        # Of many reloads in a second most have begun to serve nobody, and take nobody's place.
        serving = [each for each in self._draining if each.serves()]
        for oldest in serving[:-_MOST_DRAINING]:
            if not oldest.stopped:
                oldest.stop_at = min(oldest.stop_at, now)

    def end_overdue(self) -> None:
        """Tell those whose time to drain is up, forget generations that have ended."""
        now = time.monotonic()
        for generation in list(self._draining):
            if not any(child.pid for child in generation.children):
                generation.counters.retire()
                self._draining.remove(generation)
                continue
            if generation.look_at <= now:
                generation.look_at = NEVER
                for child in generation.children:
                    if not generation.counters.serves(child.worker or 0):
                        child.kill_at = now
            if generation.stop_at <= now:
                generation.stop_at, generation.stopped = NEVER, True
                children.send(generation.children, publish.STOP)
                for child in generation.children:
                    child.kill_at = min(child.kill_at, now + generation.config.drain_timeout + KILL_AFTER)


def counters_after(before: Generation | None, config: Config, workers: int) -> Counters:
    """Those of a generation of `config`, with what the one before has counted."""
    if before is None:
        return Counters(workers, len(config.listeners))
    return before.counters.succeed(workers, len(config.listeners), _same(before.config, config))


def _same(before: Config, after: Config) -> dict[int, int]:
    """Which of the listeners of `before`, by number, is which of `after`."""
    numbers = {listener.name: number for number, listener in enumerate(after.listeners)}
    return {
        old: numbers[listener.name]
        for old, listener in enumerate(before.listeners)
        if listener.name in numbers
    }
