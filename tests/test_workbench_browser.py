"""The workbench in a real browser: each thing that a person can do on it, and what is then on the screen."""

from __future__ import annotations

import json
import logging
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zipfile import ZipFile

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from cds_service.app import create_app
from cds_service.replay import main as replay
from cds_service.settings import Settings
from cds_service.workbench.routes import SAMPLES
from fhir_mappings.prefetch import templates

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

CHROMIUM = shutil.which("chromium")
HERE = Path(__file__).parent
AXE = HERE / "vendor" / "axe.min.js"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    """The service on a free port of this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, create_app(Settings(demo=True)), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser, base: str) -> Iterator[Page]:
    """A page that fails its test when it asks another host for anything, or when a script or the policy faults."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900},
        base_url=base,
        permissions=["clipboard-read", "clipboard-write"],
    )
    made = context.new_page()
    made.set_default_timeout(10_000)
    hosts: set[str] = set()
    faults: list[str] = []
    made.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    made.on("pageerror", lambda error: faults.append(str(error)))
    made.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    yield made
    context.close()
    assert hosts <= {urlsplit(base).netloc, ""}
    assert not [fault for fault in faults if "status of 4" not in fault]


def opened(page: Page, sample: str) -> None:
    page.goto(f"/?sample={sample}")
    expect(page.locator("#why h3, #why p:not(.hint)").first).to_be_visible()


def answered(page: Page) -> None:
    """Waits for the answer to the last change."""
    expect(page.locator("#cards-status")).not_to_contain_text("asking again")


def request_of(page: Page) -> dict[str, object]:
    found: dict[str, object] = json.loads(page.locator("#raw-request").text_content() or "")
    return found


def test_a_sample_is_chosen_and_its_cards_are_drawn(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Sample child").select_option("tofa-init-all-limits-uk")
    card = page.locator("article.card.critical").first
    expect(card.locator(".indicator")).to_have_text("critical")
    expect(card.locator("h3")).to_contain_text("haemoglobin (10 g/dL)")
    expect(card.locator(".detail li strong").first).to_contain_text("Do not start at this value")
    expect(card.get_by_role("link")).to_have_attribute("href", "https://www.sparn.scot.nhs.uk/")
    expect(card.get_by_label("Reason for dismissing").locator("option")).not_to_have_count(0)
    expect(card).to_have_css("border-top-color", "rgb(168, 11, 27)")
    expect(page.locator("article.card.info").first).to_have_css("border-top-color", "rgb(11, 79, 138)")
    expect(page.locator("#cards-status")).to_contain_text("critical")
    assert page.url.endswith("/?sample=tofa-init-all-limits-uk")


def test_a_request_is_pasted_and_a_bad_one_is_told(page: Page) -> None:
    page.goto("/")
    page.locator("summary", has_text="Paste a request").click()
    page.get_by_label("A whole hook request").fill("{not json")
    page.get_by_role("button", name="Use this request").click()
    expect(page.get_by_role("alert")).to_contain_text("no JSON")
    page.get_by_label("A whole hook request").fill(
        (SAMPLES / "tofa-exactly-20kg" / "request.json").read_text()
    )
    page.get_by_role("button", name="Use this request").click()
    expect(page.locator("article.card")).not_to_have_count(0)
    expect(page.get_by_role("alert")).to_be_hidden()


def pasted(page: Page, text: str) -> None:
    page.goto("/")
    page.locator("summary", has_text="Paste a request").click()
    page.get_by_label("A whole hook request").fill(text)
    page.get_by_role("button", name="Use this request").click()


def test_a_request_of_stu3_or_out_of_a_capture_is_taken_and_a_bundle_is_told_apart(page: Page) -> None:
    stu3 = (SAMPLES / "prescribe-stu3" / "request.json").read_text()
    pasted(page, json.dumps({"request": {"method": "POST", "body": stu3}}))
    expect(page.locator("article.card").first).to_contain_text("TOFA-DOSE-04")
    page.get_by_label("Dose, mg").fill("4")
    expect(page.locator("#why")).to_contain_text("The draft against it: match")
    pasted(page, '{"resourceType": "Bundle"}')
    expect(page.get_by_role("alert")).to_contain_text("This is a FHIR Bundle, no hook request")
    pasted(page, '{"hook": "order-dispatch"}')
    expect(page.get_by_role("alert")).to_contain_text("The member hook must be one of medication-prescribe")


def test_a_demo_child_is_opened_with_its_record_as_an_ehr_would_send_it(page: Page) -> None:
    page.goto("/")
    page.get_by_label("Sample child").select_option("child:jia-28kg")
    expect(page.locator("article.card").first).to_contain_text("TOFA-DOSE-04")
    assert page.url.endswith("/?child=jia-28kg")
    request = request_of(page)
    assert set(request["prefetch"]) == set(templates())  # type: ignore[call-overload]
    assert page.locator("#pictures figure", has_text="haemoglobin:").locator("circle").count() > 2
    page.goto("/?child=jia-overdue-bloods")
    page.get_by_label("Hook", exact=True).select_option("patient-view")
    expect(page.locator("#pictures circle.overdue")).not_to_have_count(0)
    expect(page.locator("#cards")).to_contain_text("TOFA-MON-03")
    page.goto("/?child=nobody")
    expect(page.get_by_role("alert")).to_contain_text("There is no demo child nobody.")


def test_a_value_that_is_no_number_is_told_beside_its_field(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    weight = page.get_by_role("textbox", name="weight", exact=True)
    weight.fill("heavy")
    expect(page.get_by_role("alert")).to_contain_text("Write a number, such as 17.4")
    expect(weight).to_have_attribute("aria-invalid", "true")
    assert "heavy" not in (page.locator("#raw-request").text_content() or "")
    weight.fill("19,9")
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("#why")).to_contain_text("TOFA-DOSE-03")
    page.get_by_label("Dose, mg").fill("3,2")
    expect(page.locator("#why")).to_contain_text("The draft against it: match")


def test_accepted_test_orders_stand_among_the_drafts(page: Page) -> None:
    opened(page, "tofa-dose-03-adult-dose")
    page.locator("button.accept", has_text="Order the monitoring plan").click()
    expect(page.locator("#other-drafts")).to_contain_text("Also drafted: ")


def test_the_empty_page_offers_children_to_start_with(page: Page) -> None:
    page.goto("/")
    page.get_by_role("link", name="Neutrophils too low for a start").click()
    expect(page.locator("article.card.critical h3")).to_contain_text("neutrophils")
    expect(page.get_by_text("Start with one of these")).to_have_count(0)
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_label("Sample child")).not_to_have_value("tofa-init-neutrophils-1.1")
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_label("Sample child")).to_have_value("tofa-init-neutrophils-1.1")


def test_the_age_is_changed_in_years_and_months(page: Page) -> None:
    opened(page, "bari-jdm-01")  # as of 1 June 2026
    page.get_by_label("Age, years").fill("6")
    page.get_by_label("and months").fill("0")
    page.get_by_label("and months").press("Tab")
    expect(page.get_by_label("Birth date")).to_have_value("2020-06-01")
    expect(page.locator("#age")).to_have_text("6 years 0 months on 2026-06-01.")
    expect(page.locator("#why")).to_contain_text("Guideline dose: 4 mg once daily [BARI-JDM-02]")
    page.get_by_label("Age, years").fill("five")
    page.get_by_label("Age, years").press("Tab")
    expect(page.get_by_label("Age, years")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Birth date")).to_have_value("2020-06-01")


def test_height_and_a_result_that_was_not_there_change_the_calculation(page: Page) -> None:
    opened(page, "view-bari-egfr-38")
    page.get_by_role("textbox", name="height", exact=True).fill("150")
    expect(page.locator("#pictures")).to_contain_text("36 × 150 cm ÷ 135 µmol/L = 40")
    page.locator("summary", has_text="Results that are not in the request").click()
    page.get_by_role("textbox", name="CK", exact=True).fill("2400")
    expect(page.locator("#pictures figure", has_text="CK: 2400 U/L")).to_have_count(1)


def test_the_hook_is_changed_and_the_drafts_come_back(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    page.get_by_label("Hook", exact=True).select_option("patient-view")
    expect(page.locator("#cards-status")).to_contain_text("No card")
    expect(page.locator("#drafts-box")).to_be_hidden()
    page.get_by_label("Hook", exact=True).select_option("order-sign")
    expect(page.locator("article.card").first).to_contain_text("TOFA-DOSE-04")
    expect(page.locator("#log")).to_contain_text("POST /cds-services/jaki-order-sign (changed): 200")
    page.get_by_label("Hook", exact=True).select_option("medication-prescribe")
    expect(page.locator("#log")).to_contain_text(
        "POST /cds-services/jaki-medication-prescribe (changed): 200"
    )
    assert "draftOrders" not in request_of(page)["context"]  # type: ignore[operator]


def test_another_drug_is_drafted_and_a_draft_removed(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    page.get_by_label("Drug").select_option(label="baricitinib")
    expect(page.locator("article.card").first).to_contain_text("Baricitinib")
    page.get_by_label("Draft another medicine").select_option(label="ruxolitinib")
    expect(page.get_by_role("group", name="Draft 2")).to_be_visible()
    expect(page.locator("#cards")).to_contain_text("IND-RUXO-03")
    assert request_of(page)["context"]["selections"] == [  # type: ignore[index]
        "MedicationRequest/draft-1",
        "MedicationRequest/draft-2",
    ]
    page.get_by_role("button", name="Remove draft 1").click()
    expect(page.get_by_role("group", name="Draft 2")).to_have_count(0)
    expect(page.locator("#why h3")).to_have_count(1)
    expect(page.locator("#why h3")).to_have_text("ruxolitinib, MedicationRequest/draft-2")


def test_controls_change_the_request_and_the_cards(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    page.get_by_role("textbox", name="neutrophils", exact=True).fill("0.9")
    expect(page.locator("article.card.critical")).to_contain_text("neutrophils")
    page.get_by_role("textbox", name="neutrophils", exact=True).fill("")
    expect(page.locator("article.card.critical")).to_have_count(0)
    expect(page.locator("#cards")).to_contain_text("neutrophils")  # now missing, and said so
    page.get_by_role("textbox", name="weight", exact=True).fill("19.9")
    expect(page.locator("#why")).to_contain_text("TOFA-DOSE-03")
    page.get_by_label("Birth date").fill("2025-01-01")
    expect(page.locator("#cards")).to_contain_text("Below the age for which tofacitinib is approved")
    assert request_of(page)["prefetch"]["patient"]["birthDate"] == "2025-01-01"  # type: ignore[index]


def test_conditions_and_medicines_are_added_and_removed(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    page.get_by_role("button", name="Remove Juvenile psoriatic arthritis").click()
    expect(page.locator("#why")).to_contain_text("indication", use_inner_text=False)
    answered(page)
    page.get_by_label("Add a condition").select_option(label="active TB")
    expect(page.locator("#conditions")).to_contain_text("active TB")
    expect(page.locator("#cards")).to_contain_text("Active tuberculosis")
    page.get_by_label("Add a medicine").select_option(label="etanercept")
    expect(page.locator("#medicines")).to_contain_text("etanercept")
    answered(page)
    expect(page.locator("#cards")).to_contain_text("biologic")


def test_a_suggestion_is_accepted_and_the_hook_fires_again(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    dose = page.get_by_label("Dose, mg")
    expect(dose).to_have_value("3.2")
    page.locator("button.accept", has_text="4 mg twice daily").click()
    expect(dose).to_have_value("4")
    log = page.locator("#log")
    expect(log).to_contain_text("/cds-services/jaki-order-select/feedback: 200; accepted:")
    expect(log).to_contain_text("POST /cds-services/jaki-order-select (suggestion accepted): 200")
    expect(page.locator("button.accept", has_text="4 mg twice daily")).to_have_count(0)


def test_the_drafted_dose_is_changed_by_hand(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    page.get_by_label("Dose, mg").fill("4")
    expect(page.locator("#why")).to_contain_text("The draft against it: match")


def test_a_card_is_dismissed_with_a_reason(page: Page) -> None:
    opened(page, "tofa-init-all-limits-uk")
    card = page.locator("article.card").first
    answer = json.loads(page.locator("#raw-response").text_content() or "")
    reason = answer["cards"][0]["overrideReasons"][1]
    card.get_by_label("Reason for dismissing").select_option(label=reason["display"])
    with page.expect_request("**/feedback") as sent:
        card.get_by_role("button", name="Dismiss").click()
    [item] = json.loads(sent.value.post_data or "")["feedback"]
    assert (item["card"], item["outcome"]) == (answer["cards"][0]["uuid"], "overridden")
    assert item["overrideReason"]["reason"] == {"code": reason["code"], "system": reason["system"]}
    expect(page.locator("#log")).to_contain_text(f"feedback: 200; overridden: {reason['display']}")
    expect(page.locator("article.card.gone")).to_contain_text("Dismissed")


def test_the_pictures_show_the_child_and_the_guideline(page: Page) -> None:
    opened(page, "view-bari-egfr-38")
    pictures = page.locator("#pictures")
    expect(pictures.get_by_role("img", name="Monitoring plan as of 2026-06-01")).to_be_visible()
    expect(pictures.get_by_role("img", name="week 12 2026-02-23: done")).to_be_visible()
    expect(pictures.get_by_text("36 × 144 cm ÷ 135 µmol/L = 38.4")).to_be_visible()
    neutrophils = pictures.locator("figure", has_text="neutrophils:").first
    expect(neutrophils.locator("rect[class^=band-]")).not_to_have_count(0)
    expect(neutrophils.locator("path.start")).to_have_count(1)
    opened(page, "tofa-exactly-20kg")
    dose = pictures.get_by_role(
        "img", name="Tofacitinib dose by weight. The child: 20 kg. Drafted: 6.4 mg per day."
    )
    expect(dose.locator("rect.band-own title")).to_contain_text("4 mg twice daily")
    expect(dose.locator("circle.child")).to_have_count(1)


def test_a_plan_shows_what_is_overdue_and_to_come(page: Page) -> None:
    opened(page, "view-bari-egfr-38")
    page.get_by_label("Evaluated as of").fill("2027-06-01")
    plan = page.locator("#pictures figure", has_text="Monitoring plan")
    expect(plan.locator("circle.overdue")).to_have_count(1)
    expect(plan.get_by_role("img", name="next regular check 2026-08-17: overdue")).to_be_visible()
    page.get_by_label("Evaluated as of").fill("2026-08-17")
    expect(plan.locator("circle.due")).to_have_count(1)


def test_a_band_is_named_and_not_told_by_its_colour_alone(page: Page) -> None:
    opened(page, "tofa-init-all-limits-uk")
    neutrophils = page.locator("#pictures figure", has_text="neutrophils:").first
    expect(neutrophils.locator("text.band-name")).to_have_text(["TOFA-INIT-02 critical"])
    neutrophils.get_by_text("Bands and values").click()
    expect(neutrophils.locator("details li").first).to_contain_text("1.2 ×10⁹/L or less, critical")


def test_why_tells_facts_with_their_resource_and_rows_with_their_citation(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    page.get_by_text("Facts (").click()
    expect(page.locator("#why tr", has_text="Observation/weight-1").first).to_contain_text("20 kg")
    row = page.locator("#why tr", has_text="TOFA-DOSE-04").first
    expect(row).to_contain_text("5.3, first dose table, row 2")
    unused = page.locator("#why details", has_text="Resources that were not used")
    expect(unused.locator("tr", has_text="Condition/condition-2")).to_contain_text("in no table")


def test_request_and_response_are_shown_copied_and_saved(page: Page, tmp_path: Path) -> None:
    opened(page, "tofa-exactly-20kg")
    assert request_of(page) == json.loads((SAMPLES / "tofa-exactly-20kg" / "request.json").read_text())
    assert json.loads(page.locator("#raw-response").text_content() or "")["cards"]
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.locator("#raw-status")).to_have_text("Copied.")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("curl -sS -X POST 'http://127.0.0.1:")
    assert "/cds-services/jaki-order-select'" in copied
    page.get_by_label("Name of the sample").fill("Not a name")
    page.get_by_role("button", name="Save as sample").click()
    expect(page.locator("#sample-name-fault")).to_contain_text("made of small letters")
    page.get_by_label("Name of the sample").fill("my-case")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as sample").click()
    expect(page.locator("#raw-status")).to_have_text("Saved as my-case.zip.")
    assert saved.value.suggested_filename == "my-case.zip"
    with ZipFile(saved.value.path()) as packed:
        assert json.loads(packed.read("my-case/request.json")) == request_of(page)
        packed.extractall(tmp_path)
    assert replay([str(tmp_path / "my-case")]) == 0


def test_text_of_a_record_stays_text(page: Page) -> None:
    request = json.loads((SAMPLES / "tofa-exactly-20kg" / "request.json").read_text())
    evil = "<img src=x onerror=alert(1)> **bold** [a](javascript:alert(1))"
    request["prefetch"]["conditions"]["entry"][1]["resource"]["code"]["text"] = evil
    pasted(page, json.dumps(request))
    expect(page.locator("#conditions")).to_contain_text(evil)
    assert page.locator("img[src=x], a[href^=javascript]").count() == 0


def test_a_refusal_is_shown_as_one(page: Page) -> None:
    pasted(page, '{"hook": "order-sign"}')
    expect(page.locator("#cards .problem")).to_contain_text("400:")
    expect(page.locator("#cards-status")).to_contain_text("nothing was checked")


def test_the_keyboard_reaches_the_cards_first(page: Page) -> None:
    opened(page, "tofa-exactly-20kg")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the cards")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#cards') !== null")


def test_everything_is_done_by_keyboard(page: Page) -> None:
    """Choose a child, change the weight, take the suggestion, dismiss a card: no mouse."""
    page.goto("/")

    def tab_to(words: str, most: int = 60) -> None:
        told = """() => { const at = document.activeElement;
            return at.labels?.[0]?.textContent ?? at.getAttribute('aria-label') ?? at.textContent; }"""
        for _ in range(most):
            page.keyboard.press("Tab")
            if words in page.evaluate(told):
                return
        raise AssertionError(f"the keyboard does not reach {words}")

    tab_to("Sample child")
    page.keyboard.type("Exactly 20 kg")
    expect(page.get_by_label("Sample child")).to_have_value("tofa-exactly-20kg")
    page.keyboard.press("Tab")
    expect(page.locator("article.card")).not_to_have_count(0)
    tab_to("weight")  # what stands in a field is selected on the way in, so typing replaces it
    page.keyboard.type("41")
    expect(page.locator("#why")).to_contain_text("TOFA-DOSE-05")
    answered(page)
    tab_to("Set the dose to", most=120)
    page.keyboard.press("Enter")
    expect(page.locator("#log")).to_contain_text("feedback: 200; accepted:")
    expect(page.locator("#cards-heading")).to_be_focused()
    tab_to("Dismiss:")
    page.keyboard.press("Enter")
    expect(page.locator("article.card.gone p")).to_be_focused()


def test_a_screen_reader_hears_what_is_there(page: Page) -> None:
    opened(page, "tofa-dose-03-adult-dose")
    card = page.get_by_role(
        "article", name="Tofacitinib in JIA: 3.2 mg twice daily; drafted 5 mg twice daily"
    )
    expect(card.get_by_role("heading", level=3)).to_have_count(1)
    expect(card.get_by_role("button", name="Dismiss: Tofacitinib in JIA: 3.2 mg twice daily")).to_be_visible()
    expect(page.get_by_role("status").first).to_have_text("2 cards: 1 warning, 1 info.")
    for name in ("Cards", "Pictures", "Why", "Request and response", "Request log"):
        expect(page.get_by_role("region", name=name, exact=True)).to_be_visible()
    expect(page.get_by_role("group", name="weight", exact=True).get_by_label("weight, date")).to_be_visible()
    expect(page.get_by_role("navigation", name="On this page").get_by_role("link")).to_have_count(5)


def test_every_sample_opens_by_its_address(page: Page) -> None:
    names = sorted(path.parent.name for path in SAMPLES.glob("*/request.json"))
    for name in names:
        page.goto(f"/?sample={name}")
        expect(page.locator("#cards-status")).to_have_text(re.compile(r"^(\d+ cards?: |No card: )"))
        expect(page.get_by_label("Sample child")).to_have_value(name)
        expect(page.locator("#cards .problem")).to_have_count(0)


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize(
    "sample", [None, "tofa-exactly-20kg", "view-bari-egfr-38", "tofa-init-all-limits-uk"]
)
def test_axe_finds_nothing_serious_and_nothing_is_wider_than_the_screen(
    page: Page, sample: str | None, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    if sample:
        opened(page, sample)
    else:
        page.goto("/")
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    grave = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
    assert not grave


SANDBOX_PAGE = b"<!doctype html><title>Another origin</title><p>Plays the sandbox</p>"


def test_a_page_of_another_origin_does_what_the_sandbox_does(browser: Browser, base: str) -> None:
    """With the browser's own preflights: tokens on discovery, hooks and feedback, searches by POST, readable errors."""

    def other(environ: object, start: StartResponse) -> list[bytes]:
        start("200 OK", [("Content-Type", "text/html; charset=utf-8")])
        return [SANDBOX_PAGE]

    server = make_server("127.0.0.1", 0, other, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        found = page.evaluate((HERE / "other_origin.js").read_text(encoding="utf-8"), base)
        page.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert found["metadata"]["body"]["fhirVersion"] == "4.0.1"
    assert found["cards"]["status"] == 200
    assert "Tofacitinib" in found["cards"]["body"]["cards"][0]["summary"]
    assert found["feedback"] == {"status": 200, "body": {}}
    assert found["refused"]["status"] == 400
    assert "draftOrders" in found["refused"]["body"]["issue"][0]["diagnostics"]


@pytest.mark.parametrize("width", [360, 1280])
def test_the_rules_can_be_searched_and_axe_finds_nothing_serious(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/guideline")
    page.get_by_label("Find in the rules").fill("neutrophils tofa-init")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("status")).to_contain_text("rows hold")
    expect(page.locator("#TOFA-INIT-02")).to_be_visible()
    expect(page.locator("#TOFA-DOSE-03")).to_have_count(0)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    assert not [v["id"] for v in found if v["impact"] in ("serious", "critical")]
