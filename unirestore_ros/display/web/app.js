// The page: connects stream, image and chart, and shows how old the image is.

import { AgeChart } from "./chart.js";
import { FrameStream } from "./stream.js";
import { ImageView } from "./view.js";

const STREAMS = { restored: "driver", split: "both", side: "both", raw: "camera" };
const RATE_MS = 2000;
const NOTICE_MS = 6000;

const $ = (id) => document.getElementById(id);
const imageView = new ImageView($("view"));
const chart = new AgeChart($("chart"));

let frame = null;          // the one that is shown
let state = null;          // the latest from the node
let isConnected = false;
let shownAge = null;       // ms, of the last frames when they were shown, smoothed
let lastNotice = null;     // number of the last notice
let requested = null;      // what restoration was switched to, until the node confirms it
const shownAt = [];        // when frames were shown, for the rate

const stored = {
  get(name) { return localStorage.getItem(`display.${name}`); },
  set(name, value) { localStorage.setItem(`display.${name}`, value); },
};

const stream = new FrameStream({
  frame(arrived) {
    // A frame is sent again when its boxes arrive after it.
    const isAgain = frame !== null && frame.header.stamp === arrived.header.stamp;
    frame = arrived;
    imageView.show(arrived);
    if (isAgain) return;
    const now = performance.now();
    const age = now - arrived.captured;
    shownAt.push(now);
    chart.add(age, statusNow());
    shownAge = shownAge === null ? age : shownAge + 0.25 * (age - shownAge);
    const [width, height] = arrived.header.size;
    document.body.style.setProperty("--aspect", width / height);
  },
  state(received) {
    if (state === null) applyDefaults(received);
    state = received;
    chart.limit = received.max_age_ms;
    if (lastNotice !== null && received.notice.number > lastNotice) notify(received.notice.text);
    lastNotice = received.notice.number;
    if (requested === received.enabled) requested = null;
    showState();
  },
  connected(connected) {
    isConnected = connected;
    if (!connected) { state = null; requested = null; showState(); }
  },
});

// The page decides by itself what is stale: the node may have died.
function statusNow() {
  if (frame && !isConnected) return "stale";
  const limit = state?.max_age_ms ?? chart.limit;
  if (frame && performance.now() - frame.captured <= limit) return frame.header.status;
  if (state?.status === "no picture") return state.status;
  return frame ? "stale" : "waiting";
}

function reasonNow(status) {
  if (!isConnected) return frame ? "no connection to the node" : "connecting";
  if (status === "waiting" || status === "no picture") return state?.reason ?? "";
  if (frame.header.age_note) return frame.header.age_note;
  if (status === "restored") {
    const took = Number(state?.restorer.latency_median_ms);
    return took > 0 ? `restoring takes ${took.toFixed(0)} ms` : "";
  }
  return frame.header.status === status ? frame.header.reason : "no new image";
}

function applyDefaults(received) {
  if (!stored.get("view")) chooseView(received.view);
  if (!stored.get("divider")) moveDivider(received.divider / 100);
}

function chooseView(view) {
  imageView.view = document.body.dataset.view = view;
  stream.selectStream(STREAMS[view]);
  for (const button of $("views").children) {
    button.setAttribute("aria-pressed", button.dataset.view === view);
  }
  imageView.draw();
}

function moveDivider(share) {
  imageView.divider = Math.min(1, Math.max(0, share));
  $("divider").setAttribute("aria-valuenow", Math.round(imageView.divider * 100));
  imageView.draw();
}

function showState() {
  const enabled = requested ?? state?.enabled ?? null;
  const button = $("enable");
  button.disabled = enabled === null;
  button.setAttribute("aria-checked", enabled === true);
  button.setAttribute("aria-busy", requested !== null);
  button.querySelector("b").textContent = enabled === null ? "–" : enabled ? "on" : "off";
  const { name = "", backend, bundle } = state?.restorer ?? {};
  $("restorer").textContent = [name, backend, bundle].filter(Boolean).join(" · ");
  const items = Object.entries(state?.tasks ?? {}).map(([task, isLive]) => {
    const item = document.createElement("li");
    item.textContent = task;
    item.dataset.live = isLive;
    return item;
  });
  $("tasks").replaceChildren(...items);
}

function notify(text) {
  $("notice").textContent = text;
  $("notice").hidden = false;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => { $("notice").hidden = true; }, NOTICE_MS);
}

// Called five times a second: figures that change faster cannot be read.
function showFigures() {
  const now = performance.now();
  while (shownAt.length && shownAt[0] < now - RATE_MS) shownAt.shift();
  const status = statusNow();
  const age = frame ? now - frame.captured : null;
  const isStale = status === "stale";
  document.body.dataset.status = status;
  $("status").textContent = status.toUpperCase();
  $("reason").textContent = reasonNow(status);
  const isRefused = status === "no picture";
  $("empty").hidden = frame !== null && !isRefused;
  $("empty").textContent = isRefused ? `No picture: ${reasonNow(status)}` : "Waiting for the first image";
  $("alarm").hidden = !isStale;
  $("alarm").querySelector("span").textContent =
    age === null ? ""
      : frame.header.age_note ? `no new image, ${frame.header.age_note}`
        : `${(age / 1000).toFixed(1)} s old, ${reasonNow(status)}`;
  const shown = isStale ? age : shownAge;
  const isLong = shown !== null && shown >= 1000;
  const seconds = (shown / 1000).toFixed(shown < 99950 ? 1 : 0);
  const isUnknown = Boolean(frame?.header.age_note);
  $("age").textContent =
    isUnknown ? "unknown" : shown === null ? "–" : isLong ? seconds : Math.round(shown);
  $("age-unit").textContent = isUnknown ? "" : isLong ? "s" : "ms";
  const rate = shownAt.length < 2 ? 0
    : (1000 * (shownAt.length - 1)) / (shownAt.at(-1) - shownAt[0]);
  $("fps").textContent = frame === null ? "–" : rate.toFixed(rate < 9.95 ? 1 : 0);
  const badge = $("badge");
  badge.firstElementChild.textContent = status.toUpperCase();
  badge.lastElementChild.textContent = `${$("age").textContent} ${$("age-unit").textContent}`;
  const peak = chart.peak();
  $("peak").textContent = peak === null ? "" : `most ${Math.round(peak)} ms`;
  chart.draw();
}

function dragDivider(event) {
  if (imageView.view !== "split") return;
  const place = imageView.place;
  const left = $("stage").getBoundingClientRect().left + place.x;
  moveDivider((event.clientX - left) / Math.max(1, place.width));
}

function placeDivider() {
  const divider = $("divider");
  const { x, y, width, height } = imageView.place;
  divider.hidden = imageView.view !== "split" || !frame || !frame.images.driver;
  divider.style.left = `${x + width * imageView.divider}px`;
  divider.style.top = `${y}px`;
  divider.style.height = `${height}px`;
}

function addListeners() {
  const stage = $("stage");
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button") || imageView.view !== "split") return;
    stage.setPointerCapture(event.pointerId);
    dragDivider(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) dragDivider(event);
  });
  stage.addEventListener("pointerup", () => stored.set("divider", imageView.divider));
  $("divider").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (step) { moveDivider(imageView.divider + step); stored.set("divider", imageView.divider); }
  });
  for (const button of $("views").children) {
    button.addEventListener("click", () => {
      stored.set("view", button.dataset.view);
      chooseView(button.dataset.view);
    });
  }
  addSwitch("boxes", (on) => { imageView.showBoxes = on; imageView.draw(); });
  addSwitch("area", (on) => { imageView.showArea = on; imageView.draw(); });
  $("focus").addEventListener("click", () => {
    const isFocused = document.body.classList.toggle("focus");
    $("focus").setAttribute("aria-pressed", isFocused);
    stored.set("focus", isFocused);
  });
  // A kiosk shows the image only again after a restart.
  if (stored.get("focus") === "true") $("focus").click();
  $("enable").addEventListener("click", () => {
    requested = !(requested ?? state.enabled);
    stream.enable(requested);
    showState();
    // Long enough for the node's answer; then the switch shows the actual state again.
    setTimeout(() => { requested = null; showState(); }, 4000);
  });
}

function addSwitch(id, apply) {
  const button = $(id);
  const set = (on) => { button.setAttribute("aria-pressed", on); apply(on); };
  set(stored.get(id) !== "false");
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    stored.set(id, on);
    set(on);
  });
}

imageView.onDrawn = placeDivider;
addListeners();
chooseView(stored.get("view") ?? "restored");
moveDivider(Number(stored.get("divider") ?? 0.5));
showState();
showFigures();
setInterval(showFigures, 200);
