"""A table counts as reviewed only by a line that holds for its content as it stands; the cards follow from that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cards import text
from cards.build import Occasion, OrderToCard, cards_for
from cards.model import Card
from guideline import assess as engine
from guideline import tables as table_module
from guideline.doses import DoseState, Form, OrderedDose
from guideline.policy import load_policy
from guideline.record import Birth, Draft, Record
from guideline.sign_off import SIGN_OFF, SignOffFault, read_sign_off, signatures, signed
from guideline.tables import Table, build_table, load_tables, raw_tables
from guideline.values import Known

HEADER = "table,content,reader,role,date\n"


def entry(name: str = "TOFA-DOSE") -> dict[str, Any]:
    return deepcopy(next(e for entries in raw_tables().values() for e in entries if e["table"] == name))


def built(content: Mapping[str, Any]) -> Table:
    return build_table(content, "invented.yaml")


def line(table: Table) -> str:
    return f"{table.name},{table.fingerprint},A. Reader,paediatric pharmacist,2026-06-01\n"


def written(folder: Path, *lines: str) -> Path:
    path = folder / "sign_off.csv"
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path


def test_the_shipped_file_is_readable_and_no_line_in_it_is_void() -> None:
    now = {(table.name, table.fingerprint) for table in load_tables().all}
    assert set(read_sign_off(SIGN_OFF)) <= now, "void lines: the table was edited; have it read again"


def test_a_line_holds_for_the_table_that_was_read(tmp_path: Path) -> None:
    table = built(entry())
    path = written(tmp_path, line(table))
    assert signed(table, path)
    assert [s.reader for s in signatures(table, path)] == ["A. Reader"]
    assert not signed(built(entry("BARI-JIA")), path)


def test_without_a_line_nobody_has_read_it(tmp_path: Path) -> None:
    assert not signed(built(entry()), written(tmp_path))


def a_limit(content: dict[str, Any]) -> None:
    content["rows"][-1]["when"] = {"weight": "> 40"}


def a_dose(content: dict[str, Any]) -> None:
    content["rows"][-1]["dose"]["mg"] = "6"


def words(content: dict[str, Any]) -> None:
    content["rows"][0]["say"] += " Ask."


def a_citation(content: dict[str, Any]) -> None:
    content["rows"][0]["cite"] = "5.4"


def the_order_of_rows(content: dict[str, Any]) -> None:
    content["rows"].reverse()


def what_a_stale_value_may_do(content: dict[str, Any]) -> None:
    content["stale"] = {"weight": "use"}


@pytest.mark.parametrize(
    "edit", [a_limit, a_dose, words, a_citation, the_order_of_rows, what_a_stale_value_may_do]
)
def test_an_edit_makes_the_line_void(tmp_path: Path, edit: Any) -> None:
    path = written(tmp_path, line(built(entry())))
    changed = entry()
    edit(changed)
    assert not signed(built(changed), path)


def test_another_unit_of_a_fact_makes_the_line_void(monkeypatch: pytest.MonkeyPatch) -> None:
    before = built(entry()).fingerprint
    kinds = dict(table_module.vocabulary())
    kinds["weight"] = replace(kinds["weight"], unit="g")
    monkeypatch.setattr(table_module, "vocabulary", lambda: kinds)
    assert built(entry()).fingerprint != before


def test_layout_and_file_make_no_difference() -> None:
    turned = dict(reversed(list(entry().items())))
    assert build_table(turned, "elsewhere.yaml").fingerprint == built(entry()).fingerprint


BAD = [
    ("table,reader\n", "line 1"),
    (HEADER + "TOFA-DOSE,0123456789ab,A. Reader,,2026-06-01\n", "line 2"),
    (HEADER + "TOFA-DOSE,0123456789ab,A. Reader,pharmacist,2026-06-01,more\n", "line 2"),
    (HEADER + "TOFA-DOSE,0123456789ab,A. Reader,pharmacist,1 June\n", "line 2"),
]


@pytest.mark.parametrize(("content", "place"), BAD)
def test_a_bad_line_is_refused_with_its_place(tmp_path: Path, content: str, place: str) -> None:
    path = tmp_path / "sign_off.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SignOffFault, match=place):
        read_sign_off(path)


# --- the cards ------------------------------------------------------------------------------------

ON = date(2026, 3, 2)
BIRTH = Birth(date(2020, 3, 2), date(2020, 3, 2), "Patient/child", "2020-03-02")
RECORD = Record(
    on=ON,
    birth=BIRTH,
    sex=Known("female"),
    series={},
    flags={},
    answers={},
    vaccinations=(),
    vaccinations_gap=(),
    operations=(),
    taken=(),
    orders=(),
    orders_gap=(),
)
DRAFT = Draft(
    reference="MedicationRequest/draft",
    drug="tofacitinib",
    matched_by_name=False,
    form=Form.UNKNOWN,
    modified_release=False,
    dose=OrderedDose(DoseState.ABSENT),
    indication=Known("jia"),
    jia_category=Known("polyarticular"),
)
NOT_REVIEWED = text.wording()["not_reviewed"]


def cards(monkeypatch: pytest.MonkeyPatch, signs: Callable[[Table], bool]) -> list[Card]:
    """The cards of an invented child with nothing on record, with these tables signed."""
    monkeypatch.setattr(engine, "signed", signs)
    assessed = engine.assess(RECORD, DRAFT, load_tables(), load_policy())
    return cards_for(OrderToCard(assessed, {}, None), Occasion(ON, new_uuid=lambda: "invented"))


def test_while_nobody_has_signed_every_card_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cards(monkeypatch, lambda table: False)
    assert found
    assert all(NOT_REVIEWED in card.detail for card in found)


def test_once_every_table_is_signed_no_card_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cards(monkeypatch, lambda table: True)
    assert found
    assert not any(NOT_REVIEWED in card.detail for card in found)
    assert all(text.wording()["decision"] in card.detail for card in found)


def test_one_unsigned_table_behind_a_card_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    found = cards(monkeypatch, lambda table: table.name != "TOFA-INIT")
    unsure = [card for card in found if NOT_REVIEWED in card.detail]
    assert unsure
    assert all("TOFA-INIT-01" in card.detail for card in unsure)
    assert len(unsure) < len(found)
