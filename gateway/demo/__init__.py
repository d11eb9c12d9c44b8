"""The demonstration: everything that the gateway stands between, on one machine, in one minute."""

from gateway.demo.story import run

__all__ = ["run"]
