"""Bytes over time, as an SVG: what was sent above, what arrived below, and which became which."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import SequenceMatcher
from html import escape

__all__ = ("Chip", "Mark", "Scene", "draw")

WIDTH, LEFT, RIGHT = 720, 116, 22
TOP, BOTTOM, AXIS, HEIGHT = 34, 104, 134, 160
CHIP, LETTER, PAD, GAP = 20, 7.2, 3.5, 2.0

# Each colour for light and for dark surroundings.
COLOURS = {
    "card": ("#ffffff", "#10151c"),
    "edge": ("#d5dbe3", "#2c3542"),
    "ink": ("#1f2933", "#e3e9f0"),
    "soft": ("#66727f", "#8f9bab"),
    "lane": ("#c3ccd6", "#3b4656"),
    "sent": ("#dfe7f1", "#28364a"),
    "came": ("#cdeadd", "#1d4638"),
    "flow": ("#7fb8a0", "#3f8a6c"),
    "wrong": ("#fbd9d3", "#5b2822"),
    "bad": ("#c2321f", "#ff8d7a"),
}


@dataclass(slots=True)
class Chip:
    """Some bytes at a time: letters that stand for one byte each."""

    time: float
    data: bytes


@dataclass(slots=True)
class Mark:
    """Something that is no bytes: an end, a reset, an error."""

    time: float
    text: str
    bad: bool = False


@dataclass(slots=True)
class Scene:
    """What is drawn.

    Attributes:
        title: What it shows, for those who do not see it.
        lanes: What the upper and the lower line are called.
        sent: Above.
        came: Below.
        until: Where the time axis ends, in seconds.
        nothing_lost: Whether what has not arrived by then is merely late.
    """

    title: str
    lanes: tuple[str, str]
    sent: list[Chip | Mark] = field(default_factory=list)
    came: list[Chip | Mark] = field(default_factory=list)
    until: float = 0.3
    nothing_lost: bool = False


@dataclass(slots=True)
class _Box:
    """A chip or a mark with its place."""

    thing: Chip | Mark
    at: float  # where its time is
    x: float
    width: float
    letters: list[_Byte] = field(default_factory=list)


@dataclass(slots=True)
class _Byte:
    """One byte with its place."""

    letter: int
    left: float
    box: _Box
    wrong: bool = False

    @property
    def right(self) -> float:
        return self.left + LETTER


def draw(scene: Scene) -> str:
    """The picture."""
    above, below = _place(scene.sent, scene.until), _place(scene.came, scene.until)
    sent, came = _bytes(above), _bytes(below)
    origins = _origins(bytes(each.letter for each in sent), bytes(each.letter for each in came))
    arrived = {id(sent[place]) for place in origins.values()}
    for each in sent:
        each.wrong = id(each) not in arrived and not scene.nothing_lost
    for place, each in enumerate(came):
        each.wrong = place not in origins
    parts = [_head(scene), *_lane(TOP, scene.lanes[0]), *_lane(BOTTOM, scene.lanes[1]), *_axis(scene.until)]
    parts += _flows(sent, came, origins)
    parts += [_drawn(box, TOP, "sent") for box in above]
    parts += [_drawn(box, BOTTOM, "came") for box in below]
    if not below:
        parts.append(_text(LEFT + 12, BOTTOM - 8, "nothing arrives", "note"))
    return "\n".join([*parts, "</svg>", ""])


def _place(things: list[Chip | Mark], until: float) -> list[_Box]:
    """Side by side where they would lie on top of each other; what comes late moves what was early to the left at the edge."""
    boxes: list[_Box] = []
    edge = LEFT + 2.0
    for thing in sorted(things, key=lambda thing: thing.time):
        width = 2 * PAD + LETTER * len(thing.data) if isinstance(thing, Chip) else _mark_width(thing)
        at = LEFT + thing.time / until * (WIDTH - LEFT - RIGHT)
        x = max(at, edge)
        boxes.append(_Box(thing, at, x, width))
        edge = x + width + GAP
    limit = WIDTH - 6.0
    for box in reversed(boxes):
        box.x = min(box.x, limit - box.width)
        limit = box.x - GAP
    return boxes


def _mark_width(mark: Mark) -> float:
    return 2 * PAD + 4 + (8.0 if mark.text.isupper() else 6.2) * len(mark.text)


def _bytes(boxes: list[_Box]) -> list[_Byte]:
    found: list[_Byte] = []
    for box in boxes:
        if isinstance(box.thing, Chip):
            box.letters = [
                _Byte(letter, box.x + PAD + index * LETTER, box)
                for index, letter in enumerate(box.thing.data)
            ]
            found += box.letters
    return found


def _origins(sent: bytes, came: bytes) -> dict[int, int]:
    """Where each byte that came was sent, by its place among all: as it would be told by somebody who looks at both."""
    found: dict[int, int] = {}
    for there, here, size in SequenceMatcher(None, sent, came, autojunk=False).get_matching_blocks():
        if size > 1 or there == here:  # one letter alone may look the same by chance
            found.update(zip(range(here, here + size), range(there, there + size), strict=True))
    place = 0
    while place < len(came):  # what came twice, or was overtaken
        size = 0
        while place + size < len(came) and place + size not in found:
            if came[place : place + size + 1] not in sent:
                break
            size += 1
        if size > 1:
            there = sent.index(came[place : place + size])
            found.update(zip(range(place, place + size), range(there, there + size), strict=True))
        place += size or 1
    return found


def _flows(sent: list[_Byte], came: list[_Byte], origins: dict[int, int]) -> list[str]:
    """Ribbons from where bytes were sent to where they came."""
    ribbons: list[str] = []
    run: list[tuple[_Byte, _Byte]] = []
    for here, there in sorted(origins.items()):
        pair = sent[there], came[here]
        if run and any(
            one.box is not last.box or abs(one.left - last.right) > 0.1
            for one, last in zip(pair, run[-1], strict=True)
        ):
            ribbons.append(_ribbon(run))
            run = []
        run.append(pair)
    return [*ribbons, _ribbon(run)] if run else ribbons


def _ribbon(run: list[tuple[_Byte, _Byte]]) -> str:
    a, b, c, d = run[0][0].left, run[-1][0].right, run[-1][1].right, run[0][1].left
    up, down = TOP + CHIP / 2, BOTTOM - CHIP / 2
    half = (up + down) / 2
    return (
        f'<path class="flow" d="M{a:.1f} {up}C{a:.1f} {half} {d:.1f} {half} {d:.1f} {down}'
        f'L{c:.1f} {down}C{c:.1f} {half} {b:.1f} {half} {b:.1f} {up}Z"/>'
    )


def _drawn(box: _Box, y: int, kind: str) -> str:
    tick = f'<path class="tick" d="M{box.at:.1f} {y + CHIP / 2}v4"/>' if kind == "came" else ""
    if isinstance(box.thing, Mark):
        return tick + _drawn_mark(box, box.thing, y)
    top, wrong = y - CHIP / 2, [each for each in box.letters if each.wrong]
    parts = [
        f'<rect class="{kind}" x="{box.x:.1f}" y="{top}" width="{box.width:.1f}" height="{CHIP}" rx="4"/>'
    ]
    parts += [
        f'<rect class="wrong" x="{each.left:.1f}" y="{top + 1.5}" width="{LETTER}" height="{CHIP - 3}"/>'
        for each in wrong
    ]
    style = "lost" if kind == "sent" else "odd"
    parts += [
        _text(each.left + LETTER / 2, y + 4, _shown(each.letter), style if each.wrong else "byte")
        for each in box.letters
    ]
    if kind == "sent":  # a line through what never arrived
        parts += [f'<path class="strike" d="M{each.left:.1f} {y}h{LETTER}"/>' for each in wrong]
    return tick + "".join(parts)


def _drawn_mark(box: _Box, mark: Mark, y: int) -> str:
    style = "bad" if mark.bad else "end"
    return (
        f'<rect class="{style}" x="{box.x:.1f}" y="{y - CHIP / 2}" width="{box.width:.1f}" height="{CHIP}" rx="{CHIP / 2}"/>'
        + _text(box.x + box.width / 2, y + 3.6, mark.text, f"{style}-text")
    )


def _shown(letter: int) -> str:
    return chr(letter) if 33 <= letter < 127 else "◆"


def _lane(y: int, name: str) -> list[str]:
    return [
        f'<path class="lane" d="M{LEFT} {y}H{WIDTH - 8}"/>',
        _text(LEFT - 10, y + 4, name, "name"),
    ]


def _axis(until: float) -> list[str]:
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if until / step <= 8)
    parts = []
    for number in range(int(until / step) + 1):
        x = LEFT + number * step / until * (WIDTH - LEFT - RIGHT)
        label = f"{number * step * 1000:.0f}" + (" ms" if number == 0 else "")
        parts.append(f'<path class="grid" d="M{x:.1f} 16V{AXIS}"/>')
        parts.append(_text(x, AXIS + 14, label, "time"))
    return parts


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _head(scene: Scene) -> str:
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{escape(scene.title)}">
<title>{escape(scene.title)}</title>
<style>
{_style(0)}
@media (prefers-color-scheme: dark) {{
{_style(1, colours_only=True)}
}}
</style>
<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>"""


def _style(which: int, *, colours_only: bool = False) -> str:
    colour = {name: values[which] for name, values in COLOURS.items()}
    rules = [
        f".card{{fill:{colour['card']};stroke:{colour['edge']}}}",
        f".lane{{stroke:{colour['lane']}}}.grid{{stroke:{colour['edge']}}}.tick{{stroke:{colour['soft']}}}",
        f".sent{{fill:{colour['sent']}}}.came{{fill:{colour['came']}}}.wrong{{fill:{colour['wrong']}}}.flow{{fill:{colour['flow']}}}",
        f".byte{{fill:{colour['ink']}}}.odd,.lost{{fill:{colour['bad']}}}.strike{{stroke:{colour['bad']}}}",
        f".name{{fill:{colour['ink']}}}.time,.note{{fill:{colour['soft']}}}",
        f".end{{fill:{colour['card']};stroke:{colour['soft']}}}.end-text{{fill:{colour['soft']}}}",
        f".bad{{fill:{colour['bad']}}}.bad-text{{fill:{colour['card']}}}",
    ]
    if not colours_only:
        rules += [
            "text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;text-anchor:middle}",
            ".name{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;text-anchor:end}",
            ".time,.note,.end-text,.bad-text{font:11px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}",
            ".note{font-style:italic;text-anchor:start}.bad-text{font-weight:600}",
            ".lane{stroke-width:1.5}.grid{stroke-dasharray:1 3}.strike{stroke-width:1.2}.flow{opacity:.28}",
        ]
    return "\n".join(rules)
