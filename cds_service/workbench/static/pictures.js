// The pictures, as SVG. What they show (values, bands, dates, states) comes from POST /demo/explain; nothing here knows a limit.
import { element } from "./markdown.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 360;
const LEFT = 44;
const RIGHT = 348;
const LEAST_SPAN = 0.4; // of the highest value
const GRAVE = { none: 0, info: 1, warning: 2, critical: 3 };

function svg(name, attributes = {}, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function figure(caption, words, height) {
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": words });
  const made = element("figure", [element("figcaption", caption)]);
  made.append(picture);
  return [made, picture];
}

const round = (value) => Number(Number(value).toPrecision(4));
const days = (date) => Date.parse(`${date}T00:00:00Z`) / 86400000;
const span = (low, high) => low === null ? `below ${round(high)}` : high === null ? `from ${round(low)}` : `${round(low)} to ${round(high)}`;

export function draw(found) {
  const parts = [];
  for (const order of found.pictures ?? []) {
    const made = element("div", [element("h3", `${order.drug}, ${order.order}`)]);
    const running = found.orders?.find((each) => each.order === order.order)?.running ?? false;
    const doses = element("div", [], { class: "figures" });
    doses.append(...order.doses.map((each) => doseBands(each, running)));
    if (order.egfr) doses.append(egfr(order.egfr));
    if (order.plan) doses.append(plan(order.plan, order.asOf));
    const results = element("div", [], { class: "figures" });
    results.append(...order.results.map((each) => series(each, order)));
    made.append(doses, element("h3", "Results over time"), results);
    parts.push(made);
  }
  return parts.length ? parts : [element("p", "No order of this request was assessed, so there is nothing to draw.", { class: "hint" })];
}

// --- a result over time -------------------------------------------------------------------------

function series(result, order) {
  const points = result.points.map((p) => ({ ...p, at: days(p.date), value: p.low === null ? p.high : p.high === null ? p.low : (p.low + p.high) / 2 }));
  const newest = result.points.at(-1);
  const shown = newest.low === newest.high ? `${round(newest.low)}` : span(newest.low, newest.high);
  const caption = `${result.title}: ${shown} ${result.unit}`;
  const bandWords = bandsInWords(result);
  const [made, picture] = figure(caption, `${caption}. ${points.length} result${points.length === 1 ? "" : "s"} from ${result.points[0].date} to ${newest.date}.`, 190);
  const today = days(order.asOf);
  let first = Math.min(...points.map((p) => p.at), order.start ? days(order.start) : today);
  const last = Math.max(...points.map((p) => p.at), today);
  if (first === last) first -= 30;
  const limits = result.bands.flatMap((b) => [b.low, b.high]).filter((v) => v !== null);
  const values = points.map((p) => p.value);
  const near = limits.filter((v) => v <= Math.max(...values) * 2.5);
  let bottom = Math.min(...values, ...near), top = Math.max(...values, ...near);
  const missing = Math.abs(top) * LEAST_SPAN - (top - bottom);
  if (missing > 0) { top += missing / 2; bottom -= missing / 2; } // a small change is not drawn as a large one
  const margin = (top - bottom || Math.abs(top) || 1) * 0.15;
  bottom = Math.max(0, bottom - margin);
  top += margin;
  const x = (at) => LEFT + ((at - first) / (last - first)) * (RIGHT - LEFT - 8);
  const y = (value) => 150 - ((Math.min(Math.max(value, bottom), top) - bottom) / (top - bottom)) * 140;
  const names = [];
  for (const band of [...result.bands].sort((a, b) => GRAVE[a.severity] - GRAVE[b.severity])) {
    const low = y(band.low ?? bottom), high = y(band.high ?? top);
    const box = svg("rect", { x: LEFT, y: high, width: RIGHT - LEFT, height: Math.max(0, low - high), class: `band-${band.severity}` });
    box.append(svg("title", {}, `${band.row}: ${band.words}: ${band.say}`));
    picture.append(box);
    if (low - high > 9) names.unshift({ y: (low + high) / 2 + 3, words: `${band.row} ${WORDS[band.severity]}` });
  }
  const named = [];
  for (const each of names) { // over all bands, the gravest first
    if (named.some((y) => Math.abs(y - each.y) < 10)) continue;
    named.push(each.y);
    picture.append(svg("text", { x: RIGHT - 4, y: each.y, "text-anchor": "end", class: "band-name" }, each.words));
  }
  picture.append(svg("path", { d: `M${LEFT} 10V150H${RIGHT}`, class: "axis" }));
  const taken = [];
  for (const tick of [...near, Math.max(...values), Math.min(...values)]) { // limits first: a value can be read elsewhere
    if (taken.some((at) => Math.abs(at - y(tick)) < 12)) continue;
    taken.push(y(tick));
    picture.append(svg("text", { x: LEFT - 7, y: y(tick) + 4, "text-anchor": "end" }, round(tick)));
  }
  if (order.start && days(order.start) >= first) {
    const at = x(days(order.start));
    picture.append(svg("path", { d: `M${at} 10V150`, class: "start" }), svg("text", { x: Math.min(at + 3, RIGHT - 40), y: 20 }, "start"));
  }
  picture.append(svg("polyline", { points: points.map((p) => `${x(p.at)},${y(p.value)}`).join(" "), class: "line" }));
  for (const point of points) {
    const dot = svg("circle", { cx: x(point.at), cy: y(point.value), r: 4, class: "dot" });
    dot.append(svg("title", {}, `${point.date}: ${round(point.value)} ${result.unit} (${point.source})`));
    picture.append(dot);
  }
  picture.append(svg("text", { x: LEFT, y: 168 }, new Date(first * 86400000).toISOString().slice(0, 10)), svg("text", { x: RIGHT, y: 168, "text-anchor": "end" }, order.asOf));
  if (bandWords.length) {
    made.append(element("details", [element("summary", "Bands and values"),
      element("ul", bandWords.map((w) => element("li", w))),
      element("ul", result.points.map((p) => element("li", `${p.date}: ${p.low === p.high ? round(p.low) : span(p.low, p.high)} ${result.unit} (${p.source})`)))]));
  } else made.append(element("p", "No row of the guideline sets a limit here for this child.", { class: "legend" }));
  return made;
}

const WORDS = { none: "continue", info: "information", warning: "warning", critical: "critical" };

function bandsInWords(result) {
  return [...new Set(result.bands.map((b) => `${b.words}, ${WORDS[b.severity]}: ${b.say} [${b.row}, ${b.cite}]`))];
}

// --- dose bands -----------------------------------------------------------------------------------

function doseBands(picture, running) {
  const limits = picture.bands.flatMap((b) => [b.low, b.high]).filter((v) => v !== null);
  const top = Math.max(...limits, picture.value ?? 0) * 1.25;
  const doses = picture.bands.map((b) => b.mgPerDay ?? 0);
  const highest = Math.max(...doses, picture.draftedMgPerDay ?? 0) * 1.15 || 1;
  const own = picture.bands.find((b) => b.own && b.dose);
  const caption = `${picture.title}`;
  const words = picture.value === null ? `The child's ${picture.axis} is not known.` : `The child: ${`${round(picture.value)} ${picture.unit}`.trim()}.`;
  const drafted = running ? "Nothing is being ordered." : picture.draftedMgPerDay === null ? "No dose that can be read is drafted." : `Drafted: ${round(picture.draftedMgPerDay)} mg per day.`;
  const [made, image] = figure(caption, `${caption}. ${words} ${drafted} ${picture.state}`, 200);
  const x = (v) => LEFT + (Math.min(v, top) / top) * (RIGHT - LEFT);
  const y = (mg) => 155 - (mg / highest) * 140;
  for (const band of picture.bands) {
    const low = x(band.low ?? 0), high = x(band.high ?? top);
    const box = svg("rect", { x: low, y: band.dose ? y(band.mgPerDay) : 15, width: high - low, height: band.dose ? 155 - y(band.mgPerDay) : 140,
      class: band === own ? "band-own" : band.dose ? "band-odd" : "band-warning", stroke: "#fff" });
    box.append(svg("title", {}, `${band.row}: ${band.words}: ${band.dose ?? band.say}`));
    image.append(box);
    if (band.dose && high - low > 26) image.append(svg("text", { x: (low + high) / 2, y: y(band.mgPerDay) - 4, "text-anchor": "middle" }, `${round(band.mgPerDay)} mg`));
  }
  image.append(svg("path", { d: `M${LEFT} 10V155H${RIGHT}`, class: "axis" }));
  let lastAt = -99;
  for (const limit of [...new Set(limits)].sort((a, b) => a - b)) {
    if (x(limit) - lastAt < 18) continue;
    lastAt = x(limit);
    image.append(svg("text", { x: lastAt, y: 170, "text-anchor": "middle" }, round(limit)));
  }
  image.append(svg("text", { x: (LEFT + RIGHT) / 2, y: 190, "text-anchor": "middle" }, `${picture.axis}${picture.unit ? `, ${picture.unit}` : ""}`));
  image.append(svg("text", { x: 4, y: 12 }, "mg per day"));
  if (picture.value !== null) {
    const at = x(picture.value);
    image.append(svg("path", { d: `M${at} 18V155`, class: "now" }));
    if (picture.draftedMgPerDay !== null) image.append(svg("circle", { cx: at, cy: y(picture.draftedMgPerDay), r: 6, class: "dot child" }));
  }
  made.append(element("p", `${words} ${drafted} The line is the child${picture.draftedMgPerDay === null ? "" : ", the point the draft"}.`, { class: "legend" }));
  made.append(element("p", element("strong", picture.state), { class: "legend state" }));
  made.append(element("details", [element("summary", "Bands in words"), element("ul", picture.bands.map((b) =>
    element("li", `${b.words}: ${b.dose ?? b.say} [${b.row}, ${b.cite}]`)))]));
  return made;
}

// --- monitoring plan --------------------------------------------------------------------------------

const SIGN = { done: "✓", due: "!", overdue: "!!", "to come": "" };

function plan(found, asOf) {
  const items = [{ name: "start", date: found.start, state: "start" }, ...found.visits];
  const height = 30 + items.length * 30;
  const words = items.map((i) => `${i.name} ${i.date}${i.state === "start" ? "" : `: ${i.state}`}`).join("; ");
  const [made, image] = figure("Monitoring plan", `Monitoring plan as of ${asOf}: ${words}.`, height);
  image.append(svg("path", { d: `M20 18V${height - 20}`, class: "axis" }));
  items.forEach((item, index) => {
    const y = 20 + index * 30;
    const shape = item.state === "start" ? svg("path", { d: `M12 ${y}h16`, class: "start" }) : svg("circle", { cx: 20, cy: y, r: 9, class: item.state.replace(" ", "-") });
    image.append(shape);
    if (SIGN[item.state]) {
      const sign = svg("text", { x: 20, y: y + 4, "text-anchor": "middle" }, SIGN[item.state]);
      sign.style.fill = "#fff";
      image.append(sign);
    }
    image.append(svg("text", { x: 40, y: y + 4 }, `${item.date}  ${item.name}${item.state === "start" ? " of the course" : `: ${item.state}`}`));
  });
  made.append(element("p", `As of ${asOf}. Last complete set: ${found.lastSet ?? "none on record"}. A complete set: ${found.needed.join(", ")}.`, { class: "legend" }));
  return made;
}

// --- eGFR ---------------------------------------------------------------------------------------------

function egfr(sum) {
  const words = `${round(sum.constant)} × ${round(sum.height)} cm ÷ ${round(sum.creatinine)} µmol/L = ${round(sum.value)} ${sum.unit}`;
  const [made, image] = figure("eGFR", `eGFR: ${words}`, 70);
  const top = Math.max(...sum.limits, sum.value) * 1.15;
  const x = (v) => 10 + (v / top) * (WIDTH - 20);
  image.append(svg("rect", { x: 10, y: 20, width: WIDTH - 20, height: 18, class: "band-odd" }));
  for (const limit of sum.limits) image.append(svg("path", { d: `M${x(limit)} 16V42`, class: "start" }), svg("text", { x: x(limit), y: 58, "text-anchor": "middle" }, round(limit)));
  image.append(svg("circle", { cx: x(sum.value), cy: 29, r: 7, class: "dot" }));
  made.append(element("p", words, { class: "sum" }), element("p", "The dashed lines are the limits that the tables of this drug set.", { class: "legend" }));
  return made;
}
