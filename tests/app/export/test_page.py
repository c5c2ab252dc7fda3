"""The HTML page stands alone, shows exactly the run's text, and keeps every token's facts."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

from app.export.page import run_page
from pass_core.records.runs import RunRecord
from tests.core.records import strategies


class Reader(HTMLParser):
    """Collects the text of the main element by class, the details, and everything that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[tuple[str, str]] = []
        self.details = ""
        self.fetched: list[str] = []
        self._stack: list[tuple[str, str]] = []
        self._void = {"meta", "input", "link", "img"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.fetched += [v for k, v in values.items() if k in ("src", "href") and v]
        if tag not in self._void:
            self._stack.append((tag, values.get("class") or values.get("id") or ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._void:
            assert self._stack.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        tag, name = self._stack[-1] if self._stack else ("", "")
        if tag == "script" and name == "details":
            self.details += data
        elif any(t == "main" for t, _ in self._stack):
            self.parts.append((name, data))


def read(record: RunRecord) -> Reader:
    reader = Reader()
    reader.feed(run_page(record))
    reader.close()
    return reader


def test_text_colours_and_details_come_from_the_events() -> None:
    reader = read(strategies.example_record())
    assert reader.parts == [
        ("prompt", "Where?"),
        ("model", " caf"),
        ("accepted", "é"),
        ("ghost", " was"),
        ("corrected", " is"),
        ("lookup", " open"),
        ("bonus", "."),
    ]
    details = json.loads(reader.details)
    assert [d[0] for d in details] == ["model", "accepted", "corrected", "lookup", "bonus"]
    assert details[2][4] == [["·was", 0.5, 0.625, False], ["·is", 0.25, 0.125, True]]
    assert reader.fetched == []


def test_markup_in_texts_is_only_text() -> None:
    evil = "</script><script>alert(1)</script><b>&amp;"
    record = strategies.example_record()
    token = replace(record.steps[0].tokens[0], text=evil)
    record = replace(record, prompt=evil, title=evil, steps=(replace(record.steps[0], tokens=(token,)),))
    reader = read(record)
    assert reader.parts == [("prompt", evil), ("model", evil)]
    assert json.loads(reader.details)[0][1].startswith("</script>")


def test_the_page_ends_before_the_stop_string() -> None:
    record = strategies.example_record()
    last = replace(record.steps[-1], stop_overlap=3)
    reader = read(replace(record, steps=(*record.steps[:-1], last)))
    assert "".join(text for name, text in reader.parts if name not in ("prompt", "ghost")) == " café is op"
