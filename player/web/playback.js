// One stream in one <video>: hls.js where it runs, the browser's own HLS only elsewhere, and what can be measured of both.

import { sourceOf } from "./sources.js";

const HOLD_BACK_TARGETS = 3; // a live stream shorter than this would stall on a healthy server
const RECOVER_WITHIN_MS = 10_000; // a second media error so soon is not mended by another try
const RATE_OVER = 5; // segments
const FIRST_POSITION_S = 0.05;

export class Playback extends EventTarget {
  constructor(video, source) {
    super();
    this.video = video;
    this.source = source;
    this.beganAt = performance.now();
    this.startup_s = null;
    this.stalls = 0;
    this.stalled_s = 0;
    this.stalledAt = null;
    this.isLive = false;
    this.hls = null;
    this.last = []; // the newest segments
    this.recoveredAt = -Infinity;
    this.watch();
  }

  // ---- starting ----

  async start() {
    let Hls = null;
    try {
      ({ default: Hls } = await import("./vendor/hls.min.mjs"));
    } catch {
      if (!this.canPlayItself()) {
        this.fail("missing", "hls.js is not installed on this edge: run make setup where it was built.");
        return;
      }
    }
    // hls.js first: browsers that answer "maybe" for HLS of their own are not to be believed.
    if (Hls?.isSupported()) this.startHls(Hls);
    else if (this.canPlayItself()) this.startNative();
    else this.fail("unsupported", "This browser can play HLS neither by itself nor through Media Source Extensions.");
  }

  canPlayItself() {
    return this.video.canPlayType("application/vnd.apple.mpegurl") !== "";
  }

  startHls(Hls) {
    const hls = new Hls({
      enableWorker: false, // the module build would need a worker file of its own
      lowLatencyMode: true,
      backBufferLength: 30,
      maxMaxBufferLength: 30, // no more ahead than anybody needs: an edge fetches for viewers, not for leavers
      cmcd: { useHeaders: true }, // tells the edge how urgent a segment is, without changing its URL
    });
    this.hls = hls;
    hls.on(Hls.Events.FRAG_LOADED, (_, data) => this.onFragment(data));
    hls.on(Hls.Events.LEVEL_UPDATED, (_, data) => this.onDetails(data.details));
    hls.on(Hls.Events.LEVEL_LOADED, (_, data) => this.onDetails(data.details));
    hls.on(Hls.Events.FRAG_CHANGED, (_, data) => this.tell("shown", { url: data.frag.url }));
    hls.on(Hls.Events.ERROR, (_, data) => this.onError(Hls, data));
    hls.attachMedia(this.video);
    hls.loadSource(this.source);
  }

  startNative() {
    this.video.src = this.source;
    this.tell("native", {});
    void this.play();
  }

  async play() {
    try {
      await this.video.play();
    } catch (error) {
      this.tell("blocked", { why: error.name }); // autoplay refused: the controls are there
    }
  }

  onDetails(details) {
    this.isLive = details.live;
    if (this.isBegun) return;
    const enough = HOLD_BACK_TARGETS * details.targetduration * 0.9;
    if (details.live && !details.partList?.length && details.totalduration < enough) {
      this.tell("growing", {});
      return;
    }
    this.isBegun = true;
    void this.play();
  }

  // ---- what came ----

  onFragment({ frag, part, payload, networkDetails }) {
    const of = part ?? frag;
    const header = networkDetails?.getResponseHeader?.("Cache-Status") ?? networkDetails?.headers?.get("Cache-Status");
    const { loading, total } = of.stats;
    const url = new URL(of.url ?? frag.url, location.href);
    const segment = {
      path: url.pathname,
      url: frag.url,
      name: url.pathname.split("/").pop(),
      isInit: frag.sn === "initSegment",
      sequence: frag.sn,
      start_s: frag.start,
      duration_s: of.duration || 0,
      bytes: total || payload?.byteLength || 0,
      source: sourceOf(header),
      took_s: Math.max(0, (loading.end - loading.start) / 1000),
      ttfb_s: Math.max(0, (loading.first - loading.start) / 1000),
    };
    if (!segment.isInit) this.last = [...this.last, segment].slice(-RATE_OVER);
    this.tell("fragment", segment);
  }

  onError(Hls, data) {
    if (!data.fatal) return;
    const now = performance.now();
    const isMedia = data.type === Hls.ErrorTypes.MEDIA_ERROR;
    const message = `${data.details}${data.response?.code ? ` (status ${data.response.code})` : ""}`;
    if (isMedia && now - this.recoveredAt > RECOVER_WITHIN_MS) {
      this.recoveredAt = now;
      this.hls.recoverMediaError();
      this.tell("recovered", { type: data.type, message });
      return;
    }
    this.fail(data.type, message);
  }

  fail(type, message) {
    this.hls?.destroy();
    this.hls = null;
    this.tell("fatal", { type, message });
  }

  // ---- what is shown ----

  watch() {
    const { video } = this;
    const started = () => this.onProgress();
    video.addEventListener("timeupdate", started);
    video.addEventListener("playing", () => this.onProgress());
    video.addEventListener("waiting", () => this.onWaiting());
    video.addEventListener("pause", () => this.endStall());
    video.addEventListener("seeking", () => this.endStall());
    video.addEventListener("ended", () => this.endStall());
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(() => this.onFirstFrame());
  }

  onFirstFrame() {
    if (this.startup_s !== null || this.video.paused) return;
    this.startup_s = (performance.now() - this.beganAt) / 1000;
    this.tell("started", { startup_s: this.startup_s });
  }

  onProgress() {
    if (this.video.currentTime > FIRST_POSITION_S || this.video.played.length) this.onFirstFrame();
    if (this.video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) this.endStall();
  }

  onWaiting() {
    const { video } = this;
    if (this.startup_s === null || this.stalledAt !== null || video.seeking || video.paused || video.ended) return;
    this.stalledAt = performance.now();
    this.stalls += 1;
    this.tell("stalled", {});
  }

  endStall() {
    if (this.stalledAt === null) return;
    this.stalled_s += (performance.now() - this.stalledAt) / 1000;
    this.stalledAt = null;
    this.tell("resumed", {});
  }

  get stalledSoFar_s() {
    return this.stalled_s + (this.stalledAt === null ? 0 : (performance.now() - this.stalledAt) / 1000);
  }

  get played_s() {
    const { played } = this.video;
    let sum = 0;
    for (let index = 0; index < played.length; index += 1) sum += played.end(index) - played.start(index);
    return sum;
  }

  get buffer_s() {
    const { buffered, currentTime } = this.video;
    for (let index = 0; index < buffered.length; index += 1) {
      if (buffered.start(index) <= currentTime + 0.1 && currentTime <= buffered.end(index)) {
        return buffered.end(index) - currentTime;
      }
    }
    return 0;
  }

  get latency_s() {
    return this.isLive && this.hls && this.hls.latency > 0 ? this.hls.latency : null;
  }

  // What the last segments took, rather than what a playlist says of them.
  get bitrate_bps() {
    const played_s = this.last.reduce((sum, segment) => sum + segment.duration_s, 0);
    return played_s ? (this.last.reduce((sum, segment) => sum + segment.bytes, 0) * 8) / played_s : null;
  }

  get picture() {
    const { videoWidth, videoHeight } = this.video;
    return videoHeight ? `${videoWidth} × ${videoHeight}` : "";
  }

  tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
