// What is on the page: puts stream, picture and chart together, and says how old the picture is.

import { AgeChart } from "./chart.js";
import { FrameStream } from "./stream.js";
import { PictureView } from "./view.js";

const STREAMS = { restored: "driver", split: "both", side: "both", raw: "camera" };
const RATE_MS = 2000;
const NOTICE_MS = 6000;

const $ = (id) => document.getElementById(id);
const picture = new PictureView($("view"));
const chart = new AgeChart($("chart"));

let frame = null;          // the one that is shown
let state = null;          // what the node last said
let isConnected = false;
let shownAge = null;       // ms, of the last pictures when they were shown, smoothed
let noticed = null;        // number of the last notice
let asked = null;          // what restoration was switched to, until the node confirms it
const shownAt = [];        // when pictures were shown, for the rate

const kept = {
  get(name) { return localStorage.getItem(`display.${name}`); },
  set(name, value) { localStorage.setItem(`display.${name}`, value); },
};

const stream = new FrameStream({
  frame(arrived) {
    // A picture may come again, with boxes that were not there yet.
    const isAgain = frame !== null && frame.header.stamp === arrived.header.stamp;
    frame = arrived;
    picture.show(arrived);
    if (isAgain) return;
    const now = performance.now();
    const age = now - arrived.taken;
    shownAt.push(now);
    chart.add(age, signNow());
    shownAge = shownAge === null ? age : shownAge + 0.25 * (age - shownAge);
    const [width, height] = arrived.header.size;
    document.body.style.setProperty("--aspect", width / height);
  },
  state(said) {
    if (state === null) startAsTheNodeSays(said);
    state = said;
    chart.limit = said.max_age_ms;
    if (noticed !== null && said.notice.number > noticed) tell(said.notice.text);
    noticed = said.notice.number;
    if (asked === said.enabled) asked = null;
    showState();
  },
  connected(connected) {
    isConnected = connected;
    if (!connected) { state = null; asked = null; showState(); }
  },
});

// STALE is this page's own finding too: it does not depend on a node that may have died.
function signNow() {
  if (!frame) return "waiting";
  if (!isConnected) return "stale";
  const limit = state?.max_age_ms ?? chart.limit;
  return performance.now() - frame.taken > limit ? "stale" : frame.header.sign;
}

function reasonNow(sign) {
  if (!isConnected) return frame ? "no connection to the node" : "connecting";
  if (sign === "restored") {
    const took = Number(state?.restorer.latency_median_ms);
    return took > 0 ? `restoring takes ${took.toFixed(0)} ms` : "";
  }
  if (sign === "waiting") return state?.reason ?? "";
  return frame.header.sign === sign ? frame.header.reason : "no new picture";
}

function startAsTheNodeSays(said) {
  if (!kept.get("view")) chooseView(said.view);
  if (!kept.get("divider")) moveDivider(said.divider / 100);
}

function chooseView(view) {
  picture.view = document.body.dataset.view = view;
  stream.want(STREAMS[view]);
  for (const button of $("views").children) {
    button.setAttribute("aria-pressed", button.dataset.view === view);
  }
  picture.draw();
}

function moveDivider(share) {
  picture.divider = Math.min(1, Math.max(0, share));
  $("divider").setAttribute("aria-valuenow", Math.round(picture.divider * 100));
  picture.draw();
}

function showState() {
  const enabled = asked ?? state?.enabled ?? null;
  const button = $("enable");
  button.disabled = enabled === null;
  button.setAttribute("aria-checked", enabled === true);
  button.setAttribute("aria-busy", asked !== null);
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

function tell(words) {
  $("notice").textContent = words;
  $("notice").hidden = false;
  clearTimeout(tell.timer);
  tell.timer = setTimeout(() => { $("notice").hidden = true; }, NOTICE_MS);
}

// Large, and changing so slowly that they can be read.
function showFigures() {
  const now = performance.now();
  while (shownAt.length && shownAt[0] < now - RATE_MS) shownAt.shift();
  const sign = signNow();
  const age = frame ? now - frame.taken : null;
  const isStale = sign === "stale";
  document.body.dataset.sign = sign;
  $("sign").textContent = sign.toUpperCase();
  $("reason").textContent = reasonNow(sign);
  $("empty").hidden = frame !== null;
  $("alarm").hidden = !isStale;
  $("alarm").querySelector("span").textContent =
    age === null ? "" : `${(age / 1000).toFixed(1)} s old, ${reasonNow(sign)}`;
  const shown = isStale ? age : shownAge;
  const isLong = shown !== null && shown >= 1000;
  const seconds = (shown / 1000).toFixed(shown < 99950 ? 1 : 0);
  $("age").textContent = shown === null ? "–" : isLong ? seconds : Math.round(shown);
  $("age-unit").textContent = isLong ? "s" : "ms";
  const rate = shownAt.length < 2 ? 0
    : (1000 * (shownAt.length - 1)) / (shownAt.at(-1) - shownAt[0]);
  $("fps").textContent = frame === null ? "–" : rate.toFixed(rate < 9.95 ? 1 : 0);
  const badge = $("badge");
  badge.firstElementChild.textContent = sign.toUpperCase();
  badge.lastElementChild.textContent = `${$("age").textContent} ${$("age-unit").textContent}`;
  const peak = chart.peak();
  $("peak").textContent = peak === null ? "" : `most ${Math.round(peak)} ms`;
  chart.draw();
}

function dragDivider(event) {
  if (picture.view !== "split") return;
  const place = picture.place;
  const left = $("stage").getBoundingClientRect().left + place.x;
  moveDivider((event.clientX - left) / Math.max(1, place.width));
}

function placeDivider() {
  const divider = $("divider");
  const { x, y, width, height } = picture.place;
  divider.hidden = picture.view !== "split" || !frame || !frame.pictures.driver;
  divider.style.left = `${x + width * picture.divider}px`;
  divider.style.top = `${y}px`;
  divider.style.height = `${height}px`;
}

function listen() {
  const stage = $("stage");
  stage.addEventListener("pointerdown", (event) => {
    if (event.target.closest("button") || picture.view !== "split") return;
    stage.setPointerCapture(event.pointerId);
    dragDivider(event);
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) dragDivider(event);
  });
  stage.addEventListener("pointerup", () => kept.set("divider", picture.divider));
  $("divider").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
    if (step) { moveDivider(picture.divider + step); kept.set("divider", picture.divider); }
  });
  for (const button of $("views").children) {
    button.addEventListener("click", () => {
      kept.set("view", button.dataset.view);
      chooseView(button.dataset.view);
    });
  }
  listenToSwitch("boxes", (on) => { picture.showBoxes = on; picture.draw(); });
  listenToSwitch("area", (on) => { picture.showArea = on; picture.draw(); });
  $("focus").addEventListener("click", () => {
    $("focus").setAttribute("aria-pressed", document.body.classList.toggle("focus"));
  });
  $("enable").addEventListener("click", () => {
    asked = !(asked ?? state.enabled);
    stream.enable(asked);
    showState();
    // Long enough for the node's answer; then the switch says again what is.
    setTimeout(() => { asked = null; showState(); }, 4000);
  });
}

function listenToSwitch(id, apply) {
  const button = $(id);
  const set = (on) => { button.setAttribute("aria-pressed", on); apply(on); };
  set(kept.get(id) !== "false");
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    kept.set(id, on);
    set(on);
  });
}

picture.onDrawn = placeDivider;
listen();
chooseView(kept.get("view") ?? "restored");
moveDivider(Number(kept.get("divider") ?? 0.5));
showState();
showFigures();
setInterval(showFigures, 200);
