// Any sampling rate → 16 kHz, by a windowed sinc that lets nothing through which would fold back into speech.
//
//   in   |--|--|--|--|--|--|--|--|      output n stands at input time n · step / phases
//   out  |-------|-------|-------|      each phase between two inputs has its own taps

export const RATE = 16_000;

const PASS = 0.9; // share of the lower half rate that passes unharmed
const DECIBELS = 90; // what lies above is damped by so much
const BETA = 0.1102 * (DECIBELS - 8.7); // Kaiser (1974)

export class Resampler {
  #phases;
  #step;
  #half;
  #taps;
  #input;
  #phase = 0;

  /** @param {number} rate samples per second that come, at least 8000 */
  constructor(rate, to = RATE) {
    const shared = divisor(rate, to);
    this.#phases = to / shared;
    this.#step = rate / shared;
    const lower = Math.min(rate, to) / 2;
    const transition = ((1 - PASS) * lower * 2 * Math.PI) / rate;
    this.#half = Math.ceil((DECIBELS - 7.95) / (2 * 2.285 * transition));
    const cutoff = ((1 + PASS) / 2) * (lower / rate); // in cycles per input sample
    this.#taps = Array.from({ length: this.#phases }, (_, phase) => taps(phase / this.#phases, this.#half, cutoff));
    this.#input = new Float32Array(this.#half - 1); // silence before the first sample
  }

  /** Take samples in [-1, 1], return those that are ready; any chunking gives the same. */
  push(samples) {
    const input = new Float32Array(this.#input.length + samples.length);
    input.set(this.#input);
    input.set(samples, this.#input.length);
    const width = 2 * this.#half;
    const ready = [];
    let at = 0;
    while (at + width <= input.length) {
      const row = this.#taps[this.#phase];
      let sum = 0;
      for (let k = 0; k < width; k += 1) sum += row[k] * input[at + k];
      ready.push(sum);
      this.#phase += this.#step;
      at += Math.floor(this.#phase / this.#phases);
      this.#phase %= this.#phases;
    }
    this.#input = input.slice(at);
    return Float32Array.from(ready);
  }

  /** Return what the last samples still owe. */
  flush() {
    return this.push(new Float32Array(this.#half));
  }
}

/** 16-bit samples, as the server takes them. */
export function pcm(samples) {
  return Int16Array.from(samples, (value) => Math.max(-32_768, Math.min(32_767, Math.round(value * 32_768))));
}

function taps(fraction, half, cutoff) {
  const row = Float32Array.from({ length: 2 * half }, (_, k) => {
    const time = fraction + half - 1 - k; // from input k to the output, in input samples
    return sinc(2 * cutoff * time) * bessel(BETA * Math.sqrt(Math.max(0, 1 - (time / half) ** 2)));
  });
  const sum = row.reduce((total, value) => total + value, 0);
  return row.map((value) => value / sum);
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The modified Bessel function of order 0. */
function bessel(x) {
  let sum = 1;
  for (let k = 1, term = 1; term > sum * 1e-12; k += 1) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function divisor(a, b) {
  return b ? divisor(b, a % b) : a;
}
