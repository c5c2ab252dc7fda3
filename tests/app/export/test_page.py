"""The HTML page stands alone, shows exactly the run's text, and keeps every token's facts."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

from app.export.page import run_page
from pass_core.decoding.events import Candidate
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


def test_the_policy_lets_the_page_s_own_style_and_script_run_and_nothing_else() -> None:
    evil = "<style>(policy)</style><script>alert(1)</script>"
    page = run_page(replace(strategies.example_record(), title=evil, prompt=evil))
    found = re.findall('<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page)
    assert len(found) == 1
    assert page.index("Content-Security-Policy") < page.index("<title>")
    rules = dict(rule.strip().split(" ", 1) for rule in found[0].split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert re.search(r" style=| on[a-z]+=", page) is None


def test_numbers_that_are_none_do_not_break_the_details() -> None:
    record = strategies.example_record()
    token = replace(record.steps[1].tokens[0], p_target=math.nan, top=(Candidate(1, "x", math.nan, math.inf),))
    reader = read(replace(record, steps=(replace(record.steps[1], tokens=(token,)),)))
    assert json.loads(reader.details)[0][4] == [["x", 0.0, 0.0, False]]


def test_the_page_ends_before_the_stop_string() -> None:
    record = strategies.example_record()
    last = replace(record.steps[-1], stop_overlap=3)
    reader = read(replace(record, steps=(*record.steps[:-1], last)))
    assert "".join(text for name, text in reader.parts if name not in ("prompt", "ghost")) == " café is op"
