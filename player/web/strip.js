// The timeline of segments: a coloured block each, newest last, walked with the arrow keys.

import { element } from "./dom.js";
import { bytes, seconds, share } from "./format.js";

const MOST_BLOCKS = 240;
const PIXELS_A_SECOND = 14;
const LETTERS = { memory: "M", disk: "D", peer: "P", origin: "O" };
const WORDS = {
  memory: "from this edge’s memory",
  disk: "from this edge’s disk",
  peer: "from another edge",
  origin: "from the origin",
};

export class Strip {
  constructor(box, detail) {
    this.box = box;
    this.detail = detail;
    this.blocks = []; // {segment, block}
    this.chosen = null;
    box.addEventListener("keydown", (event) => this.onKey(event));
    box.addEventListener("pointerover", (event) => this.onPointer(event));
    box.addEventListener("click", (event) => this.onPointer(event));
  }

  add(segment) {
    const answer = element("span", { class: `answer ${segment.source}` }, LETTERS[segment.source]);
    const block = element("div", { class: "segment", role: "option", "aria-selected": "false" }, answer);
    block.append(element("span", { class: "fetch" }));
    block.id = `segment-${(Strip.count = (Strip.count ?? 0) + 1)}`;
    block.style.width = `${Math.min(90, Math.max(18, segment.duration_s * PIXELS_A_SECOND))}px`;
    block.setAttribute("aria-label", this.sentence(segment));
    const isAtEnd = this.box.scrollLeft + this.box.clientWidth >= this.box.scrollWidth - 60;
    this.blocks.push({ segment, block });
    this.box.append(block);
    if (this.blocks.length > MOST_BLOCKS) this.blocks.shift().block.remove();
    if (isAtEnd) this.box.scrollLeft = this.box.scrollWidth;
  }

  // The edge told how it had come by a segment.
  update(segment) {
    const entry = this.blocks.find((one) => one.segment === segment);
    if (!entry) return;
    const { peer = 0, origin = 0 } = segment.fetched;
    const parts = Object.entries({ peer, origin }).filter(([, size]) => size > 0);
    const bar = entry.block.querySelector(".fetch");
    bar.replaceChildren(
      ...parts.map(([source, size]) => {
        const part = element("i", { class: source });
        part.style.width = `${(100 * size) / (peer + origin)}%`;
        return part;
      }),
    );
    entry.block.setAttribute("aria-label", this.sentence(segment));
    if (this.chosen === entry) this.detail.textContent = this.sentence(segment);
  }

  show(url) {
    for (const { segment, block } of this.blocks) block.classList.toggle("now", segment.url === url);
  }

  sentence(segment) {
    const { name, duration_s, bytes: size, source, took_s, ttfb_s, fetched, from } = segment;
    const said = [
      `${name}: ${seconds(duration_s)} of media, ${bytes(size)} ${WORDS[source]}, ` +
        `first byte after ${seconds(ttfb_s)}, complete after ${seconds(took_s)}.`,
    ];
    const peer = fetched?.peer ?? 0;
    const whole = peer + (fetched?.origin ?? 0);
    if (whole) said.push(`Of the bytes this edge fetched, ${share(peer, whole)} came from peers.`);
    const givers = Object.entries(from ?? {}).map(([node, given]) => `${node} ${bytes(given)}`);
    if (givers.length) said.push(`${givers.join(", ")}.`);
    return said.join(" ");
  }

  choose(index) {
    const entry = this.blocks[Math.min(this.blocks.length - 1, Math.max(0, index))];
    if (!entry) return;
    this.chosen?.block.setAttribute("aria-selected", "false");
    this.chosen = entry;
    entry.block.setAttribute("aria-selected", "true");
    this.box.setAttribute("aria-activedescendant", entry.block.id);
    this.detail.textContent = this.sentence(entry.segment);
  }

  onKey(event) {
    const now = this.blocks.indexOf(this.chosen);
    const last = this.blocks.length - 1;
    const target = { ArrowLeft: now < 0 ? last : now - 1, ArrowRight: now < 0 ? last : now + 1, Home: 0, End: last }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    this.choose(target);
    this.chosen?.block.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  onPointer(event) {
    const index = this.blocks.findIndex(({ block }) => block.contains(event.target));
    if (index >= 0) this.choose(index);
  }
}
