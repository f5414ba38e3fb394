// The Markdown of the cards as DOM nodes: paragraphs, lists, tables, bold, code, links of http and https.
// Nothing is ever read as HTML, so that text of a record stays text.

const PUNCTUATION = /[!-/:-@[-`{-~]/;

export function render(markdown) {
  const fragment = document.createDocumentFragment();
  for (const block of String(markdown).replace(/\r/g, "").split(/\n{2,}/)) {
    if (block.trim()) fragment.append(...blocks(block.split("\n").filter((line) => line.trim())));
  }
  return fragment;
}

function blocks(lines) {
  if (lines.every((line) => line.trim().startsWith("|")) && lines.length > 1) return [table(lines)];
  const found = [];
  for (const line of lines) {
    const item = /^\s*[-*]\s+(.*)$/.exec(line);
    const last = found.at(-1);
    if (item) {
      const list = last?.localName === "ul" ? last : element("ul");
      if (list !== last) found.push(list);
      list.append(element("li", inline(item[1])));
    } else if (last?.localName === "p") {
      last.append(" ", ...inline(line));
    } else {
      found.push(element("p", inline(line)));
    }
  }
  return found;
}

function table(lines) {
  const rows = lines.map(cells);
  const ruled = rows[1]?.every((cell) => /^:?-+:?$/.test(cell));
  const made = element("table");
  rows.forEach((row, number) => {
    if (ruled && number === 1) return;
    const line = element("tr");
    row.forEach((cell) => line.append(element(ruled && number === 0 && cell ? "th" : "td", inline(cell))));
    made.append(line);
  });
  return made;
}

function cells(line) {
  const found = [""];
  const text = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\") found[found.length - 1] += text[at] + (text[(at += 1)] ?? "");
    else if (text[at] === "|") found.push("");
    else found[found.length - 1] += text[at];
  }
  return found.map((cell) => cell.trim());
}

function inline(text) {
  const nodes = [];
  let plain = "";
  const flush = () => { if (plain) nodes.push(document.createTextNode(plain)); plain = ""; };
  for (let at = 0; at < text.length; ) {
    const rest = text.slice(at);
    let match;
    if (rest[0] === "\\" && PUNCTUATION.test(rest[1] ?? "")) {
      plain += rest[1];
      at += 2;
    } else if ((match = /^\*\*((?:\\.|[^\\])+?)\*\*/.exec(rest))) {
      flush();
      nodes.push(element("strong", inline(match[1])));
      at += match[0].length;
    } else if ((match = /^`([^`]+)`/.exec(rest))) {
      flush();
      nodes.push(element("code", [match[1]]));
      at += match[0].length;
    } else if ((match = /^\[((?:\\.|[^\]\\])+)\]\((https?:\/\/[^\s)]+)\)/.exec(rest))) {
      flush();
      nodes.push(link(match[2], inline(match[1])));
      at += match[0].length;
    } else {
      plain += rest[0];
      at += 1;
    }
  }
  flush();
  return nodes;
}

export function link(address, content) {
  const made = element("a", content);
  if (/^https?:\/\//i.test(address)) {
    made.href = address;
    made.target = "_blank";
    made.rel = "noopener noreferrer";
  }
  return made;
}

export function element(name, content = [], attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...[content].flat().filter((each) => each !== null && each !== undefined));
  return made;
}
