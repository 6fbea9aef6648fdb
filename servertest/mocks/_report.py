"""What a mock server has to say when its script was not met: how far it got, what came instead, and what passed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from .._support import format_address, preview
from ..transcript import describe_error, ladder
from ._acts import Ending
from ._matching import Framed, Literally, Matcher, TheEnd, pattern_difference, shown
from ._step import OURS
from ._values import Request

if TYPE_CHECKING:
    from ..transcript import Conversation, Expected
    from ._occurrences import Occurrence, Unexpected
    from ._performance import Performance
    from ._script import Script
    from ._server import MockServer
    from ._step import Step

__all__ = ("complaint", "headline", "nearest", "status")

#: Conversations that are shown in full.
_SHOWN = 3

#: Occurrences of a step that are shown.
_TIMES = 3

_WIDTH = 96

_DONE, _FAILED, _OPEN, _SKIPPED = "✓", "✗", "·", "~"


def complaint(mock: MockServer, *, ladders: bool = True) -> str:
    """Everything that is not as the script says; nothing if all is well.

    Args:
        mock: The server.
        ladders: Whether to show what passed, too.
    """
    guilty = _guilty(mock)
    unplayed = [script for script in mock.scripts if _never_played(script, mock)]
    headlines = _headlines(mock, guilty, unplayed)
    if not headlines:
        return ""
    lines = [f"{name(mock)} did not get what its script expects:", *(f"  {line}" for line in headlines[:10])]
    if len(headlines) > 10:
        lines.append(f"  ... and {len(headlines) - 10} more of this kind")
    if len(mock.trace):
        lines.append(f"  (faults were at work; their seed is {mock.seed!r})")
    return "\n".join(
        [
            *lines,
            "",
            *_details(mock, [performances[0] for performances in guilty.values()], unplayed, ladders),
        ]
    )


def headline(mock: MockServer) -> str:
    """What is not as the script says, in one line; nothing if all is well."""
    unplayed = [script for script in mock.scripts if _never_played(script, mock)]
    first, *others = _headlines(mock, _guilty(mock), unplayed) or [""]
    return f"{first} (and {len(others)} more)" if others else first


Guilty: TypeAlias = "dict[tuple[str, str], list[Performance]]"


def _guilty(mock: MockServer) -> Guilty:
    """Conversations that went wrong, by their scripts and by what went wrong: that is told once."""
    guilty: Guilty = {}
    for performance in mock.conversations:
        if performance not in mock.forgiven and (found := list(_problems(performance))):
            guilty.setdefault((performance.script.title, "\n".join(found)), []).append(performance)
    return guilty


def _headlines(mock: MockServer, guilty: Guilty, unplayed: Sequence[Script]) -> list[str]:
    return [
        *(
            f"{_who_all(performances, mock)}: {problem}"
            for (_, problems), performances in guilty.items()
            for problem in problems.splitlines()
        ),
        *(_missed(script, mock) for script in unplayed),
    ]


def status(mock: MockServer) -> str:
    """How far each conversation got, and what passed."""
    played = mock.conversations
    unplayed = [script for script in mock.scripts if len(script) and not _players(script, mock)]
    if not played and not unplayed:
        return f"{name(mock)}: nobody has connected, and nothing is expected"
    heading = f"{name(mock)}: {len(played)} conversation{'s' * (len(played) != 1)}"
    return "\n".join([heading, "", *_details(mock, played[-_SHOWN:], unplayed)])


def name(mock: MockServer) -> str:
    """What reports call a mock server."""
    return f"the mock server on {format_address(mock.address)} ({mock.running.kind})"


def _details(
    mock: MockServer, played: Sequence[Performance], unplayed: Sequence[Script], ladders: bool = True
) -> list[str]:
    lines: list[str] = []
    for performance in played[:_SHOWN]:
        lines += [*_conversation(performance, mock, ladders), ""]
    if len(played) > _SHOWN:
        lines += [f"... and {len(played) - _SHOWN} more conversations that went wrong", ""]
    for script in unplayed[:_SHOWN]:
        lines += [
            f"the script for {script.title}, which nobody has played:",
            *_script(script, None, mock),
            "",
        ]
    return lines[:-1]


# -- what is wrong


def _problems(performance: Performance) -> Iterator[str]:
    for trouble in performance.troubles:
        name, message, _ = describe_error(trouble.error)
        yield f"step {trouble.step.number} raised {name.rpartition('.')[2]}: {message.partition(chr(10))[0]}".rstrip(
            ": "
        )
    for unexpected in performance.unexpected[:3]:
        yield _unexpected(performance, unexpected)
    if len(performance.unexpected) > 3:
        more = len(performance.unexpected) - 3
        yield f"{more} more request{'s' * (more != 1)} came that nothing expects"
    owed = _owed(performance)
    if owed and not performance.unexpected and not performance.troubles:
        yield _unmet(performance, owed)


def _owed(performance: Performance) -> list[Step]:
    """The steps that the client owes; what the server would have done then is not its fault."""
    owed = performance.owed
    return [step for step in owed if step.matcher is not None] or owed


def _unexpected(performance: Performance, unexpected: Unexpected) -> str:
    came = shown(unexpected.request.data) if unexpected.request.data else "an empty datagram"
    what = f"the client ended after {came}" if unexpected.midst else f"{came} came"
    step = _nearest_step(unexpected)
    if step is None:
        return f"{what}, and {_why_nothing(performance)}"
    return f"{what}, and step {step.number} expects {_expected(step)}"


def _why_nothing(performance: Performance) -> str:
    if not len(performance.script):
        return "the script expects nothing"
    waiting = next((step for step in performance.owed), None)
    if waiting is not None:
        return f"nothing is expected in the state {performance.state!r}"
    return "the script expects nothing more"


def _unmet(performance: Performance, owed: list[Step]) -> str:
    first = owed[0]
    what = (
        f"step {first.number} expects {_expected(first)}"
        if first.matcher is not None
        else f"step {first.number} ({first.verb}) was not reached"
    )
    more = f" (and {len(owed) - 1} more)" if len(owed) > 1 else ""
    count = performance.count(first)
    often = f", and it came {count} of {first.least} times" if count else ""
    return f"{what}{more}{often}; {_standing(performance)}"


def _standing(performance: Performance) -> str:
    if performance.server_end is Ending.RESET:
        return "the server had cut the connection off before"
    if performance.server_end is Ending.CLOSE and performance.client_end is None:
        return "the server had closed the connection before"
    if performance.server_end is Ending.HANG:
        return "the server hangs, and takes no notice of anything"
    rest = performance.unconsumed
    came = f"only {preview(rest)} came, which may be its beginning" if rest else "nothing came"
    if performance.client_end == "rst":
        return "the client cut the connection off instead"
    if performance.client_end == "fin":
        return "the client ended instead" if not rest else f"{came}, and the client ended"
    return came


def _expected(step: Step) -> str:
    assert step.matcher is not None
    return str(step.matcher)


def _never_played(script: Script, mock: MockServer) -> bool:
    return (
        script not in mock.forgiven
        and not _players(script, mock)
        and any(step.least for block in script.blocks for step in block.steps)
    )


def _players(script: Script, mock: MockServer) -> list[Performance]:
    return [performance for performance in mock.conversations if performance.script is script]


def _missed(script: Script, mock: MockServer) -> str:
    if script is mock and not mock.conversations:
        return "nobody has connected" if mock.setting.transport == "stream" else "no datagram has come"
    came = len(mock.conversations)
    return f"no {'other ' * (script is mock)}connection came that plays the script for {script.title}; there were {came}"


# -- the script with its ticks


def _conversation(performance: Performance, mock: MockServer, shows_ladder: bool) -> Iterator[str]:
    conversation = _recorded(performance, mock)
    yield _heading(performance, conversation, mock)
    yield from _script(performance.script, performance, mock)
    yield from _instead(performance, mock)
    if conversation is not None and shows_ladder:
        yield "  what passed:"
        yield from (
            f"  {line}" for line in ladder(conversation.events, width=_WIDTH - 2, max_lines=40).splitlines()
        )


def _recorded(performance: Performance, mock: MockServer) -> Conversation | None:
    return next((one for one in mock.transcript.connections if one.number == performance.number), None)


def _who(performance: Performance, mock: MockServer) -> str:
    return f"{'peer' if mock.setting.transport == 'datagram' else 'connection'} {performance.number}"


def _who_all(performances: Sequence[Performance], mock: MockServer) -> str:
    if len(performances) == 1:
        return _who(performances[0], mock)
    numbers = ", ".join(str(performance.number) for performance in performances[:8])
    more = f" and {len(performances) - 8} more" if len(performances) > 8 else ""
    return f"{'peers' if mock.setting.transport == 'datagram' else 'connections'} {numbers}{more}"


def _heading(performance: Performance, conversation: Conversation | None, mock: MockServer) -> str:
    who = _who(performance, mock)
    if conversation is None:
        return who
    script = "" if performance.script is mock else f", script for {performance.script.title}"
    state = f", {conversation.state}" if mock.setting.transport == "stream" else ""
    return f"{who} from {format_address(conversation.client)}{state}{script}"


def _script(script: Script, performance: Performance | None, mock: MockServer) -> Iterator[str]:
    blamed = _blamed(performance)
    width = max((len(step.title) for step in script.steps), default=0)
    for step in script.steps:
        yield from _step(step, performance, step is blamed, min(width, 50), mock)


def _blamed(performance: Performance | None) -> Step | None:
    """The step at which it went wrong."""
    if performance is None:
        return None
    if performance.troubles:
        return performance.troubles[0].step
    if performance.unexpected:
        return _nearest_step(performance.unexpected[0])
    return next(iter(_owed(performance)), None)


def _step(
    step: Step, performance: Performance | None, blamed: bool, width: int, mock: MockServer
) -> Iterator[str]:
    came = [] if performance is None else [o for o in performance.occurrences if o.step is step]
    tick = _tick(step, performance, came, blamed)
    conditions = ", ".join(filter(None, (_conditions(step), step.often, _count(step, came))))
    yield f"  {tick} {step.number:2}  {step.title:<{width}}  {f'({conditions})  ' if conditions else ''}{step.place}".rstrip()
    if came and step.matcher is not None and not isinstance(step.matcher, TheEnd):
        yield from (_got(occurrence, mock) for occurrence in came[-_TIMES:] if _tells_more(occurrence))
    for act in step.acts:
        yield f"        {_act_tick(act, came, performance)} {act}"
    if step.faults:
        yield f"          with {step.faults!r}"


def _tick(step: Step, performance: Performance | None, came: Sequence[Occurrence], blamed: bool) -> str:
    if blamed and len(came) < max(step.least, 1):
        return _FAILED
    if came and len(came) >= step.least:
        return _DONE
    if performance is not None and not came and step.least == 0 and performance.passed_over(step):
        return _SKIPPED
    return _OPEN


def _act_tick(act: object, came: Sequence[Occurrence], performance: Performance | None) -> str:
    if not came or performance is None:
        return _OPEN
    return _OPEN if performance.is_pending(act, came[-1]) else _DONE  # type: ignore[arg-type]


def _conditions(step: Step) -> str:
    states = [f"in state {step.state!r}" if step.state is not None else ""]
    states += [f"while {scene} is {state!r}" for scene, state in step.scenes.items()]
    return ", ".join(filter(None, states))


def _count(step: Step, came: Sequence[Occurrence]) -> str:
    if step.matcher is None or (step.least, step.most) == (1, 1):
        return ""
    return f"came {len(came)} time{'s' * (len(came) != 1)}" if came else ""


def _tells_more(occurrence: Occurrence) -> bool:
    matcher = occurrence.step.matcher
    literal = isinstance(matcher, Literally) or (
        isinstance(matcher, Framed) and isinstance(matcher.expected, bytes)
    )
    return not literal


def _got(occurrence: Occurrence, mock: MockServer) -> str:
    return f"          got {shown(occurrence.request.data)} at {_since(occurrence.time, mock):.6f} s"


def _since(time: float, mock: MockServer) -> float:
    return time - mock.transcript.started


# -- what came instead


def _instead(performance: Performance, mock: MockServer) -> Iterator[str]:
    for trouble in performance.troubles[:1]:
        yield f"  step {trouble.step.number} ({trouble.step.place}) raised:"
        yield from (f"    {line}" for line in _traceback(trouble.error)[-20:])
    for unexpected in performance.unexpected[:2]:
        yield from _came_instead(performance, unexpected, mock)


def _traceback(error: Exception) -> list[str]:
    """The traceback from where the test's own code begins."""
    import traceback

    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename.startswith(OURS):
        place = place.tb_next
    return "".join(traceback.format_exception(type(error), error, place)).rstrip().splitlines()


def _came_instead(performance: Performance, unexpected: Unexpected, mock: MockServer) -> Iterator[str]:
    data = unexpected.request.data
    at = f"at {_since(unexpected.request.time, mock):.6f} s"
    step = _nearest_step(unexpected)
    if step is None or step.matcher is None:
        yield f"  what came {at}, though {_why_nothing(performance)}:"
        yield f"    {preview(data)}"
    else:
        yield f"  what came {at}, against step {step.number}:"
        yield from (f"  {line}" for line in step.matcher.difference(data).splitlines())
        others = [other for other in unexpected.awaited if other is not step and other.matcher is not None]
        if others:
            yield f"    also possible: {'; '.join(f'step {o.number}, {_expected(o)}' for o in others[:4])}"
    if hint := _hint(performance, unexpected):
        yield f"    {hint}"


def _nearest_step(unexpected: Unexpected) -> Step | None:
    """The step that was awaited and that is most like what came; of several that are like it in nothing, the first."""
    awaited = [
        step
        for step in unexpected.awaited
        if step.matcher is not None and not isinstance(step.matcher, TheEnd)
    ]
    data = unexpected.request.data
    owed = [step for step in awaited if step.least] or awaited
    best = max(awaited, key=lambda step: step.matcher.likeness(data) if step.matcher else 0.0, default=None)
    if best is not None and best.matcher is not None and best.matcher.likeness(data) > 0:
        return best
    return next(iter(owed or list(unexpected.awaited)), None)


def _hint(performance: Performance, unexpected: Unexpected) -> str:
    """Whether some other step would have taken it, and why it did not."""
    data = unexpected.request.data
    if any(_differs_in_case(step.matcher, data) for step in unexpected.awaited):
        return "they differ in upper and lower case alone: re.compile(rb'(?i:...)') takes both"
    for step in performance.script.steps:
        if step in unexpected.awaited or step.matcher is None or not _takes(step.matcher, data, performance):
            continue
        count = performance.count(step)
        if step.state not in (None, unexpected.state):
            return f"step {step.number} expects this in the state {step.state!r}, and the state is {unexpected.state!r}"
        if count and count >= step.most:
            times = "once" if step.most == 1 else f"{step.most} times"
            return f"step {step.number} expects this {times}, and has had it; may it come again? .times(n), .forever()"
        if performance.passed_over(step):
            return f"step {step.number} expects this, but comes before; may they come in any order? with any_order(): ..."
        if count < step.most:
            return f"step {step.number} expects this, but comes later; may they come in any order? with any_order(): ..."
    return ""


def _differs_in_case(matcher: Matcher | None, data: bytes) -> bool:
    expected = getattr(matcher, "expected", None)
    return isinstance(expected, bytes) and expected != data and expected.lower() == data.lower()


def _takes(matcher: Matcher, data: bytes, performance: Performance) -> bool:
    framing = performance.script.setting.framing
    try:
        offered = framing.wrap(data) if framing is not None else data
        return not isinstance(matcher.offer(offered, ended=True), str)
    except Exception:  # noqa: BLE001 - a hint, of a function that may raise anything
        return False


def nearest(
    mock: MockServer, expected: Expected, found: Sequence[Request], times: int | None, connection: int | None
) -> str:
    """What to say of a request that was not received, or not as often as it should be."""
    where = "" if connection is None else f" on connection {connection}"
    times_and_not = f"was received {_often(len(found))} and not {times}" if found else "was not received"
    requests = [r for r in mock.requests if connection in (None, r.connection)]
    lines = [f"{shown(expected)} {times_and_not}{where} by {name(mock)}"]
    if not requests:
        return f"{lines[0]}; it has received nothing" + (
            "" if mock.conversations else ", for nobody has connected"
        )
    if not found:
        best = max(requests, key=lambda request: _likeness(expected, request.data))
        if isinstance(expected, bytes):
            lines += ["what comes nearest:", Literally(expected).difference(best.data)]
        elif isinstance(expected, re.Pattern):
            lines += ["what comes nearest:", pattern_difference(expected, best.data)]
    lines.append(f"it has received {len(requests)} request{'s' * (len(requests) != 1)}:")
    lines += [f"  {r.time:10.6f}  #{r.connection}  {shown(r.data)}" for r in requests[:20]]
    if len(requests) > 20:
        lines.append(f"  ... and {len(requests) - 20} more")
    return "\n".join(lines)


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _likeness(expected: Expected, received: bytes) -> float:
    from ._matching import pattern_likeness

    if isinstance(expected, bytes):
        return Literally(expected).likeness(received)
    return pattern_likeness(expected, received) if isinstance(expected, re.Pattern) else 0.0
