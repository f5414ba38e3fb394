"""Targets CARD-1 to CARD-4 of every card: no text of the record as Markdown, the form, the basis, the same twice."""

from __future__ import annotations

import copy
import json
import random
import re
import uuid
from pathlib import Path
from typing import Any

import pytest
from builders import Json, cards, comparable, draft, hook_request

from cards.text import LONGEST_SUMMARY, escaped
from guideline.sources import the_source

SAMPLES = sorted((Path(__file__).parent.parent / "samples").glob("*/response.json"))
PIECES = [
    *"\\`*_{}[]()#+-.!|<>&~=:;\"'/@$%^?,", *" \t\n\r", "\u202e", "\u200b", "\u2028", "\ufeff", "\x0b", "\x00", "\xa0",
    "www.", "http://", "https://", "ftp://", "mailto:", "xmpp:", ".com", "a@b.co", "evil.example", "javascript:",
    "&lt;", "&#60;", "&#x3c;", "<b>", "</b>", "<!--", "-->", "<![CDATA[", "<?php", "<script>", "[x](", "![x](", "[^1]",
    "```", "~~", "**", "__", "---", "===", "| a | b |", "|-|-|", "1. ", "- ", "    ", "> ", "# ", "\n\n", "a", "Ä",
    "字", "0", "5 mg", ":smile:", "#123", "@user", "\\\n", "  \n", "data:text/html,",
    "[ ]", "//evil.example", "＜b＞", "file:///etc",
]  # fmt: skip


def stored() -> list[Json]:
    return [card for path in SAMPLES for card in json.loads(path.read_text("utf-8"))["cards"]]


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_card_1_two_parsers_see_nothing_but_text_in_generated_strings(count: int) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    cmarkgfm = pytest.importorskip("cmarkgfm")
    parser, chance = markdown_it.MarkdownIt("gfm-like"), random.Random(20261125)
    for _ in range(count):
        text = "".join(chance.choices(PIECES, k=chance.randint(1, 12)))
        shown = f"x {escaped(text)} x"
        tokens = parser.parse(shown)
        assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"], text
        kinds = {child.type for token in tokens for child in token.children or ()}
        assert kinds <= {"text", "text_special"}, text
        html = cmarkgfm.github_flavored_markdown_to_html(shown)
        assert re.fullmatch(r"<p>[^<]*</p>\n", html), text


def test_card_2_the_form_of_every_card() -> None:
    for path in SAMPLES:
        found = json.loads(path.read_text("utf-8"))["cards"]
        ids = [part["uuid"] for card in found for part in (card, *card.get("suggestions", ()))]
        assert len(set(ids)) == len(ids) and all(str(uuid.UUID(one)) == one for one in ids)
        for card in found:
            assert 0 < len(card["summary"]) <= LONGEST_SUMMARY < 140
            assert card["indicator"] in ("info", "warning", "critical")
            assert the_source().id in card["source"]["label"] and card["source"]["url"].startswith("https://")


def test_card_3_every_card_states_its_basis() -> None:
    """In words its rows and the date; for programs version, data with values, what was lacking and why."""
    for card in stored():
        told = card["extension"]["org.jaki-cds"]
        year, _, day = told["asOf"].split("-")
        assert re.search(rf"valuated as of {int(day)} [A-Z][a-z]+ {year}", card["detail"])
        assert told["knowledgeVersion"] and told["edition"]
        for finding in told["findings"]:
            assert {"id", "outcome", "origin", "section", "evidence", "missing"} <= set(finding)
            assert all({"fact", "value"} <= set(item) for item in finding["evidence"])
            assert all({"fact", "reason"} <= set(item) for item in finding["missing"])
            assert finding["outcome"] != "cannot-assess" or finding["missing"]
        assert any(finding["id"] in card["detail"] for finding in told["findings"])


@pytest.mark.parametrize("hook", ["order-select", "order-sign"])
def test_card_4_the_same_request_gets_the_same_cards_but_for_their_uuids(hook: str) -> None:
    request = hook_request([draft("tofacitinib", 5)], hook=hook)
    first, second = cards(copy.deepcopy(request)), cards(copy.deepcopy(request))
    assert json.dumps(comparable(first)) == json.dumps(comparable(second))
    assert first and {card["uuid"] for card in first}.isdisjoint(card["uuid"] for card in second)


def test_card_1_text_of_a_record_reaches_no_card_as_markdown() -> None:
    """Every text of a request at once: whatever of it is shown, is shown as text."""
    hostile = "<b>zq9</b> [zq9](https://evil.example) ![zq9](x) www.zq9.example\n# zq9 `zq9` &lt;zq9"
    request: Any = hook_request([draft("tofacitinib", 5)], bloods={"neutrophils": "0.4"})

    def spoil(value: Any) -> None:
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(member, dict | list):
                spoil(member)
            elif key in ("display", "text", "family", "title", "div", "unit"):
                value[key] = f"{member} {hostile}" if key != "unit" else member

    spoil(request["prefetch"])
    spoil(request["context"]["draftOrders"])
    found = cards(request)
    assert found
    for card in found:
        for text in (card["summary"], card["detail"]):
            assert "<" not in text and "](" not in text and "zq9.example" not in text.replace("\\", "")
