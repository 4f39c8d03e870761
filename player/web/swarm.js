// A small picture of the swarm as this edge sees it: itself in the middle, the others around, the origin on top.

import { element, svg } from "./dom.js";
import { rate } from "./format.js";

const EVERY_MS = 2000;
const MOST_MEMBERS = 12; // drawn; the table has them all
const [WIDTH, HEIGHT] = [680, 370];
const CENTRE = { x: WIDTH / 2, y: 185 };
const ORIGIN = { x: WIDTH / 2, y: 40 };

export class Swarm {
  constructor(box, table, onView) {
    this.box = box;
    this.table = table;
    this.onView = onView;
  }

  async run() {
    for (;;) {
      if (!document.hidden) await this.poll();
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  async poll() {
    try {
      const answer = await fetch("/-/swarm", { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      this.draw(await answer.json());
    } catch (error) {
      this.box.replaceChildren(element("p", { class: "quiet" }, `This edge does not tell of its swarm (${error.message}).`));
    }
  }

  draw(view) {
    const members = [...(view.members ?? [])].filter((member) => member.node !== view.node);
    const busiest = [...members].sort((a, b) => traffic(b) - traffic(a)).slice(0, MOST_MEMBERS);
    busiest.sort((a, b) => `${a.zone}/${a.node}`.localeCompare(`${b.zone}/${b.node}`));
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": sentence(view, members) });
    picture.append(...link(ORIGIN, CENTRE, view.origin?.down_bps ?? 0, 0, "origin"));
    const places = busiest.map((_, index) => around(index, busiest.length));
    busiest.forEach((member, index) => {
      picture.append(...link(places[index], CENTRE, member.down_bps, member.up_bps, "peer"));
    });
    busiest.forEach((member, index) => picture.append(...node(member, places[index])));
    picture.append(...origin(view.origin?.down_bps ?? 0), ...self(view));
    if (members.length > busiest.length) {
      picture.append(text(WIDTH / 2, HEIGHT - 6, `and ${members.length - busiest.length} more edges`, "small"));
    }
    this.box.replaceChildren(picture);
    this.table.replaceChildren(tableOf(view, members));
    this.onView(view, members);
  }
}

// A zone may have no name.
export const dotted = (...words) => words.filter(Boolean).join(" · ");

const traffic = (member) => (member.down_bps ?? 0) + (member.up_bps ?? 0);

// From lower left round the bottom to lower right, away from the origin.
function around(index, count) {
  const half = Math.min(0.56, 0.05 + 0.15 * count); // few members hang below, many reach round to the sides
  const angle = Math.PI * (count === 1 ? 0.5 : 0.5 + half - (2 * half * index) / (count - 1));
  return { x: CENTRE.x + Math.cos(angle) * 240, y: CENTRE.y + Math.sin(angle) * 116 };
}

// Thickness by rate, on a logarithmic scale: 10 kbit/s is a hair, 1 Gbit/s a rope.
function thickness(bps) {
  return bps > 0 ? Math.max(1.5, Math.min(12, 2.2 * (Math.log10(bps) - 3.5))) : 0;
}

function link(from, to, downBps, upBps, kind) {
  const shapes = [svg("path", { class: "link", d: path(from, to, 0), "stroke-width": 1.5 })];
  if (downBps > 0) {
    shapes.push(svg("path", { class: `flow ${kind}`, d: path(from, to, 7), "stroke-width": thickness(downBps) }));
  }
  if (upBps > 0) shapes.push(svg("path", { class: "flow up", d: path(from, to, -7), "stroke-width": thickness(upBps) }));
  return shapes;
}

function path(from, to, bend) {
  const length = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  const [x, y] = [(-(to.y - from.y) / length) * bend, ((to.x - from.x) / length) * bend];
  return `M${round(from.x + x)} ${round(from.y + y)} L${round(to.x + x)} ${round(to.y + y)}`;
}

const round = (value) => Math.round(value * 10) / 10;

function text(x, y, words, kind = "") {
  return svg("text", { x: round(x), y: round(y), class: kind }, words);
}

function node(member, at) {
  const state = ["alive", "leaf", "suspect", "refused"].includes(member.state) ? member.state : "suspect";
  const flows = [member.down_bps > 0 ? `↓ ${rate(member.down_bps)}` : "", member.up_bps > 0 ? `↑ ${rate(member.up_bps)}` : ""];
  const second = dotted(member.zone, state === "alive" ? "" : state);
  const shapes = [
    svg("circle", { class: `node ${state}`, cx: round(at.x), cy: round(at.y), r: 13 }),
    text(at.x, at.y + 28, member.node),
    text(at.x, at.y + 41, second, "small"),
  ];
  const moved = flows.filter(Boolean).join("  ");
  if (moved) shapes.push(text(at.x, at.y + 54, moved, "small"));
  return shapes;
}

function self(view) {
  return [
    svg("circle", { class: "node self", cx: CENTRE.x, cy: CENTRE.y, r: 19 }),
    text(CENTRE.x, CENTRE.y + 36, view.node),
    text(CENTRE.x, CENTRE.y + 49, dotted(view.zone, "this edge"), "small"),
  ];
}

function origin(downBps) {
  return [
    svg("rect", { class: "origin-node", x: ORIGIN.x - 17, y: ORIGIN.y - 15, width: 34, height: 30, rx: 7 }),
    text(ORIGIN.x, ORIGIN.y - 22, "origin"),
    text(ORIGIN.x + 64, ORIGIN.y + 5, downBps > 0 ? `↓ ${rate(downBps)}` : "idle", "small"),
  ];
}

function sentence(view, members) {
  const giving = members.filter((member) => member.down_bps > 0).length;
  return (
    `${view.node}${view.zone ? ` in zone ${view.zone}` : ""}, topology ${view.topology}, with ${members.length} other edges; ` +
    `${giving} of them are sending to it; from the origin ${rate(view.origin?.down_bps ?? 0)}`
  );
}

function tableOf(view, members) {
  const rows = [
    { node: "origin", zone: "–", state: "–", down_bps: view.origin?.down_bps ?? 0, up_bps: 0 },
    ...members,
  ];
  const head = ["edge", "zone", "state", "sends us", "gets from us"].map((name) => element("th", { scope: "col" }, name));
  const lines = rows.map((member) => {
    const cells = [member.node, member.zone, member.state, rate(member.down_bps ?? 0), rate(member.up_bps ?? 0)];
    return element("tr", {}, ...cells.map((cell) => element("td", {}, String(cell))));
  });
  return element("table", {}, element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...lines));
}
