"""The figures of GET /guideline: every row is a box, its limits stand where the table puts them."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from flask.testing import FlaskClient

from cds_service.app import create_app
from cds_service.guideline_figure import figure
from cds_service.settings import Settings
from guideline.cells import Span
from guideline.render import RowText, page_of
from guideline.tables import Row, Table, load_tables

TABLES = load_tables().all
Element = ElementTree.Element


@cache
def texts() -> dict[str, tuple[RowText, ...]]:
    chapters = page_of(load_tables(), {}).chapters
    return {table.name: table.rows for chapter in chapters for table in chapter.tables}


@cache
def drawn(name: str) -> Element:
    table = load_tables().named(name)
    return ElementTree.fromstring(figure(table, list(zip(table.rows, texts()[name], strict=True))))


def words(element: Element) -> str:
    return " ".join(text.text or "" for text in element.iter("text"))


def boxes(name: str) -> list[Element]:
    """The boxes of the rows, those of a map left out."""
    return [link for link in drawn(name).iter("a") if link.find("path[@class='arrow']") is not None]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_row_is_a_box_that_leads_to_it(table: Table) -> None:
    found = boxes(table.name)
    assert [box.get("href") for box in found] == [f"#{row.id}" for row in table.rows]
    for number, (box, row) in enumerate(zip(found, table.rows, strict=True), start=1):
        assert words(box).startswith(f"{number}. {row.id}")
        bar = box.find("rect[2]")
        assert bar is not None and bar.get("class") == f"bar {row.severity.value}"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_end_of_a_span_is_filled_where_the_limit_counts(table: Table) -> None:
    for box, row in zip(boxes(table.name), table.rows, strict=True):
        ends = Counter(str(circle.get("class")) for circle in box.iter("circle"))
        assert ends == expected_ends(row), row.id


def expected_ends(row: Row) -> Counter[str]:
    found: Counter[str] = Counter()
    for box in (*row.boxes, row.applies):
        for cell in (c for c in box.values() if isinstance(c, Span)):
            for limit, is_open in ((cell.low, cell.low_open), (cell.high, cell.high_open)):
                if limit is not None:
                    found["open-end" if is_open else "closed-end"] += 1
    return found


def test_the_bands_of_the_doses_follow_one_another() -> None:
    bands = [path for box in boxes("TOFA-DOSE") for path in box.iter("path") if path.get("class") == "band"]
    ends = [tuple(map(float, re.findall(r"[MH]([\d.]+)", str(band.get("d"))))) for band in bands]
    assert all(before[1] == after[0] for before, after in pairwise(ends))
    assert "3.2 mg twice daily (6.4 mg per day)" in words(boxes("TOFA-DOSE")[3])


def test_two_numbers_make_a_map_without_hole_or_overlap() -> None:
    cells = [link for link in drawn("BARI-IFN").iter("a") if link.find("path[@class='arrow']") is None]
    assert len(cells) == 12
    corners = Counter()
    for cell in cells:
        box = cell.find("rect")
        assert box is not None
        x, y, width, height = (float(str(box.get(name))) for name in ("x", "y", "width", "height"))
        corners.update([(round(x + width / 2), round(y + height / 2))])
    assert set(corners.values()) == {1}
    by_id = {str(cell.get("href")): words(cell) for cell in cells}
    assert by_id["#BARI-IFN-06"] == "BARI-IFN-06 10 mg per day"


def test_it_is_named_and_described_for_a_screen_reader() -> None:
    root = drawn("TOFA-INIT")
    assert root.get("role") == "group"
    label = str(root.get("aria-labelledby")).split()
    assert [
        element.get("id") for element in (root.find("title"), root.find("desc")) if element is not None
    ] == label
    assert root.findtext("title") == "Figure of TOFA-INIT: Tofacitinib, blood thresholds at a start"
    assert root.findtext("desc") == "3 rows in the order of the table; each row that fits applies."


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return create_app(Settings()).test_client()


def test_the_page_has_the_figure_of_every_table(client: FlaskClient) -> None:
    html = client.get("/guideline").get_data(as_text=True)
    assert html.count("<svg ") == len(TABLES)
    assert len(re.findall(r'class="arrow"', html)) == sum(len(table.rows) for table in TABLES)
    assert " style=" not in html


def test_a_search_leaves_the_boxes_of_the_rows_that_it_finds(client: FlaskClient) -> None:
    html = client.get("/guideline", query_string={"q": "neutrophils tofa-init"}).get_data(as_text=True)
    svg = html[html.index("<svg ") : html.index("</svg>")]
    assert re.findall(r'href="#([^"]+)"', svg) == ["TOFA-INIT-02"]
