// Frames and state from the display node: the newest only, over one WebSocket.

const RECONNECT_MS = [300, 600, 1200, 2500];
const PINGS = 8;

// Server times are put onto this page's clock, by the exchange with the shortest way of the last
// few: so ages are right on a slow link too, and whatever the clocks say.
class ServerClock {
  #samples = [];

  add(sent, serverNow) {
    const now = performance.now();
    this.#samples.push({ round: now - sent, offset: (sent + now) / 2 - serverNow });
    if (this.#samples.length > PINGS) this.#samples.shift();
  }

  toHere(serverTime) {
    if (!this.#samples.length) return null;
    const best = this.#samples.reduce((a, b) => (a.round <= b.round ? a : b));
    return serverTime + best.offset;
  }
}

// A frame: its header, decoded pictures by name, and when the camera took it on this page's clock.
async function decode(message, clock, received) {
  const view = new DataView(message);
  const length = view.getUint32(0);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(message, 4, length)));
  let position = 4 + length;
  const pictures = {};
  await Promise.all(header.parts.map(([name, size]) => {
    const bytes = new Uint8Array(message, position, size);
    position += size;
    const type = name === "area" ? "image/png" : "image/jpeg";
    return createImageBitmap(new Blob([bytes], { type })).then((made) => { pictures[name] = made; });
  }));
  const taken = (clock.toHere(header.made) ?? received) - header.age_ms;
  return { header, pictures, taken };
}

export class FrameStream {
  #socket = null;
  #clock = new ServerClock();
  #wanted = "driver";
  #waiting = null;
  #isDecoding = false;
  #failures = 0;
  #pinging = 0;

  // handlers: frame(frame), state(state), connected(true or false)
  constructor(handlers) {
    this.handlers = handlers;
    this.#open();
  }

  want(stream) {
    if (stream === this.#wanted) return;
    this.#wanted = stream;
    this.#say("stream", stream);
  }

  enable(enabled) {
    this.#say("enable", enabled);
  }

  #open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/frames`);
    socket.binaryType = "arraybuffer";
    this.#socket = socket;
    socket.onopen = () => {
      this.#failures = 0;
      this.#clock = new ServerClock();
      this.#say("stream", this.#wanted);
      this.#ping(0);
      this.handlers.connected(true);
    };
    socket.onmessage = (event) => this.#hear(event.data);
    socket.onclose = () => {
      clearTimeout(this.#pinging);
      this.handlers.connected(false);
      const pause = RECONNECT_MS[Math.min(this.#failures++, RECONNECT_MS.length - 1)];
      setTimeout(() => this.#open(), pause);
    };
  }

  #say(kind, value) {
    if (this.#socket?.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ kind, value }));
    }
  }

  #ping(count) {
    this.#say("ping", performance.now());
    this.#pinging = setTimeout(() => this.#ping(count + 1), count < PINGS ? 200 : 5000);
  }

  #hear(data) {
    if (typeof data !== "string") {
      if (this.#waiting) this.#say("ack", null);  // it is passed over
      this.#waiting = { data, received: performance.now() };
      if (!this.#isDecoding) this.#work();
      return;
    }
    const said = JSON.parse(data);
    if (said.kind === "pong") this.#clock.add(said.sent, said.now);
    else if (said.kind === "state") this.handlers.state(said);
  }

  // A frame is acknowledged when it is taken up; the server has one on its way meanwhile, two to a
  // page that is quick. The newest is decoded next.
  async #work() {
    this.#isDecoding = true;
    while (this.#waiting) {
      const { data, received } = this.#waiting;
      this.#waiting = null;
      this.#say("ack", null);
      try {
        this.handlers.frame(await decode(data, this.#clock, received));
      } catch (error) {
        console.error("a frame that does not decode", error);
      }
    }
    this.#isDecoding = false;
  }
}
