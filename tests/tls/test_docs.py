"""docs/tls.md: its snippets run, and its table is the truth."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from servertest.tls import Profile, Symptom, Symptoms, profiles

PAGE = Path(__file__).parents[2] / "docs" / "tls.md"
BEGIN = "<!-- profiles: made by tests/tls/test_docs.py -->\n"
END = "<!-- end of profiles -->\n"


def cell(symptom: Symptom | None, tls12: Symptom | None = None) -> str:
    if symptom is None:
        return "-"
    text = f"`{symptom}`" if symptom.when == "handshake" else f"`{symptom}` at the {symptom.when}"
    return text if tls12 in (None, symptom) else f"{text}; with TLS 1.2 `{tls12}` in the {tls12.when}"


def http_cell(of: Symptoms) -> str:
    if of.http is None or of.client is None:
        return "-"
    same = replace(of.http, when=of.client.when) == of.client
    return f"the same, from `{of.http.when}()`" if same else f"`{of.http}`, from `{of.http.when}()`"


def row(profile: Profile) -> str:
    of = profile.symptoms
    cells = [
        f"`{profile.name}`",
        profile.summary,
        profile.culprit or "-",
        cell(of.client, of.client_tls12),
        http_cell(of),
        cell(of.server, of.server_tls12),
        f"`{of.openssl.text}`, code {of.openssl.verify_code}",
    ]
    return f"| {' | '.join(cells)} |\n"


def table() -> str:
    head = (
        "| profile | what is wrong | whose fault | the client gets from `ssl` | from `http.client` | the server gets "
        "| `openssl s_client` prints |\n|---|---|---|---|---|---|---|\n"
    )
    return head + "".join(map(row, profiles()))


def test_the_table_is_made_from_the_profiles() -> None:
    """To make it again: python -m tests.tls.test_docs."""
    assert BEGIN + table() + END in PAGE.read_text()


def test_the_snippets_run() -> None:
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    assert blocks
    for block in blocks:
        line = PAGE.read_text()[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(PAGE), "exec"), names)


if __name__ == "__main__":
    page = PAGE.read_text()
    PAGE.write_text(page[: page.index(BEGIN)] + BEGIN + table() + page[page.index(END) :])
