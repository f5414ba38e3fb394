// Reading and changing a hook request by ordinary controls. No clinical knowledge: codes, units and keys come from the page.

export const clone = (value) => JSON.parse(JSON.stringify(value));
const EXTENSION = "org.jaki-cds";

export const asOf = (request) => request.extension?.[EXTENSION]?.asOf ?? "";

export function setAsOf(request, date) {
  request.extension ??= {};
  request.extension[EXTENSION] ??= {};
  if (date) request.extension[EXTENSION].asOf = date;
  else delete request.extension[EXTENSION].asOf;
}

export function evaluationDate(request) {
  return asOf(request) || new Date().toISOString().slice(0, 10);
}

export const monthsOld = (born, on) => (Number(on.slice(0, 4)) - Number(born.slice(0, 4))) * 12
  + Number(on.slice(5, 7)) - Number(born.slice(5, 7)) - (on.slice(8) < born.slice(8) ? 1 : 0);

// The birthday of a child who is exactly so many months old; the last of the month where it has no such day.
export function bornBefore(on, months) {
  const [year, month, day] = on.split("-").map(Number);
  const first = new Date(Date.UTC(year, month - 1 - months, 1));
  const last = new Date(Date.UTC(first.getUTCFullYear(), first.getUTCMonth() + 1, 0)).getUTCDate();
  first.setUTCDate(Math.min(day, last));
  return first.toISOString().slice(0, 10);
}

export const patient = (request) => request.prefetch?.patient ?? null;

export function needPatient(request) {
  request.prefetch ??= {};
  request.prefetch.patient ??= { resourceType: "Patient", id: request.context?.patientId };
  return request.prefetch.patient;
}

// --- bundles ----------------------------------------------------------------------------------------

const entries = (bundle) => (Array.isArray(bundle?.entry) ? bundle.entry : []);
const resources = (bundle) => entries(bundle).map((each) => each?.resource).filter(Boolean);

function bundleOf(request, key) {
  request.prefetch ??= {};
  if (request.prefetch[key]?.resourceType !== "Bundle") {
    request.prefetch[key] = { resourceType: "Bundle", type: "searchset", total: 0 };
  }
  return request.prefetch[key];
}

function add(request, key, resource) {
  const bundle = bundleOf(request, key);
  bundle.entry = [...entries(bundle), { resource, search: { mode: "match" } }];
  if ("total" in bundle) bundle.total = bundle.entry.length;
}

function remove(request, keys, doomed) {
  for (const key of keys) {
    const bundle = request.prefetch?.[key];
    if (!entries(bundle).some((each) => doomed(each?.resource))) continue;
    const left = entries(bundle).filter((each) => !doomed(each?.resource));
    if (left.length) bundle.entry = left;
    else delete bundle.entry;
    if ("total" in bundle) bundle.total = left.length;
  }
}

function freshId(request, stem) {
  const text = JSON.stringify(request);
  let number = 1;
  while (text.includes(`"${stem}-${number}"`)) number += 1;
  return `${stem}-${number}`;
}

// --- results ----------------------------------------------------------------------------------------

const coded = (concept, codes) =>
  (concept?.coding ?? []).some((c) => codes.includes(`${c.system}|${c.code}`));

const when = (o) => o.effectiveDateTime ?? o.effectiveInstant ?? o.effectivePeriod?.end ?? "";

function observations(request, control) {
  return Object.values(request.prefetch ?? {}).flatMap(resources)
    .filter((r) => r.resourceType === "Observation" && coded(r.code, control.codes))
    .sort((a, b) => (when(a) < when(b) ? 1 : -1));
}

export function result(request, control) {
  const newest = observations(request, control)[0];
  if (!newest) return { value: "", unit: null, date: "" };
  const quantity = newest.valueQuantity ?? {};
  const value = quantity.value ?? "";
  return { value: `${quantity.comparator ?? ""}${value}`, unit: quantity.unit ?? quantity.code ?? null,
    date: when(newest).slice(0, 10) };
}

export function setResult(request, control, text, date) {
  const written = /^\s*(<=|>=|<|>)?\s*([0-9]+(?:[.,][0-9]+)?)\s*$/.exec(text);
  if (!text.trim()) {
    remove(request, Object.keys(request.prefetch ?? {}),
      (r) => r?.resourceType === "Observation" && coded(r.code, control.codes));
    return true;
  }
  if (!written) return false;
  let target = observations(request, control)[0];
  if (!target) {
    const split = control.codes[0].lastIndexOf("|");
    target = {
      resourceType: "Observation", id: freshId(request, control.fact), status: "final",
      code: { coding: [{ system: control.codes[0].slice(0, split), code: control.codes[0].slice(split + 1) }],
        text: control.title },
      subject: { reference: `Patient/${request.context?.patientId}` },
      effectiveDateTime: date || evaluationDate(request),
    };
    add(request, control.key, target);
  }
  target.valueQuantity = target.valueQuantity
    ?? { unit: control.unit, system: "http://unitsofmeasure.org", code: control.unit };
  target.valueQuantity.value = Number(written[2].replace(",", "."));
  if (written[1]) target.valueQuantity.comparator = written[1];
  else delete target.valueQuantity.comparator;
  if (date && date !== when(target).slice(0, 10)) {
    delete target.effectivePeriod;
    delete target.effectiveInstant;
    target.effectiveDateTime = date;
  }
  return true;
}

// --- conditions and medicines ---------------------------------------------------------------------------

export const wording = (concept, fallback) =>
  concept?.text ?? concept?.coding?.[0]?.display ?? concept?.coding?.[0]?.code ?? fallback;

export function conditions(request) {
  return resources(request.prefetch?.conditions).filter((r) => r.resourceType === "Condition").map((r) => ({
    resource: r,
    words: wording(r.code, "condition without words"),
    note: r.clinicalStatus?.coding?.[0]?.code ?? "",
  }));
}

const MEDICATION_KEYS = ["medicationRequests", "medicationStatements"];

export function medicines(request) {
  return MEDICATION_KEYS.flatMap((key) => resources(request.prefetch?.[key]))
    .filter((r) => /^Medication(Request|Statement|Usage)$/.test(r.resourceType))
    .map((r) => ({ resource: r, words: drugWords(r), note: r.status ?? "" }));
}

const drugWords = (r) =>
  wording(r.medicationCodeableConcept ?? r.medication?.concept, r.medicationReference?.display ?? "medicine by reference");

export function removeEntry(request, resource) {
  remove(request, ["conditions", ...MEDICATION_KEYS], (r) => r === resource);
}

export function addCondition(request, system, code, label) {
  add(request, "conditions", {
    resourceType: "Condition", id: freshId(request, "condition-added"),
    clinicalStatus: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/condition-clinical", code: "active" }] },
    verificationStatus: { coding: [{ system: "http://terminology.hl7.org/CodeSystem/condition-ver-status", code: "confirmed" }] },
    code: { coding: [{ system, code, display: label }], text: label },
    subject: { reference: `Patient/${request.context?.patientId}` },
  });
}

export function addMedicine(request, system, code, label) {
  add(request, "medicationRequests", {
    resourceType: "MedicationRequest", id: freshId(request, "medicine-added"), status: "active", intent: "order",
    medicationCodeableConcept: { coding: [{ system, code, display: label }], text: label },
    subject: { reference: `Patient/${request.context?.patientId}` },
    authoredOn: evaluationDate(request),
  });
}

// --- drafts -----------------------------------------------------------------------------------------------

export function draftBundle(request) {
  return request.context?.draftOrders ?? request.context?.medications ?? null;
}

export const drafts = (request) =>
  resources(draftBundle(request)).filter((r) => /^Medication(Request|Order)$/.test(r.resourceType));

export const otherDrafts = (request) =>
  resources(draftBundle(request)).filter((r) => !/^Medication(Request|Order)$/.test(r.resourceType))
    .map((r) => wording(r.code, r.resourceType));

export { drugWords };

const DRAFTS = { "order-select": "draftOrders", "order-sign": "draftOrders", "medication-prescribe": "medications" };

// The same child and drafts at another moment of prescribing; order-select then looks at all of the drafts.
export function setHook(request, hook, bundle) {
  request.hook = hook;
  request.context ??= {};
  for (const member of ["draftOrders", "medications", "selections"]) delete request.context[member];
  if (!DRAFTS[hook]) return;
  request.context[DRAFTS[hook]] = bundle ?? { resourceType: "Bundle", type: "collection" };
  if (hook === "order-select") request.context.selections = drafts(request).map((r) => `${r.resourceType}/${r.id}`);
}

export function addDraft(request, system, code, label) {
  const bundle = draftBundle(request);
  const id = freshId(request, "draft");
  bundle.entry = [...entries(bundle), { resource: {
    resourceType: "MedicationRequest", id, status: "draft", intent: "order",
    medicationCodeableConcept: { coding: [{ system, code, display: label }], text: label },
    subject: { reference: `Patient/${request.context?.patientId}` },
    authoredOn: evaluationDate(request),
  } }];
  if (request.context?.selections) request.context.selections.push(`MedicationRequest/${id}`);
}

export function removeDraft(request, order) {
  const bundle = draftBundle(request);
  const left = entries(bundle).filter((each) => each?.resource !== order);
  if (left.length) bundle.entry = left;
  else delete bundle.entry;
  const name = `${order.resourceType}/${order.id}`;
  if (request.context?.selections) request.context.selections = request.context.selections.filter((each) => each !== name);
}

export function setDrug(order, system, code, label, form) {
  delete order.medicationReference;
  order.medicationCodeableConcept = { coding: [{ system, code, display: label }], text: `${label} ${form}`.trim() };
}

export function formOf(order) {
  return /solution|liquid|ml/i.test(drugWords(order)) ? "oral solution"
    : /tablet/i.test(drugWords(order)) ? "tablet" : "";
}

const quantityHolder = (line) => line.doseAndRate?.[0] ?? line;

export function dose(line) {
  const quantity = quantityHolder(line).doseQuantity ?? {};
  const repeat = line.timing?.repeat ?? {};
  return { value: quantity.value ?? "", unit: quantity.unit ?? quantity.code ?? "mg", frequency: repeat.frequency ?? "",
    when: (repeat.when ?? []).join(", "), period: repeat.period, periodUnit: repeat.periodUnit ?? repeat.periodUnits };
}

export function setDose(order, index, value, frequency) {
  order.dosageInstruction ??= [];
  const line = (order.dosageInstruction[index] ??= {});
  delete line.text; // the words would contradict the changed numbers
  if (order.resourceType === "MedicationRequest" && !line.doseQuantity) line.doseAndRate ??= [{}];
  const holder = quantityHolder(line);
  if (value === "") delete holder.doseQuantity;
  else {
    delete holder.doseRange;
    holder.doseQuantity ??= { unit: "mg", system: "http://unitsofmeasure.org", code: "mg" };
    holder.doseQuantity.value = Number(value);
  }
  if (frequency !== "") {
    line.timing ??= {};
    line.timing.repeat ??= {};
    if (!line.timing.repeat.when) {
      line.timing.repeat.frequency = Number(frequency);
      line.timing.repeat.period ??= 1;
      if (!line.timing.repeat.periodUnits) line.timing.repeat.periodUnit ??= "d";
    }
  }
}

// What an EHR does with the actions of an accepted suggestion: the resource takes the place of its draft, or is added.
export function apply(request, actions) {
  const bundle = draftBundle(request);
  for (const action of actions) {
    const resource = action.resource;
    const place = entries(bundle).find((e) =>
      e.resource?.resourceType === resource?.resourceType && e.resource?.id === resource?.id && resource?.id);
    if (action.type === "update" && place) place.resource = clone(resource);
    else if (action.type === "create" && bundle) {
      const made = clone(resource);
      made.id ??= freshId(request, "accepted");
      bundle.entry = [...entries(bundle), { resource: made }];
    }
  }
}
