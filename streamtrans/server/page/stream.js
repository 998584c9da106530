// A stream over as many calls as it takes: docs/protocol.md, WebSocket with JSON.
//
//   kept   | audio 41 | audio 42 | update | audio 43 |     oldest first; what is acknowledged is forgotten
//
// Law: whatever breaks, the server hears each message once and in order, and the reader gets each event once.

const FORM = "streamtrans.v1+json";
const KEPT = 1_500; // messages that wait for an acknowledgement: two minutes of sound
const PAUSES = [0.1, 0.3, 1, 2, 4]; // seconds between attempts, the last one for ever
const PING_S = 5;
const SILENT_S = 15; // from an open connection; then it is dead, whatever the system believes

const LATE_MS = 4_000;

/** What a status asks of who called (the codes are those of gRPC). */
const OUT_OF_RANGE = 11;
const MEND = new Set([3, 9, OUT_OF_RANGE, 12, 13]);
const OPEN_ANEW = new Set([5, 10, 15]);
const SHOW_A_KEY = new Set([7, 16]);

export function endpoint(path) {
  return new URL(path, location.href.replace(/^http/, "ws")).href.split("#")[0];
}

/**
 * One connection. `told` gets parsed messages, then `closed` gets the status: `{code, message, details}`, or `null`
 * where it broke.
 */
export class Connection {
  #socket;
  #status = null;

  constructor(path, { opened, told, closed }) {
    this.#socket = new WebSocket(endpoint(path), FORM);
    this.#socket.onopen = opened;
    this.heard = performance.now();
    this.#socket.onmessage = ({ data }) => {
      this.heard = performance.now();
      const message = JSON.parse(data);
      if (message.status) this.#status = message.status;
      else told(message);
    };
    this.#socket.onclose = ({ code, reason }) => {
      if (!this.#status && code >= 4_000) this.#status = { code: code - 4_000, message: reason };
      closed(this.#status);
    };
  }

  /** Returns whether there is a connection. */
  send(message) {
    const open = this.#socket.readyState === WebSocket.OPEN;
    if (open) this.#socket.send(message instanceof Int16Array ? message : JSON.stringify(message));
    return open;
  }

  /** Forget it: nothing more is told. */
  abandon() {
    this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
  }
}

/**
 * @typedef {object} Listener
 * @property {(started: object, anew: boolean) => void} started a stream runs; `anew`: it knows nothing of the one before
 * @property {(event: object) => void} told captions, speech events, notices, summary, answers to updates
 * @property {(why: string | null) => void} away the connection is gone, and is looked for; why, where the server said it
 * @property {(problem: {kind: "done" | "cut" | "key" | "silent" | "refused", message: string}) => void} ended `cut`: done,
 *   but the server has lost the last captions
 */
export class Stream {
  #config;
  #key;
  #listener;
  #connection = null;
  #retry = null;
  #watch;
  #attempts = 0;
  #token = "";
  #last = 0; // number of the newest event
  #kept = []; // {number, message, sent}: under the number of its audio, or of the audio that follows it
  #number = 0; // of the newest audio
  #first = 1; // of the oldest that can be sent
  #flowing = false; // the server has answered, and hears
  #waiting = false; // for the next attempt
  #ending = false;
  #renewing = false; // the stream before is lost, and the new one hasn't begun
  #cut = false; // the end of what was said is lost
  #over = false;
  #updates = 0;

  /**
   * @param {object} config `SessionConfig` as JSON, without `resume`
   * @param {Listener} listener
   * @param {string} key "" where none is asked for
   */
  constructor(config, listener, key = "") {
    this.#config = { ...config, resumable: true };
    this.#listener = listener;
    this.#key = key;
    this.#watch = setInterval(() => this.#look(), PING_S * 1_000);
    this.#call();
  }

  /** The right to go on with the stream, or to have it deleted; "" before it has begun. */
  get token() {
    return this.#token;
  }

  /** @param {Int16Array} samples */
  hear(samples) {
    if (this.#ending || this.#over) return;
    this.#number += 1;
    this.#keep(this.#number, samples);
    while (this.#kept.length > KEPT) this.#first = this.#kept.shift().number + 1;
  }

  /** Write other languages from now on. */
  update(add, remove) {
    this.#updates += 1;
    const addTargets = add.map((language) => ({ language }));
    this.#keep(this.#number + 1, { update: { updateId: this.#updates, addTargets, removeTargets: remove } });
  }

  /** Nothing more is said; the last captions follow, then `ended`. */
  end() {
    if (this.#ending) return;
    this.#ending = true;
    if (!this.#token && !this.#flowing && !this.#renewing) this.#finish({ kind: "done", message: "" }); // it never began
    else if (this.#flowing) this.#connection.send({ end: {} });
  }

  /** Nothing more is wanted, and nothing is to be kept. */
  leave() {
    this.#connection?.send({ end: { leave: true } });
    this.#stop();
  }

  #call() {
    this.#waiting = false;
    const connection = new Connection("v1/stream", {
      opened: () => {
        if (this.#key) connection.send({ authorization: `Bearer ${this.#key}` });
        const resume = { token: this.#token, lastEventSequence: String(this.#last) };
        connection.send({ config: this.#token ? { resume } : this.#config });
      },
      told: (message) => this.#heed(message),
      closed: (status) => this.#closed(status),
    });
    this.#connection = connection;
  }

  #heed(message) {
    const sequence = Number(message.eventSequence ?? 0);
    if (message.started) this.#go(message.started);
    if (sequence <= this.#last) return;
    this.#last = sequence;
    if (message.checkpoint) {
      this.#token = message.checkpoint.resumeToken ?? this.#token;
      this.#acknowledge(message.checkpoint.acknowledgedSequence);
    } else if (message.summary) {
      this.#over = true;
    } else if (message.goAway) {
      const { reason, resumeToken } = message.goAway;
      if (this.#token && (reason === "GO_AWAY_REASON_MAX_AGE" || resumeToken)) this.#again(0);
    } else if (message.configApplied || message.configRejected) {
      const { updateId, config } = message.configApplied ?? message.configRejected;
      if (config) this.#config.targets = config.targets;
      this.#kept = this.#kept.filter((each) => each.message.update?.updateId !== updateId);
    }
    if (!message.started) this.#listener.told(message);
  }

  /** Send what the server has not heard, now that it has answered. */
  #go(started) {
    const anew = !this.#token;
    this.#attempts = 0;
    this.#token = started.resumeToken ?? "";
    const heard = Number(started.acknowledgedSequence ?? 0);
    if (heard + 1 < this.#first) {
      for (const each of this.#kept) each.sent = false; // to no avail
      this.#anew(); // sound that it lacks is gone
      return;
    }
    this.#acknowledge(heard);
    if (this.#flowing) return; // an answer to an earlier call, which got lost, has come first; they say the same
    this.#flowing = true;
    this.#cut ||= this.#renewing && this.#ending;
    this.#renewing = false;
    this.#listener.started(started, anew);
    for (const each of this.#kept) this.#send(each);
    if (this.#ending) this.#connection.send({ end: {} });
  }

  #acknowledge(sequence) {
    const heard = Number(sequence ?? 0);
    while (this.#kept.length && this.#kept[0].number <= heard) this.#kept.shift();
  }

  #keep(number, message) {
    const kept = { number, message, sent: false };
    this.#kept.push(kept);
    if (this.#flowing) this.#send(kept);
  }

  #send(kept) {
    kept.sent = this.#connection.send(kept.message) || kept.sent;
  }

  #closed(status) {
    this.#flowing = false;
    if (this.#over || status?.code === 0) {
      this.#finish({ kind: this.#cut ? "cut" : "done", message: "" });
    } else if (SHOW_A_KEY.has(status?.code)) {
      this.#finish({ kind: "key", message: status.message });
    } else if (MEND.has(status?.code)) {
      this.#finish({ kind: status.code === OUT_OF_RANGE ? "silent" : "refused", message: status.message });
    } else if (OPEN_ANEW.has(status?.code) && this.#token) {
      this.#anew();
    } else {
      this.#listener.away(status?.message ?? null);
      this.#again(patience(status) ?? PAUSES[Math.min(this.#attempts, PAUSES.length - 1)]);
      this.#attempts += 1;
    }
  }

  /** Go on with a new stream, from what nobody was sent: the server knows nothing of the old one any more. */
  #anew() {
    // What was sent may have been heard, and would come twice. Changes are asked for again by who hears of the new one.
    const unsent = this.#kept.filter(({ message, sent }) => !sent && !message.update);
    if (this.#ending && !unsent.length) {
      this.#finish({ kind: "cut", message: "" });
      return;
    }
    this.#kept = unsent.map((each, index) => ({ ...each, number: index + 1 }));
    this.#number = unsent.length;
    this.#token = "";
    this.#last = 0;
    this.#first = 1;
    this.#renewing = true;
    this.#again(0);
  }

  #again(seconds) {
    this.#connection.abandon();
    this.#flowing = false;
    this.#waiting = true;
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#call(), seconds * 1_000);
  }

  /** Ask for a sign of life, and call again where none comes. */
  #look() {
    if (this.#waiting) return;
    if (performance.now() - this.#connection.heard > SILENT_S * 1_000) this.#closed(null);
    else if (this.#flowing) this.#connection.send({ ping: { receivedEventSequence: String(this.#last) } });
  }

  #finish(problem) {
    this.#stop();
    this.#listener.ended(problem);
  }

  #stop() {
    this.#over = true;
    this.#flowing = false;
    clearInterval(this.#watch);
    clearTimeout(this.#retry);
    this.#connection.abandon(); // nothing more is told, of no end either
  }
}

/** Whether what is read is far behind what is said. */
export function late(event) {
  return Number(event.cursors?.lagMs ?? 0) > LATE_MS;
}

/** Seconds that a status asks to wait. */
export function patience(status) {
  const info = status?.details?.find((each) => each["@type"]?.endsWith("google.rpc.RetryInfo"));
  return info ? Number.parseFloat(info.retryDelay) : null;
}

/**
 * Somebody else's stream, read along in one language until `leave`.
 *
 * `listener.started(started)`, `.told(event)`, `.away(why)`, `.ended({kind: "done" | "refused", message})`.
 */
export class Watching {
  #listener;
  #request;
  #connection = null;
  #retry = null;
  #attempts = 0;
  #began = false;
  #over = false;
  #since = 0;

  constructor(viewerToken, language, listener) {
    this.#request = { viewerToken, language };
    this.#listener = listener;
    this.#call();
  }

  leave() {
    clearTimeout(this.#retry);
    this.#connection.abandon();
  }

  #call() {
    const connection = new Connection("v1/watch", {
      opened: () => connection.send(this.#request),
      told: (message) => this.#heed(message),
      closed: (status) => this.#closed(status),
    });
    this.#connection = connection;
  }

  #heed(message) {
    if (message.started) {
      this.#began = true;
      this.#attempts = 0;
      this.#listener.started(message.started);
    } else if (message.ended) {
      this.#over = true;
    } else if (message.goAway?.reason === "GO_AWAY_REASON_MAX_AGE") {
      this.#connection.abandon();
      this.#call();
    } else {
      this.#listener.told(message);
    }
  }

  #closed(status) {
    // After a break the speaker comes back first: until then the server knows of no stream.
    if (this.#attempts === 0) this.#since = performance.now();
    const gone = SHOW_A_KEY.has(status?.code) && !(this.#began && performance.now() - this.#since < 60_000);
    if (this.#over || status?.code === 0) {
      this.#listener.ended({ kind: "done", message: "" });
    } else if (gone || MEND.has(status?.code)) {
      this.#listener.ended({ kind: gone ? "gone" : "refused", message: status.message });
    } else {
      this.#listener.away(status?.message ?? null);
      const pause = patience(status) ?? PAUSES[Math.min(this.#attempts, PAUSES.length - 1)];
      this.#attempts += 1;
      this.#retry = setTimeout(() => this.#call(), pause * 1_000);
    }
  }
}
