// Joins the parts of the page. Browser tests, and the curious, find the figures in `window.starling`.

import { byId, element } from "./dom.js";
import { clock, rate, seconds } from "./format.js";
import { Playback } from "./playback.js";
import { Ledger } from "./sources.js";
import { Strip } from "./strip.js";
import { Swarm, dotted } from "./swarm.js";
import { drawHelpers, drawTotals } from "./totals.js";

const EVERY_MS = 250;
const MOST_SEGMENTS = 2000; // kept in window.starling

const starling = { fatal: [], recovered: [], stalls: 0, stalled_s: 0, played_s: 0, startup_s: null, latency_s: null };
Object.assign(starling, { segments: [], bytes: {} });
window.starling = starling;

const video = byId("video");
const strip = new Strip(byId("strip"), byId("detail"));
const ledger = new Ledger((segment) => {
  strip.update(segment);
  drawHelpers(byId("helpers"), ledger);
});

function say(words) {
  if (byId("status").textContent !== words) byId("status").textContent = words;
}

function put(id, value, note = "") {
  const shown = byId(id);
  if (shown.dataset.shown === `${value}|${note}`) return;
  shown.dataset.shown = `${value}|${note}`;
  shown.replaceChildren(value, ...(note ? [element("small", {}, note)] : []));
}

function alarm(words) {
  const again = element("button", { type: "button" }, "Try again");
  again.addEventListener("click", () => location.reload());
  byId("alert").replaceChildren(words, again);
  byId("alert").hidden = false;
}

// A path on this edge: nothing else may be played from here.
function streamPath() {
  const asked = new URLSearchParams(location.search).get("src");
  if (!asked) return null;
  const url = new URL(asked, location.origin);
  if (url.origin !== location.origin || !asked.startsWith("/")) {
    alarm(`Only a path on this edge can be played here, such as /live/index.m3u8: not ${asked}`);
    return null;
  }
  return url.pathname + url.search;
}

function watch(path) {
  document.title = `${path} · Starling`;
  say(`Opening ${path} …`);
  const playback = new Playback(video, path);
  const on = (name, act) => playback.addEventListener(name, (event) => act(event.detail));
  on("fragment", (segment) => {
    ledger.onBody(segment.source, segment.bytes);
    drawTotals(byId("totals"), ledger);
    if (segment.isInit) return;
    starling.segments.push(segment);
    if (starling.segments.length > MOST_SEGMENTS) starling.segments.shift();
    strip.add(segment);
    ledger.ask(segment);
  });
  on("shown", ({ url }) => strip.show(url));
  on("started", () => say(`Playing ${path}`));
  on("growing", () => say(`${path} has only just begun: waiting until it is long enough to play without a stall …`));
  on("stalled", () => say("Stalled: the buffer is empty."));
  on("resumed", () => say(`Playing ${path}`));
  on("blocked", () => say("The browser wants you to press play."));
  on("native", () => say("Played by the browser itself: it does not tell where segments come from."));
  on("recovered", (error) => starling.recovered.push(error));
  on("fatal", (error) => {
    starling.fatal.push(error);
    say("Stopped.");
    alarm(`${path} cannot be played: ${error.message} `);
  });
  setInterval(() => figures(playback), EVERY_MS);
  return playback;
}

function figures(playback) {
  const { stalls, startup_s, played_s, latency_s, bitrate_bps } = playback;
  const stalled_s = playback.stalledSoFar_s;
  Object.assign(starling, { stalls, stalled_s, played_s, startup_s, latency_s, bytes: { ...ledger.bytes } });
  put("startup", startup_s === null ? "–" : seconds(startup_s));
  put("stalls", startup_s === null ? "–" : String(stalls), stalls ? `${seconds(stalled_s)} in all` : "");
  put("latency", latency_s === null ? (playback.isLive ? "…" : "–") : seconds(latency_s), playback.isLive ? "" : "on demand");
  put("bitrate", bitrate_bps ? rate(bitrate_bps) : "–", playback.picture);
  put("buffer", seconds(playback.buffer_s));
  put("watched", clock(played_s));
}

drawTotals(byId("totals"), ledger);
const swarm = new Swarm(byId("swarm"), byId("swarm-table"), (view, members) => {
  const others = members.filter((member) => member.state === "alive" || member.state === "leaf").length;
  byId("edge").textContent = dotted(view.node, view.zone, view.topology, `${others} other edges`);
});
void swarm.run();
const path = streamPath();
if (path) {
  byId("src").value = path;
  starling.playback = watch(path);
  void starling.playback.start();
}
