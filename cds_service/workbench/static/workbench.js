// The page: controls change the request, the request goes to the real hook addresses, the answer is drawn as an EHR would.
import { element, link, render } from "./markdown.js";
import { draw } from "./pictures.js";
import * as edit from "./request.js";

const WAIT = 250; // ms of quiet before the hook fires
const byId = (id) => document.getElementById(id);
const json = { "Content-Type": "application/json" };
const services = new Map([...byId("services").content.children].map((each) => [each.textContent, each.value]));
const drugs = [...byId("drugs").content.children];
const controls = [...document.querySelectorAll(".result")].map((box) => ({
  box, fact: box.dataset.fact, key: box.dataset.key, unit: box.dataset.unit, title: box.dataset.title,
  codes: box.dataset.codes.split(" "), value: box.querySelector(".value"), on: box.querySelector(".on"),
  unitText: box.querySelector(".unit"), unitWords: box.querySelector(".unit").textContent,
}));

let request = null;
let response = null;
let sent = 0;
let timer = null;
let kept = null; // the drafts, while a hook without drafts is tried

// --- choosing a request ---------------------------------------------------------------------------

function problemOf(value) {
  if (!value || typeof value !== "object" || Array.isArray(value)) return "A hook request is a JSON object.";
  if (value.resourceType) return `This is a FHIR ${value.resourceType}, no hook request; jaki-cds sample new makes one of a patient's Bundle.`;
  if (!services.has(value.hook)) return `The member hook must be one of ${[...services.keys()].join(", ")}.`;
  return "";
}

function open(value, title) {
  const problem = problemOf(value);
  showProblem(problem);
  if (problem) return;
  request = value;
  kept = null;
  byId("sample-name").value = title;
  byId("raw-status").textContent = "";
  byId("controls-box").hidden = byId("jumps").hidden = false;
  for (const panel of document.querySelectorAll(".later")) panel.hidden = false;
  byId("first")?.remove();
  fill();
  fire("opened");
}

// As an EHR does it: the record of a demo child by the templates that the service publishes, and a draft without a dose.
async function openChild(id) {
  try {
    const hook = "order-select";
    const discovery = await (await fetch("/cds-services")).json();
    log("GET /cds-services", 200);
    const templates = Object.entries(discovery.services.find((each) => each.id === services.get(hook)).prefetch);
    const prefetch = Object.fromEntries(await Promise.all(templates.map(async ([key, template]) => {
      const [path, query] = template.replaceAll("{{context.patientId}}", encodeURIComponent(id)).split("?");
      const answer = await (query ? fetch(`/demo/fhir/${path}/_search`, { method: "POST", body: new URLSearchParams(query) }) : fetch(`/demo/fhir/${path}`));
      if (!answer.ok) throw new Error(`There is no demo child ${id}.`);
      return [key, await answer.json()];
    })));
    log(`${templates.length} searches of /demo/fhir`, 200);
    const option = [...byId("sample").options].find((each) => each.value === `child:${id}`);
    const [drug, form] = (option?.dataset.drug ?? "").split("-");
    const value = { hook, hookInstance: crypto.randomUUID(), prefetch, extension: { "org.jaki-cds": { asOf: new Date().toISOString().slice(0, 10) } },
      context: { userId: "Practitioner/rheumatologist-1", patientId: id, draftOrders: { resourceType: "Bundle", type: "collection" }, selections: [] } };
    const coded = drugs.find((each) => each.textContent === drug)?.value.split("|");
    if (coded) {
      edit.addDraft(value, coded[0], coded[1], drug);
      if (form) edit.setDrug(edit.drafts(value)[0], coded[0], coded[1], drug, form);
    }
    byId("sample").value = `child:${id}`;
    tellNeighbours();
    history.replaceState(null, "", `/?child=${encodeURIComponent(id)}`);
    open(value, `${id}-changed`);
  } catch (fault) {
    showProblem(`${fault.message} Choose one from the list.`);
  }
}

async function openSample(chosen) {
  if (!chosen) return;
  if (chosen.startsWith("child:")) { await openChild(chosen.slice(6)); return; }
  try {
    const answer = await fetch(`/demo/samples/${encodeURIComponent(chosen)}`);
    log(`GET /demo/samples/${chosen}`, answer.status);
    if (!answer.ok) throw new Error(`There is no sample ${chosen}.`);
    const value = await answer.json();
    byId("sample").value = chosen;
    tellNeighbours();
    history.replaceState(null, "", `/?sample=${encodeURIComponent(chosen)}`);
    open(value, `${chosen}-changed`);
  } catch (fault) {
    showProblem(`${fault.message} Choose one from the list.`);
  }
}

const names = [...byId("sample").options].map((each) => each.value).filter(Boolean);

function tellNeighbours() {
  const at = names.indexOf(byId("sample").value);
  byId("previous").disabled = at < 1;
  byId("next").disabled = at === names.length - 1;
}

for (const [id, step] of [["previous", -1], ["next", 1]]) {
  byId(id).addEventListener("click", () => openSample(names[names.indexOf(byId("sample").value) + step]));
}

function showProblem(text) {
  byId("request-problem").hidden = !text;
  byId("request-problem").textContent = text;
}

byId("sample").addEventListener("change", (event) => openSample(event.target.value));
byId("paste-use").addEventListener("click", () => {
  try {
    const value = JSON.parse(byId("paste").value);
    const captured = value?.request?.body ?? value?.request; // what a tester's proxy wrote of a call
    open(typeof captured === "string" ? JSON.parse(captured) : captured ?? value, "pasted");
    byId("sample").value = "";
    tellNeighbours();
    history.replaceState(null, "", "/");
  } catch (fault) {
    showProblem(`This is no JSON: ${fault.message}. Paste the whole body of a hook call.`);
  }
});

// --- controls ---------------------------------------------------------------------------------------

function fill() {
  byId("hook").value = request.hook;
  byId("as-of").value = edit.asOf(request);
  const patient = edit.patient(request);
  const birth = patient?.birthDate ?? "";
  byId("birth-date").value = birth.length === 10 ? birth : "";
  byId("sex").value = patient?.gender ?? "";
  tellAge(birth);
  for (const control of controls) {
    const found = edit.result(request, control);
    control.value.value = found.value;
    judge(control.value, "");
    control.on.value = found.date;
    control.unitText.textContent = !found.unit || found.unit === control.unit ? control.unitWords : found.unit;
    byId(found.value === "" ? "more-results" : "results").append(control.box);
  }
  byId("more-count").textContent = byId("more-results").children.length;
  byId("server-hint").hidden = !request.fhirServer;
  fillList("conditions", edit.conditions(request));
  fillList("medicines", edit.medicines(request));
  fillDrafts();
}

function tellAge(birth) {
  const on = edit.evaluationDate(request);
  let text = "No birth date is on record.";
  if (birth.length === 10) {
    const months = edit.monthsOld(birth, on);
    text = months < 0 ? `Not yet born on ${on}.` : `${Math.floor(months / 12)} years ${months % 12} months on ${on}.`;
  } else if (birth) text = `Only ${birth} is on record.`;
  byId("age").textContent = text;
  const months = birth.length === 10 ? edit.monthsOld(birth, on) : null;
  byId("age-years").value = months === null || months < 0 ? "" : Math.floor(months / 12);
  byId("age-months").value = months === null || months < 0 ? "" : months % 12;
}

function fillList(id, items) {
  byId(id).replaceChildren(...items.map(({ resource, words, note }) => {
    const button = element("button", "Remove", { type: "button", "aria-label": `Remove ${words}` });
    button.addEventListener("click", () => { edit.removeEntry(request, resource); changed(); fill(); byId(id === "conditions" ? "condition-new" : "medicine-new").focus(); });
    return element("li", [element("span", [words, note ? element("small", ` (${note})`) : null]), button]);
  }));
}

function fillDrafts() {
  const orders = edit.drafts(request);
  const others = edit.otherDrafts(request);
  byId("other-drafts").replaceChildren(...(others.length ? [element("p", `Also drafted: ${others.join(", ")}.`, { class: "hint" })] : []));
  byId("drafts-box").hidden = !edit.draftBundle(request);
  byId("draft-adder").hidden = !edit.draftBundle(request);
  byId("drafts").replaceChildren(...(orders.length ? orders.map(draftControls) : [element("p", "No medicine is drafted.", { class: "hint" })]));
}

function draftControls(order, number) {
  const id = `draft-${number}`;
  const drug = element("select", [element("option", edit.drugWords(order), { value: "" }), ...drugs.map((d) => d.cloneNode(true))], { id: `${id}-drug` });
  const form = element("select", ["", "oral solution", "tablet"].map((f) => element("option", f || "as it is", { value: f })), { id: `${id}-form` });
  form.value = edit.formOf(order);
  form.disabled = !order.medicationCodeableConcept?.coding?.length;
  const rename = () => {
    const chosen = drug.selectedOptions[0];
    const coding = order.medicationCodeableConcept?.coding?.[0];
    const target = chosen.value || (coding ? `${coding.system}|${coding.code}` : "");
    if (!target) return;
    const split = target.lastIndexOf("|");
    const label = chosen.value ? chosen.textContent : coding.display ?? edit.drugWords(order);
    edit.setDrug(order, target.slice(0, split), target.slice(split + 1), label, form.value);
    form.disabled = false;
    changed();
  };
  drug.addEventListener("change", rename);
  form.addEventListener("change", rename);
  const away = element("button", "Remove", { type: "button", "aria-label": `Remove draft ${number + 1}` });
  away.addEventListener("click", () => { edit.removeDraft(request, order); changed(); fillDrafts(); byId("draft-new").focus(); });
  const made = element("div", [element("div", [
    labelled("Drug", drug), labelled("Form", form)], { class: "grid" })], { class: "draft", role: "group", "aria-label": `Draft ${number + 1}` });
  const lines = order.dosageInstruction?.length ? order.dosageInstruction : [{}];
  lines.forEach((line, index) => {
    const now = edit.dose(line);
    const value = element("input", [], { id: `${id}-dose-${index}`, inputmode: "decimal", value: now.value });
    const frequency = element("input", [], { id: `${id}-times-${index}`, inputmode: "numeric", value: now.frequency, disabled: Boolean(now.when) });
    const change = () => {
      const [amount, times] = [value.value.trim().replace(",", "."), frequency.value.trim()];
      const fine = [judge(value, /^([0-9]+(\.[0-9]+)?)?$/.test(amount) ? "" : "Write a number, such as 3.2."),
        judge(frequency, /^[0-9]*$/.test(times) ? "" : "Write a whole number.")];
      if (!fine.every(Boolean)) return;
      edit.setDose(order, index, amount, times);
      changed();
    };
    value.addEventListener("input", change);
    frequency.addEventListener("input", change);
    const every = now.period && (now.period !== 1 || now.periodUnit !== "d") ? `Times every ${now.period} ${now.periodUnit}` : "Times a day";
    made.append(element("div", [labelled(`Dose, ${now.unit}`, value), labelled(now.when ? `Taken at ${now.when}` : every, frequency)], { class: "grid" }));
  });
  made.append(element("p", away, { class: "buttons" }));
  return made;
}

// Says what is wrong with a field beside it, or that nothing is.
function judge(field, cure) {
  const id = `${field.id}-fault`;
  byId(id)?.remove();
  if (cure) {
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-errormessage", id);
    field.after(element("span", cure, { id, class: "fault", role: "alert" }));
  } else {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-errormessage");
  }
  return !cure;
}

function labelled(words, control) {
  return element("div", [element("label", words, { for: control.id }), control], { class: "field" });
}

byId("as-of").addEventListener("change", (event) => { edit.setAsOf(request, event.target.value); tellAge(edit.patient(request)?.birthDate ?? ""); changed(); });
byId("hook").addEventListener("change", (event) => {
  kept = edit.draftBundle(request) ?? kept;
  edit.setHook(request, event.target.value, kept);
  fillDrafts();
  changed();
});
byId("draft-new").addEventListener("change", (event) => {
  const chosen = event.target.selectedOptions[0];
  if (!chosen.value) return;
  const split = chosen.value.lastIndexOf("|");
  edit.addDraft(request, chosen.value.slice(0, split), chosen.value.slice(split + 1), chosen.textContent);
  event.target.value = "";
  changed();
  fillDrafts();
});
for (const id of ["age-years", "age-months"]) {
  byId(id).addEventListener("change", () => {
    const [years, months] = ["age-years", "age-months"].map((each) => byId(each).value.trim() || "0");
    const fine = [years, months].map((each, n) => judge(byId(n ? "age-months" : "age-years"), /^[0-9]{1,3}$/.test(each) ? "" : "Write a whole number."));
    if (!fine.every(Boolean)) return;
    edit.needPatient(request).birthDate = edit.bornBefore(edit.evaluationDate(request), Number(years) * 12 + Number(months));
    byId("birth-date").value = edit.patient(request).birthDate;
    tellAge(edit.patient(request).birthDate);
    changed();
  });
}
byId("birth-date").addEventListener("change", (event) => {
  if (event.target.value) edit.needPatient(request).birthDate = event.target.value;
  else delete edit.needPatient(request).birthDate;
  tellAge(event.target.value);
  changed();
});
byId("sex").addEventListener("change", (event) => {
  if (event.target.value) edit.needPatient(request).gender = event.target.value;
  else delete edit.needPatient(request).gender;
  changed();
});
for (const control of controls) {
  const change = () => {
    const fine = edit.setResult(request, control, control.value.value, control.on.value);
    if (judge(control.value, fine ? "" : "Write a number, such as 17.4 or <0.2. Until then the request is as it was.")) changed();
  };
  control.value.addEventListener("input", change);
  control.on.addEventListener("change", change);
}
for (const [id, adder] of [["condition-new", edit.addCondition], ["medicine-new", edit.addMedicine]]) {
  byId(id).addEventListener("change", (event) => {
    const chosen = event.target.selectedOptions[0];
    if (!chosen.value) return;
    const split = chosen.value.lastIndexOf("|");
    adder(request, chosen.value.slice(0, split), chosen.value.slice(split + 1), chosen.textContent);
    event.target.value = "";
    changed();
    fill();
  });
}
byId("controls").addEventListener("submit", (event) => event.preventDefault());

function changed() {
  clearTimeout(timer);
  byId("cards-status").textContent = "Changed; asking again …";
  timer = setTimeout(() => fire("changed"), WAIT);
}

// --- the hook -----------------------------------------------------------------------------------------

const address = () => `/cds-services/${services.get(request.hook)}`;

async function fire(why) {
  clearTimeout(timer);
  const mine = (sent += 1);
  const body = JSON.stringify(request, null, 1);
  byId("raw-request").textContent = JSON.stringify(request, null, 2);
  const started = performance.now();
  try {
    const [answer, explained] = await Promise.all([
      fetch(address(), { method: "POST", headers: json, body }),
      fetch("/demo/explain", { method: "POST", headers: json, body }),
    ]);
    const [value, reasons] = await Promise.all([answer.json(), explained.json()]);
    if (mine !== sent) return; // an older answer; a newer request is under way
    log(`POST ${address()} (${why})`, answer.status, `${value.cards?.length ?? 0} cards, ${Math.round(performance.now() - started)} ms`);
    response = value;
    byId("raw-response").textContent = JSON.stringify(value, null, 2);
    if (answer.ok) showCards(value.cards);
    else showRefusal(value, answer.status);
    if (explained.ok) { byId("pictures").replaceChildren(...draw(reasons)); showWhy(reasons); } else {
      const text = refusal(reasons);
      byId("pictures").replaceChildren(element("p", text, { class: "hint" }));
      byId("why").replaceChildren(element("p", text, { class: "hint" }));
    }
  } catch (fault) {
    if (mine !== sent) return;
    log(`POST ${address()} (${why})`, "failed");
    response = null;
    byId("cards").replaceChildren(element("p", `No answer: ${fault.message}. Nothing was checked.`, { class: "problem" }));
    byId("cards-status").textContent = "No answer; nothing was checked.";
  }
}

const refusal = (outcome) => (outcome.issue ?? []).map((i) => i.diagnostics ?? i.details?.text).filter(Boolean).join(" ") || "The service refused the request.";

function showRefusal(outcome, status) {
  byId("cards").replaceChildren(element("p", `${status}: ${refusal(outcome)}`, { class: "problem" }));
  byId("cards-status").textContent = "The service refused the request; nothing was checked.";
}

// --- cards --------------------------------------------------------------------------------------------

function showCards(cards) {
  const count = (grade) => cards.filter((c) => c.indicator === grade).length;
  const grades = ["critical", "warning", "info"].filter(count).map((g) => `${count(g)} ${g}`).join(", ");
  byId("cards-status").textContent = cards.length ? `${cards.length} card${cards.length === 1 ? "" : "s"}: ${grades}.` : "No card: nothing in this request concerns the guideline.";
  byId("cards").replaceChildren(...cards.map(cardNode));
}

const MARKS = { critical: "✕", warning: "!", info: "i" };

function cardNode(card) {
  const title = `card-${card.uuid}`;
  const made = element("article", [], { class: `card ${card.indicator}`, "aria-labelledby": title });
  made.append(element("p", [element("span", MARKS[card.indicator] ?? "", { class: "mark", "aria-hidden": "true" }), element("span", card.indicator, { class: "indicator" })], { class: "grade" }), element("h3", card.summary, { id: title }));
  if (card.detail) {
    const detail = element("div", [], { class: "detail" });
    detail.append(render(card.detail));
    made.append(detail);
  }
  const source = element("p", ["Source: "], { class: "source" });
  source.append(card.source.url ? link(card.source.url, card.source.label) : card.source.label);
  made.append(source);
  if (card.links?.length) made.append(element("ul", card.links.map((each) => element("li", link(each.url, each.label)))));
  if (card.suggestions?.length) {
    made.append(element("div", card.suggestions.map((suggestion) => {
      const button = element("button", suggestion.label, { type: "button", class: suggestion.isRecommended ? "main accept" : "accept" });
      button.addEventListener("click", () => accept(card, suggestion));
      return button;
    }), { class: "buttons" }));
  }
  made.append(dismissal(card, made));
  return made;
}

function dismissal(card, made) {
  const reasons = card.overrideReasons ?? [];
  const select = element("select", [element("option", "No reason given", { value: "" }), ...reasons.map((r, n) => element("option", r.display, { value: n }))], { id: `why-${card.uuid}` });
  const button = element("button", "Dismiss", { type: "button", "aria-label": `Dismiss: ${card.summary}` });
  button.addEventListener("click", async () => {
    const reason = reasons[select.value];
    const item = { card: card.uuid, outcome: "overridden", outcomeTimestamp: new Date().toISOString() };
    if (reason) item.overrideReason = { reason: { code: reason.code, system: reason.system } };
    button.disabled = true;
    if (await feedback(item, `overridden${reason ? `: ${reason.display}` : ""}`)) {
      const told = element("p", `Dismissed: ${card.summary}${reason ? ` (${reason.display})` : ""}`, { tabindex: "-1" });
      made.className = "card gone";
      made.removeAttribute("aria-labelledby");
      made.replaceChildren(told);
      told.focus();
    } else button.disabled = false;
  });
  const box = element("div", [], { class: "override" });
  if (reasons.length) box.append(element("div", [element("label", "Reason for dismissing", { for: select.id }), select], { class: "field" }));
  box.append(button);
  return box;
}

async function accept(card, suggestion) {
  edit.apply(request, suggestion.actions ?? []);
  await feedback({ card: card.uuid, outcome: "accepted", acceptedSuggestions: [{ id: suggestion.uuid }], outcomeTimestamp: new Date().toISOString() }, `accepted: ${suggestion.label}`);
  fill();
  await fire("suggestion accepted");
  byId("cards-heading").focus();
}

async function feedback(item, words) {
  try {
    const answer = await fetch(`${address()}/feedback`, { method: "POST", headers: json, body: JSON.stringify({ feedback: [item] }) });
    log(`POST ${address()}/feedback`, answer.status, words);
    return answer.ok;
  } catch {
    log(`POST ${address()}/feedback`, "failed", words);
    return false;
  }
}

// --- why ------------------------------------------------------------------------------------------------

const GRADES = ["critical", "warning", "info"];
const OUTCOMES = { hit: "Rows that apply", "outside-guideline": "Outside the guideline", "cannot-assess": "Rows that could not be assessed", clear: "Rows that do not apply" };

function showWhy(found) {
  const parts = [element("p", `${found.hook}, evaluated as of ${found.asOf}.`)];
  for (const order of found.orders) {
    parts.push(element("h3", `${order.drug ?? "Order"}, ${order.order}`));
    if (!order.assessed) { parts.push(element("p", "Not assessed: it names another patient, or its drug is not covered or could not be resolved.")); continue; }
    parts.push(element("p", doseWords(order)));
    for (const [outcome, heading] of Object.entries(OUTCOMES)) {
      const rows = order.rows.filter((r) => r.outcome === outcome).sort((a, b) => GRADES.indexOf(a.severity) - GRADES.indexOf(b.severity));
      if (rows.length) parts.push(detailsTable(`${heading} (${rows.length})`, ["Row", "Shown as", "Rule", "Says", "Citation"],
        rows.map((r) => [link2(r), element("span", `${r.severity ?? ""} ${r.kind ?? ""}`, { class: `shown ${r.severity}` }), `${r.rule}${r.decidedBy.length ? ` (decided by ${r.decidedBy.join(", ")})` : ""}`, r.say ?? "", r.cite ?? ""]), outcome === "hit"));
    }
    parts.push(detailsTable(`Facts (${Object.keys(order.facts).length})`, ["Fact", "Value", "Read from"],
      Object.entries(order.facts).map(([fact, f]) => [f.title ?? fact, factWords(f), (f.evidence ?? []).map((e) => [e.source, e.date, e.note].filter(Boolean).join(", ")).join("; ")])));
  }
  if (found.rejected?.length) parts.push(detailsTable(`Resources that were not used (${found.rejected.length})`, ["Resource", "Why"], found.rejected.map((r) => [r.resource, `${r.why}${r.fact ? ` (for ${r.fact})` : ""}`]), true));
  if (!found.orders.length) parts.push(element("p", "No JAK inhibitor is drafted or being taken, so no row was tried."));
  byId("why").replaceChildren(...parts);
}

const link2 = (row) => element("a", row.row, { href: `/guideline#${row.row}` });

function doseWords(order) {
  if (order.running) return "A running treatment: no dose is looked for.";
  if (order.dose) return `Guideline dose: ${order.dose.dose} [${order.dose.row}]${order.dose.provisional ? ", provisional" : ""}. The draft against it: ${order.dose.verdict}.`;
  return order.withheldBy.length ? `No dose; withheld by ${order.withheldBy.join(", ")}.` : "No dose was chosen.";
}

function factWords(f) {
  const causes = (f.causes ?? []).map((c) => `${c.fact} ${c.reason}${c.why ? ` (${c.why})` : ""}`).join("; ");
  if (f.state === "missing") return `missing: ${causes}`;
  const value = f.value !== null && typeof f.value === "object" && !Array.isArray(f.value) ? `${f.value.low ?? "open"} to ${f.value.high ?? "open"}` : [f.value].flat().join(", ");
  return `${value} ${f.unit ?? ""}`.trim() + (causes ? ` (doubtful: ${causes})` : "");
}

function detailsTable(title, heads, rows, isOpen = false) {
  const table = element("table", [element("thead", element("tr", heads.map((h) => element("th", h, { scope: "col" })))),
    element("tbody", rows.map((row) => element("tr", row.map((cell) => element("td", cell)))))]);
  return element("details", [element("summary", title), element("div", table, { class: "scroll", tabindex: "0", role: "region", "aria-label": title })], { open: isOpen });
}

// --- taking it away -------------------------------------------------------------------------------------

byId("copy-curl").addEventListener("click", async () => {
  const quoted = JSON.stringify(request).replaceAll("'", "'\\''");
  const text = `curl -sS -X POST '${location.origin}${address()}' -H 'Content-Type: application/json' --data-binary '${quoted}'`;
  try {
    await navigator.clipboard.writeText(text);
    byId("raw-status").textContent = "Copied.";
  } catch {
    byId("raw-status").textContent = "The browser did not allow copying.";
  }
});

byId("save-sample").addEventListener("click", async () => {
  const name = byId("sample-name").value.trim();
  const good = /^[a-z0-9][a-z0-9.-]{1,60}$/.test(name);
  if (!judge(byId("sample-name"), good ? "" : "The name is made of small letters, digits, hyphens and full stops.")) return;
  try {
    const asked = `/demo/sample?name=${encodeURIComponent(name)}`;
    const answer = await fetch(asked, { method: "POST", headers: json, body: JSON.stringify(request) });
    log(`POST ${asked}`, answer.status);
    if (!answer.ok) throw new Error(refusal(await answer.json()));
    const file = URL.createObjectURL(await answer.blob());
    element("a", "", { href: file, download: `${name}.zip` }).click();
    setTimeout(() => URL.revokeObjectURL(file), 1000);
    byId("raw-status").textContent = `Saved as ${name}.zip.`;
  } catch (fault) {
    byId("raw-status").textContent = `Not saved: ${fault.message}`;
  }
});

function log(what, status, note = "") {
  byId("log").prepend(element("li", `${new Date().toLocaleTimeString("en-GB")} ${what}: ${status}${note ? `; ${note}` : ""}`));
}

// On a phone the cards come first and the controls open at a touch.
if (!matchMedia("(min-width: 60rem)").matches) byId("controls-box").open = false;

const asked = new URLSearchParams(location.search).get("sample");
tellNeighbours();
const child = new URLSearchParams(location.search).get("child");
if (asked) openSample(asked);
else if (child) openChild(child);
