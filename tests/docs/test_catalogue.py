"""The fault catalogue is that of the registry, and has a picture of each fault."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from servertest.faults import Fault, registry
from tests.docs._drawing import Chip, Mark, Scene, draw
from tests.docs._scenes import PICTURED, pictured, play
from tests.docs.catalogue import PAGE, PICTURES, main, page

SVG = "{http://www.w3.org/2000/svg}"
KINDS = sorted(registry.values(), key=lambda kind: kind.name)

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it anew: python -m tests.docs.catalogue"


@every_kind
def test_there_is_a_picture_of_what_the_page_says(kind: type[Fault]) -> None:
    path = PICTURES / f"{kind.name}.svg"
    text = path.read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    title = root.findtext(f"{SVG}title")
    assert title
    assert title.startswith(repr(pictured(kind))), (
        f"record it anew: python -m tests.docs.catalogue {kind.name}"
    )
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert len(text) < 20_000


def test_there_is_no_picture_of_what_is_no_more() -> None:
    # Pictures of other pages have a dash in their names.
    assert {path.stem for path in PICTURES.iterdir() if "-" not in path.stem} == set(registry)
    assert PICTURED.keys() <= registry.keys()


@pytest.mark.parametrize("name", ["latency", "loss", "short_reads", "accept_error", "refuse"])
def test_a_picture_can_be_recorded(name: str) -> None:
    scene = play(registry[name], tries=1)
    assert scene.sent
    assert scene.came
    assert ElementTree.fromstring(draw(scene)).tag == f"{SVG}svg"


def test_a_name_that_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latenc"]) == 2
    assert "latenc" in capsys.readouterr().err


def drawn(sent: list[Chip | Mark], came: list[Chip | Mark], **options: bool) -> ElementTree.Element:
    return ElementTree.fromstring(draw(Scene("it", ("a", "b"), sent, came, 0.1, **options)))


def count(root: ElementTree.Element, style: str) -> int:
    return sum(each.get("class") == style for each in root.iter())


def test_what_was_lost_is_struck_through_and_what_was_added_is_red() -> None:
    root = drawn([Chip(0, b"ABCD")], [Chip(0.01, b"AB?")])
    assert (count(root, "strike"), count(root, "odd"), count(root, "flow")) == (2, 1, 1)
    assert count(drawn([Chip(0, b"AB")], [], nothing_lost=True), "strike") == 0


def test_what_came_in_pieces_twice_or_overtaken_is_known() -> None:
    assert count(drawn([Chip(0, b"ABCD")], [Chip(0.01, b"AB"), Chip(0.02, b"CD")]), "flow") == 2
    assert count(drawn([Chip(0, b"ABCD")], [Chip(0.01, b"ABCD"), Chip(0.02, b"ABCD")]), "flow") == 2
    root = drawn([Chip(0, b"ABC"), Chip(0.01, b"DEF")], [Chip(0.02, b"DEF"), Chip(0.03, b"ABC")])
    assert (count(root, "flow"), count(root, "odd"), count(root, "strike")) == (2, 0, 0)


def test_nothing_lies_on_top_of_another_or_outside() -> None:
    root = drawn(
        [Chip(0.1, b"ABCDEF"), Mark(0.1, "end")], [Mark(0.1, "ECONNRESET", bad=True), Chip(0.1, b"A")]
    )
    boxes = [
        (float(each.get("y", 0)), float(each.get("x", 0)), float(each.get("width", 0)))
        for each in root.iter(f"{SVG}rect")
        if each.get("class") in ("sent", "came", "end", "bad")
    ]
    for y, x, width in boxes:
        assert x + width <= float(root.get("width", 0))
        assert not any(y == other and x < start < x + width for other, start, _ in boxes)
