"""The generated pages of docs/ match their sources, tell every row, and hold no text that Markdown or HTML eats."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cds_service import settings
from cds_service.app import create_app
from cds_service.settings import Settings
from fhir_mappings.render import facts_page
from guideline.facts import vocabulary
from guideline.render import markdown, page_of, read_examples
from guideline.tables import Row, Table, Tables, load_tables

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {
    "guideline.md": lambda: markdown(page_of(load_tables(), read_examples())),
    "facts.md": facts_page,
    "settings.md": settings.page,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_matches_its_source(name: str) -> None:
    written = (DOCS / name).read_text(encoding="utf-8")
    assert written == PAGES[name](), f"docs/{name} is out of date; run `make page` and commit it"


def test_the_page_tells_every_row_with_its_citation_and_words() -> None:
    page = plain(markdown(page_of(load_tables(), {})))
    for table in load_tables().all:
        assert f"### {table.name}: {table.title}" in page
        for row in table.rows:
            assert f"**{row.id}**" in page
            assert row.say in page
            assert row.cite in page


def test_the_page_tells_every_fact_once() -> None:
    page = facts_page()
    for name in vocabulary():
        assert page.count(f"| `{name}` |") == 1


def plain(text: str) -> str:
    """Markdown without its escapes."""
    return re.sub(r"\\([\\`*_<>\[\]|])", r"\1", text)


# --- how one row reads ----------------------------------------------------------------------------


def row_text(table: str, row: str) -> tuple[str, str, str]:
    page = page_of(load_tables(), {})
    found = next(r for c in page.chapters for t in c.tables if t.name == table for r in t.rows if r.id == row)
    return found.condition, found.says, found.shown_as


def test_a_dose_row_reads_as_a_sentence() -> None:
    assert row_text("TOFA-DOSE", "TOFA-DOSE-03") == (
        "If weight is from 10 up to but not including 20 kg",
        "3.2 mg twice daily (6.4 mg per day), oral solution. Dose by weight.",
        "info dose",
    )


def test_a_divided_dose_reads_by_time_of_day() -> None:
    _, says, _ = row_text("BARI-IFN", "BARI-IFN-05")
    assert says.startswith("4 mg morning + 4 mg evening (8 mg per day), tablet.")


def test_a_row_that_bars_the_dose_says_so() -> None:
    condition, _, shown = row_text("TOFA-INIT", "TOFA-INIT-02")
    assert condition == "If neutrophils is 1.2 ×10⁹/L or less"
    assert shown == "critical alert; no dose is suggested"


# --- examples -------------------------------------------------------------------------------------


def test_examples_stand_at_the_row_that_they_expect(tmp_path: Path) -> None:
    (tmp_path / "doses.yaml").write_text(
        "- about: invented\n"
        "  drug: tofacitinib\n"
        "  cases:\n"
        "    - name: Exactly 20 kg has moved up\n"
        "      facts: {weight: 20 kg}\n"
        "      expect: {TOFA-DOSE-04: info}\n"
        "      not: [TOFA-DOSE-03]\n",
        encoding="utf-8",
    )
    examples = read_examples(tmp_path)
    assert examples == {"TOFA-DOSE-04": ("Exactly 20 kg has moved up",)}
    assert "  - Example: Exactly 20 kg has moved up" in markdown(page_of(load_tables(), examples))


def test_without_examples_the_page_does_without(tmp_path: Path) -> None:
    assert read_examples(tmp_path / "none") == {}


# --- the page of the service ----------------------------------------------------------------------


class Seen(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("demo", [True, False])
def test_the_service_shows_the_same_rows(demo: bool) -> None:
    response = create_app(Settings(demo=demo)).test_client().get("/guideline")
    assert (response.status_code, response.content_type) == (200, "text/html; charset=utf-8")
    seen = Seen()
    seen.feed(response.get_data(as_text=True))
    for chapter in page_of(load_tables(), {}).chapters:
        for table in chapter.tables:
            for row in table.rows:
                assert row.id in seen.text
                assert f"{row.condition}: {row.says}" in seen.text
    assert "No clinician has reviewed this content yet." in seen.text


def test_the_page_needs_no_script_and_its_policy_allows_none() -> None:
    client = create_app(Settings()).test_client()
    response = client.get("/guideline")
    seen = Seen()
    seen.feed(response.get_data(as_text=True))
    assert not {"script", "iframe", "img"} & set(seen.tags)
    policy = response.headers["Content-Security-Policy"]
    assert policy == (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    style = client.get("/guideline.css")
    assert (style.status_code, style.content_type) == (200, "text/css; charset=utf-8")


def page_text(search: str, *, demo: bool = False) -> str:
    client = create_app(Settings(demo=demo)).test_client()
    return client.get("/guideline", query_string={"q": search}).get_data(as_text=True)


def test_a_search_leaves_the_rows_that_hold_every_word() -> None:
    page = page_text("Neutrophils 1.2 tofa-init")
    assert 'id="TOFA-INIT-02"' in page
    assert 'id="TOFA-INIT-01"' not in page
    assert 'id="TOFA-DOSE-03"' not in page


def test_a_search_that_finds_nothing_says_so_and_is_escaped() -> None:
    page = page_text('<b>"none"')
    assert "0 of " in page
    assert "<b>" not in page
    assert 'value="&lt;b&gt;&#34;none&#34;"' in page


def test_no_address_stands_twice_on_the_page() -> None:
    ids = re.findall(r' id="([^"]+)"', page_text(""))
    assert len(ids) == len(set(ids))
    for table in load_tables().all:
        assert {row.id for row in table.rows} <= set(ids)


def test_a_row_leads_to_its_samples_and_examples_in_demo_mode_only() -> None:
    link = '<a href="/?sample=tofa-exactly-20kg">'
    assert link in page_text("TOFA-DOSE-04", demo=True)
    assert "Examples (" in page_text("TOFA-DOSE-04", demo=True)
    assert link not in page_text("TOFA-DOSE-04")


def test_text_of_the_tables_is_escaped_in_both_pages() -> None:
    app = create_app(Settings())
    table = load_tables().named("TOFA-DOSE")
    hostile = with_words(table, "<b>2 mg</b> & *more* [x](y)")
    runtime = app.extensions["jaki_cds"]
    app.extensions["jaki_cds"] = replace(runtime, tables=Tables((hostile,)))
    html = app.test_client().get("/guideline").get_data(as_text=True)
    assert "&lt;b&gt;2 mg&lt;/b&gt; &amp; *more*" in html
    assert "<b>" not in html
    assert r"\<b\>2 mg\</b\> & \*more\* \[x\](y)" in markdown(page_of(Tables((hostile,)), {}))


def with_words(table: Table, say: str) -> Table:
    rows: tuple[Row, ...] = (replace(table.rows[0], say=say), *table.rows[1:])
    return replace(table, rows=rows)
