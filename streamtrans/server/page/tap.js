// In the audio thread: what is heard becomes mono, and leaves in pieces of some 20 ms rather than 128 samples.

class Tap extends AudioWorkletProcessor {
  #piece = new Float32Array(1_024);
  #filled = 0;

  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let at = 0; at < length; at += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[at];
      this.#piece[this.#filled] = sum / channels.length;
      this.#filled += 1;
      if (this.#filled === this.#piece.length) {
        this.port.postMessage(this.#piece);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("tap", Tap);
