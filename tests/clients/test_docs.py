"""The page about the clients names all that they offer. That its snippets run is seen to elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from servertest import clients
from servertest.clients import DatagramClient, StreamClient

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("cls", [StreamClient, DatagramClient])
def test_every_public_name_of_a_client_is_explained(cls: type) -> None:
    names = {name for name in dir(cls) if not name.startswith("_")} - {"connect"}
    missing = {name for name in names if not re.search(rf"`(client\.)?{name}[(`]", PAGE)}
    assert not missing


def test_every_class_is_mentioned() -> None:
    inner = {"ReceiveBuffer"}
    assert {name for name in clients.__all__ if name not in PAGE} == inner
