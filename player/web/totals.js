// Bytes by source, with share bars; and the peers that gave them.

import { element } from "./dom.js";
import { bytes, share } from "./format.js";
import { NAMES, SOURCES } from "./sources.js";

const MOST_HELPERS = 8;

export function drawTotals(box, ledger) {
  const { total } = ledger;
  const stack = element("div", { class: "stack", role: "img", "aria-label": sentence(ledger) });
  for (const source of SOURCES) {
    const part = element("span", { class: source });
    part.style.width = `${total ? (100 * ledger.bytes[source]) / total : 0}%`;
    stack.append(part);
  }
  box.replaceChildren(stack, ...SOURCES.map((source) => row(NAMES[source], ledger.bytes[source], total, source)));
}

export function drawHelpers(box, ledger) {
  const helpers = [...ledger.helpers].sort((a, b) => b[1] - a[1]);
  if (!helpers.length) return;
  const total = helpers.reduce((sum, [, size]) => sum + size, 0);
  box.replaceChildren(...helpers.slice(0, MOST_HELPERS).map(([node, size]) => row(node, size, total, "peer")));
}

function sentence(ledger) {
  return SOURCES.map((source) => `${share(ledger.bytes[source], ledger.total)} from ${NAMES[source]}`).join(", ");
}

function row(name, size, total, source) {
  const fill = element("i", { class: source });
  fill.style.width = `${total ? (100 * size) / total : 0}%`;
  fill.hidden = !size;
  return element(
    "div",
    { class: "row" },
    element("span", { class: "name", title: name }, name),
    element("span", { class: "track", "aria-hidden": "true" }, fill),
    element("output", {}, `${bytes(size)} · ${share(size, total)}`),
  );
}
