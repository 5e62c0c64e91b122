// Draw the image: one, split or side by side, with boxes and the tinted road on it.

const INK = "#f2f5f8";
const NAMES = { restored: "restored", camera: "camera, relayed", unconfirmed: "unconfirmed" };

export class ImageView {
  view = "restored";
  divider = 0.5;
  showBoxes = true;
  showArea = true;
  place = { x: 0, y: 0, width: 0, height: 0 };  // of the split image, in CSS pixels
  #frame = null;
  #isDue = false;

  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onDrawn = () => {};
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(frame) {
    const old = this.#frame;
    this.#frame = frame;
    for (const image of Object.values(old?.images ?? {})) image.close();
    this.draw();
  }

  // Draw before the browser's next repaint; several calls until then make one drawing.
  draw() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => { this.#isDue = false; this.#draw(); });
  }

  #draw() {
    const { canvas, context } = this;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingQuality = "high";
    context.clearRect(0, 0, width, height);
    if (this.#frame) this.#drawFrame(this.#frame, width, height);
    this.onDrawn();
  }

  #drawFrame(frame, width, height) {
    const { driver, camera } = frame.images;
    const name = NAMES[frame.header.status] ?? "";
    if (this.view === "side") {
      const isPortrait = height > width;
      const half = isPortrait ? { width, height: height / 2 - 2 } : { width: width / 2 - 2, height };
      const other = isPortrait ? { x: 0, y: height / 2 + 2 } : { x: width / 2 + 2, y: 0 };
      this.#drawOne(frame, camera, { x: 0, y: 0, ...half }, "camera");
      this.#drawOne(frame, driver ?? camera, { ...other, ...half }, name);
      return;
    }
    const image = this.view === "raw" ? camera ?? driver : driver ?? camera;
    const box = { x: 0, y: 0, width, height };
    const place = this.#drawOne(frame, image, box, "");
    this.place = place;
    if (this.view === "split" && driver) this.#drawSplit(frame, camera, place, name);
  }

  #drawOne(frame, image, box, name) {
    if (!image) {
      this.#write("no camera image", box.x + box.width / 2, box.y + box.height / 2);
      return box;
    }
    const scale = Math.min(box.width / image.width, box.height / image.height);
    const [width, height] = [image.width * scale, image.height * scale];
    const place = {
      x: box.x + (box.width - width) / 2, y: box.y + (box.height - height) / 2, width, height,
    };
    this.context.drawImage(image, place.x, place.y, width, height);
    this.#drawOverlay(frame, place);
    if (name) this.#tag(name, place, "left");
    return place;
  }

  #drawSplit(frame, camera, place, name) {
    const { context } = this;
    const width = place.width * this.divider;
    context.save();
    context.beginPath();
    context.rect(place.x, place.y, width, place.height);
    context.clip();
    if (camera) {
      context.drawImage(camera, place.x, place.y, place.width, place.height);
      this.#drawOverlay(frame, place);
    } else {
      context.fillStyle = "#0b0e12";
      context.fillRect(place.x, place.y, width, place.height);
      this.#write("no camera image", place.x + width / 2, place.y + place.height / 2);
    }
    context.restore();
    this.#tag("camera", place, "left");
    this.#tag(name, place, "right");
  }

  #drawOverlay(frame, place) {
    const { context } = this;
    const { area } = frame.images;
    if (area && this.showArea) context.drawImage(area, place.x, place.y, place.width, place.height);
    if (!this.showBoxes) return;
    const scale = place.width / frame.header.size[0];
    for (const [left, top, right, bottom, text, colour] of frame.header.boxes) {
      const [x, y] = [place.x + left * scale, place.y + top * scale];
      context.strokeStyle = colour;
      context.lineWidth = 3;
      context.strokeRect(x, y, (right - left) * scale, (bottom - top) * scale);
      if (text) this.#label(text, x - 1.5, y, colour, place.width / 50);
    }
  }

  #label(text, x, y, colour, preferred) {
    const { context } = this;
    const size = Math.max(11, Math.min(20, preferred));
    this.#font(size, 700);
    const width = context.measureText(text).width + 12;
    const top = Math.max(0, y - size - 8);
    context.fillStyle = colour;
    context.fillRect(x, top, width, size + 8);
    context.fillStyle = "#0b0e12";
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, x + 6, top + (size + 8) / 2);
  }

  #tag(text, place, side) {
    if (!text) return;
    const { context } = this;
    const size = Math.max(14, Math.min(20, this.canvas.clientHeight / 34));
    this.#font(size, 600);
    const width = context.measureText(text).width + 1.3 * size;
    const x = side === "left" ? place.x + 10 : place.x + place.width - width - 10;
    context.fillStyle = "#0b0e12b8";
    context.beginPath();
    context.roundRect(x, place.y + 10, width, 1.9 * size, 8);
    context.fill();
    context.fillStyle = INK;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(text, x + 0.65 * size, place.y + 10 + 0.97 * size);
  }

  #write(text, x, y) {
    this.#font(18, 500);
    this.context.fillStyle = "#9aa7b4";
    this.context.textAlign = "center";
    this.context.textBaseline = "middle";
    this.context.fillText(text, x, y);
  }

  #font(size, weight) {
    this.context.font = `${weight} ${size}px ${getComputedStyle(document.body).fontFamily}`;
  }
}
