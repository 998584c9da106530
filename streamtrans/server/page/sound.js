// The microphone, or the sound of a tab, as 16-bit samples at 16 kHz.

import { Resampler, pcm } from "./resample.js";

const CHUNK = 1_280; // 80 ms

/** Why there is no sound, in a sentence that says what to do. */
export class Silent extends Error {}

/**
 * Hear until `stop` is called.
 *
 * @param {"microphone" | "tab"} source
 * @param {(samples: Int16Array, loudness: number) => void} hear gets 80 ms each
 * @param {() => void} ended is called when the source ends by itself
 * @returns {Promise<{stop: () => void}>}
 * @throws {Silent}
 */
export async function listen(source, hear, ended) {
  const media = await (source === "tab" ? tab() : microphone());
  const [track] = media.getAudioTracks();
  const context = new AudioContext();
  const halt = () => {
    for (const each of media.getTracks()) each.stop();
    void context.close();
  };
  try {
    await context.audioWorklet.addModule("tap.js");
    await context.resume();
  } catch {
    halt();
    const answers = await fetch("tap.js").then(({ ok }) => ok, () => false);
    throw new Silent(
      answers
        ? "This browser can't hand its sound to the page. Update it, or use another one."
        : "The server doesn't answer. Start it (streamtrans serve --page), then start the captions again.",
    );
  }
  const chunks = new Chunks(context.sampleRate, hear);
  const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
  tap.port.onmessage = ({ data }) => chunks.push(data);
  context.createMediaStreamSource(new MediaStream([track])).connect(tap);
  let over = false;
  const stop = () => {
    if (over) return;
    over = true;
    tap.port.onmessage = null;
    chunks.flush();
    halt();
  };
  track.onended = () => {
    if (!over) {
      stop();
      ended();
    }
  };
  return { stop };
}

class Chunks {
  #resampler;
  #hear;
  #rest = new Float32Array(0);

  constructor(rate, hear) {
    this.#resampler = new Resampler(rate);
    this.#hear = hear;
  }

  push(samples) {
    this.#take(this.#resampler.push(samples), CHUNK);
  }

  flush() {
    this.#take(this.#resampler.flush(), 1);
  }

  #take(samples, least) {
    const all = new Float32Array(this.#rest.length + samples.length);
    all.set(this.#rest);
    all.set(samples, this.#rest.length);
    let at = 0;
    while (all.length - at >= least && at < all.length) {
      const piece = all.subarray(at, at + CHUNK);
      this.#hear(pcm(piece), Math.sqrt(piece.reduce((sum, value) => sum + value * value, 0) / piece.length));
      at += piece.length;
    }
    this.#rest = all.slice(at);
  }
}

async function microphone() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Silent(insecure("microphone"));
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  } catch (error) {
    throw new Silent(
      {
        NotAllowedError:
          "The browser may not use the microphone. Allow it beside the address of this page, or in the privacy " +
          "settings of the system, then start again.",
        NotFoundError: "There is no microphone. Plug one in and start again, or caption the sound of a tab.",
        NotReadableError: "The microphone can't be opened; another program may be using it. Close that, then start again.",
      }[error.name] ?? `The microphone can't be opened: ${error.message}.`,
    );
  }
}

async function tab() {
  if (!navigator.mediaDevices) throw new Silent(insecure("sound of a tab"));
  if (!navigator.mediaDevices.getDisplayMedia) {
    throw new Silent("This browser can't share the sound of a tab. Chrome or Edge on a computer can.");
  }
  let media;
  try {
    // browsers insist on a picture; nobody looks at it
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    media = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: plain, systemAudio: "include" });
  } catch (error) {
    const refused = "Nothing was shared. Start again and choose the tab that plays the sound.";
    throw new Silent(error.name === "NotAllowedError" ? refused : `Nothing can be shared: ${error.message}.`);
  }
  if (!media.getAudioTracks().length) {
    for (const track of media.getTracks()) track.stop();
    throw new Silent("That came without sound. Start again, choose a tab, and tick “Also share tab audio”.");
  }
  return media;
}

function insecure(what) {
  const local = `http://localhost${location.port && `:${location.port}`}`;
  return (
    `Browsers give the ${what} only to pages that came encrypted, or from the same machine. ` +
    `Open this page by https (streamtrans serve --tls-cert … --tls-key …), or as ${local} where the server runs.`
  );
}
