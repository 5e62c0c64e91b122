// Chart the age of each frame when it was shown, over the last minute.

const SPAN_MS = 60000;
const MAX_POINTS = 4000;

export class AgeChart {
  limit = 500;  // ms; an older frame is stale
  #points = [];

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
  }

  add(age, status) {
    this.#points.push({ at: performance.now(), age, status });
    if (this.#points.length > MAX_POINTS) this.#points.shift();
  }

  // Return the largest age of the last minute, in ms; null without frames.
  peak() {
    this.#removeOld();
    return this.#points.length ? Math.max(...this.#points.map((point) => point.age)) : null;
  }

  draw() {
    this.#removeOld();
    const { canvas, context } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const style = getComputedStyle(document.body);
    const highest = Math.max(this.limit * 1.25, (this.peak() ?? 0) * 1.1);
    const y = (age) => height - 2 - (height - 6) * Math.min(1, age / highest);
    this.#drawLimit(style, width, y(this.limit));
    this.#drawPoints(style, width, height, y);
  }

  #drawLimit(style, width, y) {
    const { context } = this;
    context.strokeStyle = style.getPropertyValue("--red");
    context.globalAlpha = 0.75;
    context.setLineDash([6, 6]);
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(width, y);
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = style.getPropertyValue("--red");
    context.font = `600 13px ${style.fontFamily}`;
    context.textBaseline = "top";
    context.fillText(`stale over ${this.limit} ms`, 2, y + 4);
    context.globalAlpha = 1;
  }

  #drawPoints(style, width, height, y) {
    const { context } = this;
    const now = performance.now();
    const colours = {
      restored: style.getPropertyValue("--green"),
      stale: style.getPropertyValue("--red"),
    };
    const bar = Math.max(1.5, width / 600);
    for (const { at, age, status } of this.#points) {
      const x = width * (1 - (now - at) / SPAN_MS);
      const top = y(age);
      context.fillStyle = colours[status] ?? style.getPropertyValue("--amber");
      context.globalAlpha = 0.3;
      context.fillRect(x - bar, top, bar, height - top);
      context.globalAlpha = 1;
      context.fillRect(x - bar, top - 1, bar + 0.5, 2.5);
    }
  }

  #removeOld() {
    const oldest = performance.now() - SPAN_MS;
    const kept = this.#points.findIndex((point) => point.at >= oldest);
    this.#points.splice(0, kept < 0 ? this.#points.length : kept);
  }
}
