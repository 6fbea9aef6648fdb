"""Clients have addresses of all sorts: a pair, four parts, a path, an empty name, none."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

from ..._support import have_ipv6
from ...launch import Kind
from .._case import Case
from .._live import converse, failures_of
from .._plan import DatagramPlan, Delivery, Family, Plan
from .._registry import NotApplicable, contract_check
from .._violation import Violation
from ._common import conforms

__all__ = (
    "abstract_unix_names",
    "ipv6_addresses",
    "ipv6_datagram_addresses",
    "unbound_datagram_peers",
    "unix_addresses",
    "unix_datagram_addresses",
)


@contract_check("addresses", needs=("unix",))
def unix_addresses(case: Case) -> Iterator[Violation]:
    """On a Unix socket, whose clients have an empty address, conversations go as on TCP.

    What a client says and what it gets must be as declared, and clients may leave as they like: writing to one that has gone fails at once there.
    """
    yield from _elsewhere(case, "unix")


def _threading_tcp(kind: Kind) -> bool:
    return kind == Kind()


@contract_check("addresses", technique="live server", needs=("unix",), kinds=_threading_tcp)
def abstract_unix_names(case: Case) -> Iterator[Violation]:
    """On a Unix socket with a name of Linux's abstract namespace, conversations go as on TCP.

    Such a name is no path: it begins with a NUL, and `server_address` is bytes or text of which no file knows. A client that has bound itself to such a
    name has bytes for an address: every conversation is also held by one of those.
    """
    kind = Kind(family="abstract", concurrency="threading")
    if kind.reason is not None:
        raise NotApplicable(kind.reason)
    with replace(case, kind=kind).serving() as running:
        named = [(one, {"source": _own_name(number)}) for number, one in enumerate(case.conversations)]
        for conversation, options in (*((one, {}) for one in case.conversations), *named):
            finding = converse(running, conversation, case.timeout, **options)
            failures = failures_of(running.errors.clear())
            if finding is None and not failures:
                continue
            what = f"the handler raises {failures[0]}" if failures else finding.what if finding else ""
            details = failures[0].traceback_text if failures else finding.details if finding else ""
            where = (
                "to a client with an abstract Unix name, whose address is bytes"
                if options
                else "on an abstract Unix name"
            )
            yield case.violation(f"{where}, {what}", sent=conversation.sent, details=details)
            return


def _own_name(number: int) -> bytes:
    """An abstract name that nobody else has."""
    return b"\0servertest-client-%d-%d-%d" % (os.getpid(), threading.get_ident(), number)


@contract_check("addresses", needs=("ipv6",))
def ipv6_addresses(case: Case) -> Iterator[Violation]:
    """On IPv6, where addresses have four parts, conversations go as on IPv4."""
    if not have_ipv6():
        raise NotApplicable("this machine has no IPv6 on its loopback")
    yield from _elsewhere(case, "inet6")


def _elsewhere(case: Case, family: Family) -> Iterator[Violation]:
    for conversation in case.conversations:
        plans = [conversation.plan()]
        if conversation.sent:
            plans.append(Plan.of(conversation.pieces()[0], ending="close"))
        judge = conforms(case, conversation)
        records = case.play_all(plans, conversation, family=family)
        for plan, record in zip(plans, records, strict=True):
            what = judge(plan, record) if plan.ending == "fin" else case.wrong(record)
            if what:
                yield case.violation(
                    f"{what}, where the client's address is {_EXAMPLES[family]}",
                    replace(plan, family=family),
                    record,
                    expected=conversation.answered,
                    proof=getattr(what, "proof", ""),
                )
                break


_EXAMPLES = {"unix": "''", "inet6": "('::1', port, 0, 0)", "inet": "a pair"}


@contract_check("addresses", transport="datagram", needs=("unix",))
def unbound_datagram_peers(case: Case) -> Iterator[Violation]:
    """A datagram from a Unix socket that is not bound, and so has no address, does no harm.

    There is nowhere to send a reply to. The handler may do its work; it may not raise.
    """
    for conversation in case.conversations:
        for exchange in conversation.exchanges:
            plan = DatagramPlan(datagrams=((0, exchange.sent),), nameless=True, family="unix")
            delivery: Delivery = case.deliver(plan)
            if what := case.wrong_delivery(delivery):
                yield case.datagram_violation(
                    what.said("for a datagram without a sender's address, "), plan, delivery
                )
                break


@contract_check("addresses", transport="datagram", needs=("unix",))
def unix_datagram_addresses(case: Case) -> Iterator[Violation]:
    """Datagrams of Unix sockets, whose addresses are paths, are answered as those of UDP."""
    yield from _datagrams_elsewhere(case, "unix")


@contract_check("addresses", transport="datagram", needs=("ipv6",))
def ipv6_datagram_addresses(case: Case) -> Iterator[Violation]:
    """Datagrams of IPv6, whose addresses have four parts, are answered as those of IPv4."""
    if not have_ipv6():
        raise NotApplicable("this machine has no IPv6 on its loopback")
    yield from _datagrams_elsewhere(case, "inet6")


def _datagrams_elsewhere(case: Case, family: Family) -> Iterator[Violation]:
    from .datagrams import as_declared

    for conversation in case.conversations:
        plan = DatagramPlan(datagrams=tuple((0, one.sent) for one in conversation.exchanges), family=family)
        delivery: Delivery = case.deliver(plan)
        if what := case.wrong_delivery(delivery) or as_declared(conversation, delivery):
            yield case.datagram_violation(
                f"{what}, where addresses are of the family {family}", plan, delivery
            )
