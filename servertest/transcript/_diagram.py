"""A transcript as a sequence diagram: one HTML file that needs nothing else, for a browser, in the light and in the dark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

from .._support import format_address
from ._conversation import Conversation
from ._events import Event
from ._hexdump import hexdump
from ._ladder import Rung, one_line, quoted, rungs
from ._render import most_telling

if TYPE_CHECKING:
    from ._transcript import Transcript

__all__ = ("sequence_diagram",)

#: Lines of hex that are shown of one message.
_HEX_LINES = 400

#: Messages of one connection that are shown; the middle is left out.
_ROWS = 1000

#: Conversations that are shown: those that failed first, then open ones, then those that were reset.
_CONVERSATIONS = 200

#: Seconds of silence that are shown as such.
_SILENCE = 0.05


def sequence_diagram(
    events: Transcript | Iterable[Event], *, title: str = "What passed", report: str = ""
) -> str:
    """The diagram, as a whole HTML document without references to anything else.

    Args:
        events: A transcript, or events.
        title: Its heading, such as the name of a test.
        report: Text to stand above it, such as what went wrong.
    """
    from ._transcript import Transcript

    transcript = events if isinstance(events, Transcript) else Transcript.from_events(events)
    conversations = transcript.connections
    by_number: dict[int, list[Event]] = {conversation.number: [] for conversation in conversations}
    general: list[Event] = []
    for event in transcript.events:
        by_number.get(event.connection, general).append(event)
    shown = most_telling(conversations, _CONVERSATIONS)
    body = "".join(_conversation(conversation, by_number[conversation.number]) for conversation in shown)
    if len(shown) < len(conversations):
        body += f'<p class="empty">and {len(conversations) - len(shown):,} more conversations</p>'
    if general:
        rows = "".join(_rows(general, general[0].time))
        body = f'<section class="card"><div class="rows bare">{rows}</div></section>{body}'
    return _PAGE.format(
        title=escape(title),
        style=_STYLE,
        script=_SCRIPT,
        summary=escape(_summary(conversations)),
        report=f'<pre class="report">{escape(report)}</pre>' if report else "",
        body=body or '<p class="empty">Nothing passed.</p>',
    )


def _summary(conversations: list[Conversation]) -> str:
    up = sum(conversation.upstream_total for conversation in conversations)
    down = sum(conversation.downstream_total for conversation in conversations)
    count = len(conversations)
    return f"{count} conversation{'' if count == 1 else 's'} · {up:,} B up · {down:,} B down"


def _conversation(conversation: Conversation, events: list[Event]) -> str:
    client = escape(format_address(conversation.client)) if conversation.client else ""
    server = escape(format_address(conversation.server)) if conversation.server else ""
    sort = {"rst": "bad", "timeout": "bad", "forced": "bad", "fin": "good"}.get(
        conversation.close_kind or "", "open"
    )
    if conversation.failures:
        sort = "bad"
    passed = f"{conversation.upstream_total:,} B up, {conversation.downstream_total:,} B down"
    lasted = (
        "" if conversation.closed is None else f", {_duration(conversation.closed - conversation.opened)}"
    )
    return (
        f'<section class="card" id="c{conversation.number}"><h2><span class="number">{conversation.number}</span>'
        f'<span class="badge {sort}">{escape(conversation.state)}</span><small>{passed}{lasted}</small></h2>'
        f'<div class="heads"><span></span><b>{client}<i>client</i></b><b>{server}<i>server</i></b></div>'
        f'<div class="rows">{"".join(_rows(events, conversation.opened))}</div></section>'
    )


def _rows(events: list[Event], opened: float) -> Iterator[str]:
    steps = list(rungs(events))
    left_out = len(steps) - _ROWS
    if left_out > 0:
        steps = steps[: _ROWS // 2] + steps[len(steps) - _ROWS // 2 :]
    before = opened
    for index, step in enumerate(steps):
        if left_out > 0 and index == _ROWS // 2:
            yield f'<div class="pause">{left_out:,} more, which are left out here</div>'
        elif step.time - before > _SILENCE:
            yield f'<div class="pause">{_duration(step.time - before)}</div>'
        before = max(step.until, step.time)
        yield _row(step)


def _row(step: Rung) -> str:
    time = f'<time title="{step.time:.6f} s">{step.time:.6f}</time>'
    if step.way == "none":
        text = escape(one_line(step.text))
        return f'<div class="row {step.sort} aside">{time}<span class="note">{text}</span></div>'
    label = f"<code>{escape(quoted(step.data, 110))}</code>" if step.data else f"<em>{escape(step.text)}</em>"
    size = f"<small>{_size(step)}</small>" if step.data else ""
    line = f'<span class="arrow {step.way}"><span class="label">{label}{size}</span><span class="line"></span></span>'
    if not step.data:
        return f'<div class="row {step.sort}">{time}{line}</div>'
    lines = "\n".join(hexdump(step.data, width=92, max_lines=_HEX_LINES))
    return (
        f'<details class="row data {step.way}"><summary>{time}{line}</summary>'
        f'<pre class="hex">{escape(lines)}</pre></details>'
    )


def _size(step: Rung) -> str:
    pieces = f" in {step.pieces} pieces, {_duration(step.until - step.time)}" if step.pieces > 1 else ""
    return f"{len(step.data):,} B{pieces}"


def _duration(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1000:.3g} ms" if seconds >= 0.001 else f"{seconds * 1_000_000:.0f} µs"


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p>{summary}</p>
<nav><button id="all" type="button">Show all bytes</button><button id="theme" type="button">Light or dark</button></nav>
</header>
<main>
{report}
{body}
</main>
<script>{script}</script>
</body>
</html>
"""

_STYLE = """
:root { --ground: #f6f7f9; --card: #ffffff; --ink: #1c2330; --soft: #6b7688; --rule: #d9dee7; --up: #2563eb; --down: #0f8a5f;
  --bad: #d0312d; --warn: #9a6700; --warn-ground: #fff4d6; --bad-ground: #fdeaea; --good-ground: #e6f6ee; --open-ground: #e8eefc; }
:root[data-theme=dark] { --ground: #10141b; --card: #171d27; --ink: #e4e9f2; --soft: #8e9aae; --rule: #2b3442; --up: #7ba7ff; --down: #56d39b;
  --bad: #ff7b72; --warn: #e3b341; --warn-ground: #2d2610; --bad-ground: #3a1a1c; --good-ground: #14301f; --open-ground: #182542; color-scheme: dark; }
@media (prefers-color-scheme: dark) { :root:not([data-theme=light]) { --ground: #10141b; --card: #171d27; --ink: #e4e9f2; --soft: #8e9aae;
  --rule: #2b3442; --up: #7ba7ff; --down: #56d39b; --bad: #ff7b72; --warn: #e3b341; --warn-ground: #2d2610; --bad-ground: #3a1a1c;
  --good-ground: #14301f; --open-ground: #182542; } }
:root[data-theme=light] { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; }
header { position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap; align-items: baseline; gap: 4px 20px; padding: 14px max(24px, calc(50% - 520px));
  background: var(--card); border-bottom: 1px solid var(--rule); }
h1 { margin: 0; font-size: 17px; font-weight: 650; overflow-wrap: anywhere; }
header p { margin: 0; color: var(--soft); }
nav { margin-left: auto; display: flex; gap: 8px; }
button { font: inherit; font-size: 12px; color: var(--ink); background: none; border: 1px solid var(--rule); border-radius: 6px; padding: 3px 10px; cursor: pointer; }
button:hover { border-color: var(--soft); }
main { max-width: 1040px; margin: 0 auto; padding: 20px 0 60px; }
pre { font: 12px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; margin: 0; overflow-x: auto; }
.report { background: var(--bad-ground); border-radius: 10px; padding: 14px 18px; margin-bottom: 20px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; margin-bottom: 20px; padding: 4px 0 16px; overflow: hidden; }
.empty { text-align: center; color: var(--soft); padding: 60px; }
h2 { display: flex; align-items: center; gap: 10px; font-size: 14px; font-weight: 600; margin: 0; padding: 12px 18px; }
h2 small { margin-left: auto; color: var(--soft); font-weight: 400; }
.number { min-width: 24px; height: 24px; border-radius: 12px; background: var(--ink); color: var(--card); display: grid; place-items: center; font-size: 12px; padding: 0 7px; }
.badge { border-radius: 6px; padding: 2px 9px; font-size: 12px; font-weight: 550; }
.badge.good { background: var(--good-ground); color: var(--down); } .badge.bad { background: var(--bad-ground); color: var(--bad); }
.badge.open { background: var(--open-ground); color: var(--up); }
.heads { display: grid; grid-template-columns: 96px 1fr 1fr; padding: 0 18px; }
.heads b { font: 600 12px/1.3 ui-monospace, "DejaVu Sans Mono", monospace; border: 1px solid var(--rule); border-radius: 8px; padding: 5px 12px; justify-self: start;
  background: var(--ground); text-align: center; min-width: 150px; }
.heads b + b { justify-self: end; }
.heads i { display: block; font: 11px system-ui, sans-serif; color: var(--soft); }
.rows { position: relative; padding: 8px 18px 4px; }
.rows::before, .rows::after { content: ""; position: absolute; top: 0; bottom: -16px; border-left: 2px solid var(--rule); }
.bare::before, .bare::after { display: none; } .rows::before { left: 189px; } .rows::after { right: 93px; }
.row { position: relative; z-index: 0; } summary, .row:not(details) { display: grid; grid-template-columns: 96px minmax(0, 1fr); align-items: end; padding: 3px 0; }
summary { cursor: pointer; list-style: none; border-radius: 6px; } summary::-webkit-details-marker { display: none; }
summary:hover { background: color-mix(in srgb, var(--rule) 35%, transparent); }
summary:focus-visible { outline: 2px solid var(--up); }
time { font: 11px ui-monospace, "DejaVu Sans Mono", monospace; color: var(--soft); padding-bottom: 1px; }
.arrow { display: block; margin: 0 76px; color: var(--up); } .arrow.down { color: var(--down); }
.label { display: flex; gap: 12px; align-items: baseline; padding: 0 12px 1px; } .down .label { flex-direction: row-reverse; }
.label code { min-width: 0; font: 12.5px ui-monospace, "DejaVu Sans Mono", monospace; color: var(--ink); overflow: hidden; text-overflow: ellipsis; white-space: pre; }
.label small { color: var(--soft); white-space: nowrap; font-size: 11px; } .label em { font-style: normal; font-size: 12.5px; }
.line { display: block; height: 9px; position: relative; } .line::before { content: ""; position: absolute; left: 1px; right: 1px; top: 3.5px; border-top: 2px solid currentColor; }
.line::after { content: ""; position: absolute; top: 0; border: 4.5px solid transparent; border-left: 9px solid currentColor; border-right: 0; right: 0; }
.down .line::after { right: auto; left: 0; border: 4.5px solid transparent; border-right: 9px solid currentColor; border-left: 0; }
.connect .arrow { color: var(--soft); } .connect .line::before { border-top-style: dotted; }
.end .arrow { color: var(--ink); } .end .line::before { border-top-style: double; border-top-width: 4px; top: 2.5px; }
.reset .arrow { color: var(--bad); } .reset .line::before { border-top-style: dashed; } .reset em { font-weight: 650; }
.reset .line::after { content: "\\2715"; border: 0 !important; font-size: 15px; line-height: 9px; font-weight: 700; }
.aside .note { justify-self: center; background: var(--warn-ground); color: var(--warn); border-radius: 6px; padding: 2px 12px; font-size: 12px; max-width: 78%; overflow-wrap: anywhere; }
.aside.failure .note, .aside.reset .note { background: var(--bad-ground); color: var(--bad); font-weight: 600; }
.pause { position: relative; left: 48px; width: max-content; margin: 6px auto; padding: 0 10px; color: var(--soft); font-size: 11px; background: var(--card); }
.hex { background: var(--ground); border: 1px solid var(--rule); border-radius: 8px; padding: 10px 14px; margin: 4px 76px 8px 172px; max-height: 420px; overflow: auto; }
@media (max-width: 800px) { .rows::before, .rows::after { display: none; } .arrow { margin: 0; } .hex { margin: 4px 0 8px; } .heads, summary, .row:not(details) { grid-template-columns: 76px minmax(0, 1fr); }
  .heads { grid-template-columns: 0 1fr 1fr; } .heads b { min-width: 0; } }
@media print { header { position: static; } nav { display: none; } .card { break-inside: avoid; } }
"""

_SCRIPT = """
const root = document.documentElement;
document.getElementById("theme").onclick = () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
document.getElementById("all").onclick = () => {
  const rows = [...document.querySelectorAll("details")], open = rows.some(row => !row.open);
  rows.forEach(row => { row.open = open; });
};
"""
