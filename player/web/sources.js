// Where bodies came from: the Cache-Status of each response (RFC 9211), and the edge's own account of each body.

export const SOURCES = ["memory", "disk", "peer", "origin"];
export const NAMES = { memory: "memory", disk: "disk", peer: "peers", origin: "origin" };
const MOST_MISSES = 8;
const MOST_QUESTIONS = 12; // waiting to be asked; a page that fell behind asks about the newest

// The `detail` of the cache nearest to the viewer: the last member of the list that has one.
export function sourceOf(header) {
  const members = (header ?? "").match(/(?:[^,"]|"(?:[^"\\]|\\.)*")+/g) ?? [];
  for (const member of members.reverse()) {
    const detail = /;\s*detail="?(memory|disk|peer|origin)"?\s*(?=;|$)/.exec(member);
    if (detail) return detail[1];
  }
  return "origin";
}

// Totals of this page, and one question at a time to `/-/sources`.
export class Ledger {
  constructor(onAccount) {
    this.bytes = Object.fromEntries(SOURCES.map((source) => [source, 0]));
    this.helpers = new Map(); // node name -> bytes it gave this edge for what was watched here
    this.onAccount = onAccount;
    this.waiting = [];
    this.isAsking = false;
    this.misses = 0; // in a row
  }

  get total() {
    return SOURCES.reduce((sum, source) => sum + this.bytes[source], 0);
  }

  // Whether the edge keeps such an account at all. It may not have a single body (404): that alone says nothing.
  get isTold() {
    return this.misses < MOST_MISSES;
  }

  onBody(source, size) {
    this.bytes[source] += size;
  }

  ask(segment) {
    if (!this.isTold) return;
    this.waiting.push(segment);
    this.waiting = this.waiting.slice(-MOST_QUESTIONS);
    if (!this.isAsking) void this.askOn();
  }

  async askOn() {
    this.isAsking = true;
    while (this.waiting.length && this.isTold) {
      const segment = this.waiting.shift();
      try {
        const answer = await fetch(`/-/sources?path=${encodeURIComponent(segment.path)}`, { cache: "no-store" });
        this.misses = answer.ok ? 0 : this.misses + 1;
        if (answer.ok) this.onAnswer(segment, await answer.json());
      } catch (error) {
        console.warn("sources:", error); // the edge restarts, say: the picture lacks one row, nothing else
      }
    }
    this.isAsking = false;
  }

  onAnswer(segment, account) {
    segment.fetched = account.fetched ?? {};
    segment.from = account.from ?? {};
    for (const [node, size] of Object.entries(segment.from)) {
      this.helpers.set(node, (this.helpers.get(node) ?? 0) + size);
    }
    this.onAccount(segment);
  }
}
