"""The C extension, typed: the only package that imports it, and the owner of its lifetimes.

Bytes and numbers in, values out; every return code is checked and becomes an
error of `gateway.errors`. Each class owns one C object (`pointer`, for this package
alone) and releases it when it is closed or collected; objects that C borrows are
kept alive by a reference. The header of the same name in csrc/ is the
specification of each function.
"""

from gateway.native.alpn import Protocols
from gateway.native.answers import FOREVER, Answer, Answers
from gateway.native.binding import (
    AnswerStatus,
    Check,
    End,
    OnUnavailable,
    Step,
    Subjects,
    VerdictKind,
    ffi,
    lib,
)
from gateway.native.certificates import ServerNames, StapleSlot
from gateway.native.connection import (
    Arrival,
    Conn,
    Due,
    Front,
    Limits,
    Obstacle,
    Relay,
    RelayEvent,
    die_with_parent,
    gain_nothing,
)
from gateway.native.table import (
    Entry,
    Section,
    Table,
    TableMeta,
    compile_table,
    sections,
    serial_octets,
)
from gateway.native.verify import (
    ALL_REASONS,
    Cover,
    Listener,
    Verdict,
    World,
    arm_verification,
    counter,
    name_digest,
)

__all__ = [
    "ALL_REASONS",
    "FOREVER",
    "Answer",
    "AnswerStatus",
    "Answers",
    "Arrival",
    "Check",
    "Conn",
    "Cover",
    "Due",
    "End",
    "Entry",
    "Front",
    "Limits",
    "Listener",
    "Obstacle",
    "OnUnavailable",
    "Protocols",
    "Relay",
    "RelayEvent",
    "Section",
    "ServerNames",
    "StapleSlot",
    "Step",
    "Subjects",
    "Table",
    "TableMeta",
    "Verdict",
    "VerdictKind",
    "World",
    "arm_verification",
    "compile_table",
    "counter",
    "die_with_parent",
    "ffi",
    "gain_nothing",
    "lib",
    "name_digest",
    "sections",
    "serial_octets",
]
