"""`jaki-cds plot`: the pictures of a request as SVG and PNG."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

from cds_service.cli import main
from cds_service.workbench.plot import plot, png

SAMPLES = Path(__file__).parent.parent / "samples"
SVG = "{http://www.w3.org/2000/svg}"


def drawn(sample: str) -> tuple[list[str], ElementTree.Element]:
    """The titles of the pictures, and the whole."""
    root = ElementTree.fromstring(plot(SAMPLES / sample / "request.json"))
    return [str(group.get("aria-label")) for group in root.iter(f"{SVG}g")], root


def test_a_start_has_its_dose_bands_and_results() -> None:
    titles, root = drawn("tofa-exactly-20kg")
    assert titles[0] == "Tofacitinib dose by weight, mg per day"
    assert {"eGFR", "weight: 20 kg", "haemoglobin: 12.4 g/dL"} <= set(titles)
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert "36 × 117 cm ÷ 33 µmol/L = 127.6 mL/min/1.73 m²" in words
    own = [r for r in root.iter(f"{SVG}rect") if r.get("fill") == "#a9d3f2"]
    assert len(own) == 1


def test_a_band_is_named_and_not_told_by_its_colour_alone() -> None:
    _, root = drawn("tofa-init-all-limits-uk")
    assert "TOFA-INIT-02 critical" in [text.text for text in root.iter(f"{SVG}text")]


def test_a_small_change_is_not_drawn_as_a_large_one() -> None:
    """ALT goes from 22 to 21: the two points lie close together."""
    _, root = drawn("view-bari-egfr-38")
    picture = next(group for group in root.iter(f"{SVG}g") if str(group.get("aria-label")).startswith("ALT"))
    heights = [float(str(dot.get("cy"))) for dot in picture.iter(f"{SVG}circle")]
    assert 0 < max(heights) - min(heights) < 30


def test_a_withheld_dose_is_said_below_the_bands() -> None:
    _, root = drawn("tofa-init-all-limits-uk")
    words = [str(text.text) for text in root.iter(f"{SVG}text")]
    assert any(
        w.startswith("No dose is suggested for this child now; withheld by TOFA-INIT-01") for w in words
    )


def test_a_running_course_has_its_plan() -> None:
    titles, root = drawn("view-bari-egfr-38")
    assert "Monitoring plan as of 2026-06-01" in titles
    assert "2026-02-23  week 12: done" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_same_request_gives_the_same_bytes() -> None:
    request = SAMPLES / "bari-ifn-02-savi" / "request.json"
    assert plot(request) == plot(request)


def test_a_result_known_only_by_a_bound_is_drawn() -> None:
    titles, _ = drawn("bari-creatinine-below-detection")
    assert any(title.startswith("creatinine: below ") for title in titles)


def test_it_goes_to_a_file_or_to_standard_output(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    request = str(SAMPLES / "tofa-exactly-20kg" / "request.json")
    assert main(["plot", request, "-o", str(tmp_path / "a.svg")]) == 0
    assert main(["plot", request]) == 0
    assert capsysbinary.readouterr().out == (tmp_path / "a.svg").read_bytes()


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG, out of its first chunk."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


@pytest.mark.slow
def test_the_ending_makes_it_a_png_of_the_same_bytes_each_time(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    pytest.importorskip("resvg_py")
    request = str(SAMPLES / "view-bari-egfr-38" / "request.json")
    assert main(["plot", request, "-o", str(tmp_path / "a.png")]) == 0
    assert main(["plot", request, "--format", "png"]) == 0
    made = (tmp_path / "a.png").read_bytes()
    assert capsysbinary.readouterr().out == made
    root = ElementTree.fromstring(plot(Path(request)))
    assert size_of(made) == (2 * int(root.get("width", "0")), 2 * int(root.get("height", "0")))


def test_the_font_has_every_sign_that_is_drawn() -> None:
    """A sign without a glyph would be an empty box in the PNG; one wide letter and a box differ in their bytes."""
    resvg = pytest.importorskip("resvg_py")
    signs = {
        sign
        for name in ("tofa-exactly-20kg", "view-bari-egfr-38")
        for sign in plot(SAMPLES / name / "request.json")
    }
    signs |= set("×÷µ²³⁹≥≤–’äéß")

    def drawn(sign: str) -> bytes:
        text = f'<text x="2" y="16" font-family="sans-serif">{escape(sign)}</text>'
        return png(f'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">{text}</svg>')

    assert resvg
    box = drawn("\u4e2d")  # surely not in it
    assert not [sign for sign in sorted(signs) if not sign.isspace() and drawn(sign) == box]


def test_without_the_package_the_cure_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    assert main(["plot", str(SAMPLES / "tofa-exactly-20kg" / "request.json"), "--format", "png"]) == 2
    assert "PNG needs the package resvg-py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no", "The body is not valid JSON"),
        ('{"hook": "order-dispatch"}', "hook is none that the service answers"),
        ((SAMPLES / "sign-no-jak-inhibitor" / "request.json").read_text("utf-8"), "there is nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_told_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    (tmp_path / "request.json").write_text(text, "utf-8")
    assert main(["plot", str(tmp_path / "request.json")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("jaki-cds plot: ")
    assert told in said
    assert said.count("\n") == 1


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = str(SAMPLES / "tofa-exactly-20kg" / "request.json")
    assert main(["plot", request, "-o", str(tmp_path / "no" / "a.svg")]) == 2
    assert "cannot be written (No such file or directory)" in capsys.readouterr().err


def test_words_of_the_request_cannot_break_the_picture(tmp_path: Path) -> None:
    request = json.loads((SAMPLES / "tofa-exactly-20kg" / "request.json").read_bytes())
    draft = request["context"]["draftOrders"]["entry"][0]["resource"]
    draft["medicationCodeableConcept"]["text"] = "<script>&"
    (tmp_path / "request.json").write_text(json.dumps(request), "utf-8")
    ElementTree.fromstring(plot(tmp_path / "request.json"))
