// What the CDS Hooks sandbox asks of a service and a FHIR server, from a page of another origin (test_workbench_browser.py).
async (base) => {
  const authorised = { Authorization: "Bearer not.looked.at" };
  const json = { ...authorised, "Content-Type": "application/json" };
  const form = { Accept: "application/json+fhir", "Content-Type": "application/x-www-form-urlencoded" };
  const read = async (answer) => ({ status: answer.status, body: await answer.json() });
  const call = (body) => fetch(`${base}/cds-services/jaki-order-select`, { method: "POST", headers: json, body: JSON.stringify(body) });
  const metadata = await read(await fetch(`${base}/demo/fhir/metadata`));
  const discovery = await read(await fetch(`${base}/cds-services`, { headers: authorised }));
  const patient = "jia-28kg", prefetch = {};
  for (const [key, template] of Object.entries(discovery.body.services.find((s) => s.id === "jaki-order-select").prefetch)) {
    const [path, query] = template.replace("{{context.patientId}}", patient).split("?");
    prefetch[key] = await (await (query
      ? fetch(`${base}/demo/fhir/${path}/_search`, { method: "POST", headers: form, body: new URLSearchParams(query) })
      : fetch(`${base}/demo/fhir/${path}`))).json();
  }
  const draft = { resourceType: "MedicationRequest", id: "request-123", status: "draft", subject: { reference: `Patient/${patient}` },
    medicationCodeableConcept: { text: "tofacitinib 5 MG Oral Tablet", coding: [{ system: "http://www.nlm.nih.gov/research/umls/rxnorm", code: "1357541" }] } };
  const request = { hook: "order-select", hookInstance: crypto.randomUUID(), fhirServer: `${base}/demo/fhir`, prefetch,
    context: { userId: "Practitioner/COREPRACTITIONER1", patientId: patient, selections: ["MedicationRequest/request-123"],
      draftOrders: { resourceType: "Bundle", entry: [{ resource: draft }] } } };
  const cards = await read(await call(request));
  const feedback = await read(await fetch(`${base}/cds-services/jaki-order-select/feedback`, { method: "POST", headers: json,
    body: JSON.stringify({ feedback: [{ card: cards.body.cards[0].uuid, outcome: "overridden", outcomeTimestamp: new Date().toISOString() }] }) }));
  const refused = await read(await call({ ...request, context: { patientId: patient, userId: "Practitioner/COREPRACTITIONER1" } }));
  return { metadata, cards, feedback, refused };
}
