// What was said, segment by segment and language by language; and the files that one takes away.
//
// Law: committed text only grows; a file holds each text once, in the order in which it was said.

/**
 * @typedef {{language: string, committed: string, tentative: string, final: boolean}} Line
 * @typedef {{number: number, start: number, end: number, lines: Map<string, Line>}} Segment times in ms
 */

export class Transcript {
  /** @type {Map<string, Segment>} */
  #segments = new Map();
  #stream = 0;
  #offset = 0;
  #end = 0;

  /** Let a new stream follow; of the one before, what was promised stays as it is. */
  begin() {
    this.close();
    this.#stream += 1;
    this.#offset = this.#end;
  }

  /** Let nothing more come: what was promised is all. */
  close() {
    for (const { lines } of this.#segments.values()) {
      for (const line of lines.values()) Object.assign(line, { tentative: "", final: true });
    }
  }

  /**
   * Take a caption as it comes in JSON.
   *
   * @returns {{segment: Segment, line: Line, added: string | null}} what is new of the committed text; `null`: all of it
   */
  take(caption) {
    const key = `${this.#stream} ${caption.segmentId ?? 0}`;
    const segment = this.#segments.get(key) ?? { number: this.#segments.size, lines: new Map() };
    this.#segments.set(key, segment);
    segment.start = this.#offset + Number(caption.startMs ?? 0);
    segment.end = this.#offset + Number(caption.endMs ?? 0);
    this.#end = Math.max(this.#end, segment.end, this.#offset + Number(caption.heardMs ?? 0));
    const before = segment.lines.get(caption.language)?.committed ?? "";
    const whole = (caption.snapshot ? "" : before) + (caption.committedAppend ?? "");
    const line = {
      language: caption.language,
      committed: whole,
      tentative: caption.tentative ?? "",
      final: caption.final ?? false,
    };
    segment.lines.set(caption.language, line);
    return { segment, line, added: whole.startsWith(before) ? whole.slice(before.length) : null };
  }

  get segments() {
    return [...this.#segments.values()];
  }

  /** Languages in which something was promised. */
  get languages() {
    const written = this.segments.flatMap(({ lines }) => [...lines.values()].filter(({ committed }) => committed.trim()));
    return [...new Set(written.map(({ language }) => language))];
  }

  forget() {
    this.#segments.clear();
    this.#offset = this.#end = 0;
  }

  /** @param {"txt" | "srt" | "vtt"} form */
  file(language, form) {
    const cues = this.segments
      .map(({ start, end, lines }) => ({ start, end, text: lines.get(language)?.committed.trim() ?? "" }))
      .filter(({ text }) => text);
    return FORMS[form](cues);
  }
}

const FORMS = {
  txt: (cues) => cues.map(({ text }) => `${text}\n`).join(""),
  srt: (cues) =>
    cues.map(({ start, end, text }, at) => `${at + 1}\n${time(start, ",")} --> ${time(end, ",")}\n${text}\n\n`).join(""),
  vtt: (cues) =>
    `WEBVTT\n\n${cues.map(({ start, end, text }) => `${time(start, ".")} --> ${time(end, ".")}\n${escaped(text)}\n\n`).join("")}`,
};

function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function time(milliseconds, point) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const seconds = Math.floor(milliseconds / 1_000);
  const rest = String(milliseconds % 1_000).padStart(3, "0");
  return `${two(seconds / 3_600)}:${two((seconds / 60) % 60)}:${two(seconds % 60)}${point}${rest}`;
}
