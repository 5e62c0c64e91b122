// Receive frames and state from the display node over one WebSocket: the newest only.

const RECONNECT_MS = [300, 600, 1200, 2500];
const PINGS = 8;

// Converts the server's times to this page's clock, by the exchange with the shortest round trip of
// the last few: so ages are right on a slow link too, and however the clocks are set.
class ServerClock {
  #samples = [];

  add(sent, serverNow) {
    const now = performance.now();
    this.#samples.push({ round: now - sent, offset: (sent + now) / 2 - serverNow });
    if (this.#samples.length > PINGS) this.#samples.shift();
  }

  toLocal(serverTime) {
    if (!this.#samples.length) return null;
    const best = this.#samples.reduce((a, b) => (a.round <= b.round ? a : b));
    return serverTime + best.offset;
  }
}

// Decode a packet: its header, its images by name, and when the camera took the frame, on this
// page's clock. hub.py describes the format.
async function decode(message, clock, received) {
  const view = new DataView(message);
  const length = view.getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(message, 4, length)));
  let position = 4 + length;
  const images = {};
  await Promise.all(header.parts.map(([name, size]) => {
    const bytes = new Uint8Array(message, position, size);
    position += size;
    const type = name === "area" ? "image/png" : "image/jpeg";
    return createImageBitmap(new Blob([bytes], { type })).then((image) => { images[name] = image; });
  }));
  const captured = (clock.toLocal(header.made) ?? received) - header.age_ms;
  return { header, images, captured };
}

export class FrameStream {
  #socket = null;
  #clock = new ServerClock();
  #stream = "driver";
  #waiting = null;
  #isDecoding = false;
  #failures = 0;
  #pinging = 0;

  // handlers: frame(frame), state(state), connected(true or false)
  constructor(handlers) {
    this.handlers = handlers;
    this.#open();
  }

  selectStream(stream) {
    if (stream === this.#stream) return;
    this.#stream = stream;
    this.#send("stream", stream);
  }

  enable(enabled) {
    this.#send("enable", enabled);
  }

  #open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/frames`);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      this.#failures = 0;
      this.#clock = new ServerClock();
      this.#send("stream", this.#stream);
      this.#ping(0);
      this.handlers.connected(true);
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = () => {
      clearTimeout(this.#pinging);
      this.handlers.connected(false);
      const delay = RECONNECT_MS[Math.min(this.#failures++, RECONNECT_MS.length - 1)];
      setTimeout(() => this.#open(), delay);
    };
  }

  #send(kind, value) {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ kind, value }));
    }
  }

  #ping(count) {
    this.#send("ping", performance.now());
    this.#pinging = setTimeout(() => this.#ping(count + 1), count < PINGS ? 200 : 5000);
  }

  #receive(data) {
    if (typeof data !== "string") {
      if (this.#waiting) this.#send("ack", null);  // it is skipped
      this.#waiting = { data, received: performance.now() };
      if (!this.#isDecoding) this.#decodeWaiting();
      return;
    }
    const message = JSON.parse(data);
    if (message.kind === "pong") this.#clock.add(message.sent, message.now);
    else if (message.kind === "state") this.handlers.state(message);
  }

  // Decode the newest frame until none waits. A frame is acknowledged when its decoding begins, so
  // that the next is on its way meanwhile (two are, to a page that is quick).
  async #decodeWaiting() {
    this.#isDecoding = true;
    while (this.#waiting) {
      const { data, received } = this.#waiting;
      this.#waiting = null;
      this.#send("ack", null);
      try {
        this.handlers.frame(await decode(data, this.#clock, received));
      } catch (error) {
        console.error("a frame that does not decode", error);
      }
    }
    this.#isDecoding = false;
  }
}
