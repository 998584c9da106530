// How the page looks: theme, size of the text, settled words only, the whole screen. Remembered in this browser alone.

import { nameOf } from "./board.js";

const at = (id) => document.getElementById(id);
const SIZES = [0.7, 0.85, 1, 1.2, 1.45, 1.75, 2.1];

export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`streamtrans.${name}`)) ?? otherwise;
  } catch {
    return otherwise; // storage is off, or holds something else
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`streamtrans.${name}`, JSON.stringify(value));
  } catch {
    // storage is off: it is forgotten with the page
  }
}

/**
 * Bring the buttons of the header to life.
 *
 * @param {() => void} changed is called after text has another size
 */
export function dress(changed) {
  const root = document.documentElement;

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => recall("theme", dark.matches ? "dark" : "light");
  const paint = () => {
    root.dataset.theme = theme();
    at("theme").setAttribute("aria-pressed", String(theme() === "dark"));
  };
  at("theme").onclick = () => {
    remember("theme", theme() === "dark" ? "light" : "dark");
    paint();
  };
  dark.onchange = paint;
  paint();

  const size = (step) => {
    const index = Math.max(0, Math.min(SIZES.length - 1, recall("size", 2) + step));
    remember("size", index);
    root.style.setProperty("--scale", String(SIZES[index] ?? 1));
    at("smaller").disabled = index === 0;
    at("larger").disabled = index === SIZES.length - 1;
    changed();
  };
  at("smaller").onclick = () => size(-1);
  at("larger").onclick = () => size(1);
  size(0);

  const calm = () => {
    root.classList.toggle("calm", recall("calm", false));
    at("calm").setAttribute("aria-pressed", String(recall("calm", false)));
    changed();
  };
  at("calm").onclick = () => {
    remember("calm", !recall("calm", false));
    calm();
  };
  calm();

  const screen = at("screen");
  screen.hidden = !document.fullscreenEnabled;
  screen.onclick = () => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen());
  document.addEventListener("fullscreenchange", () => {
    const whole = Boolean(document.fullscreenElement);
    root.classList.toggle("whole", whole);
    screen.setAttribute("aria-pressed", String(whole));
  });
}

/** Keep the screen on while captions run. Returns how to let it go. */
export function stayAwake() {
  let lock = null;
  const take = async () => {
    if (document.visibilityState !== "visible") return;
    lock = await navigator.wakeLock?.request("screen").catch(() => null);
  };
  void take();
  document.addEventListener("visibilitychange", take);
  return () => {
    document.removeEventListener("visibilitychange", take);
    void lock?.release();
  };
}

/** Say what the page is doing. */
export function say(doing, lamp = "") {
  if (at("doing").textContent !== doing) at("doing").textContent = doing;
  at("state").dataset.lamp = lamp;
}

/** Say what is wrong; "": nothing is. */
export function trouble(problem) {
  at("problem").hidden = !problem;
  if (at("problem").textContent !== problem) at("problem").textContent = problem;
}

/** A server's words as a sentence. */
export function sentence(message) {
  return message && `${message[0].toUpperCase()}${message.slice(1)}${/[.!?]$/.test(message) ? "" : "."}`;
}

/** Bring the button to life that hands out files. @param {() => import("./transcript.js").Transcript} transcript */
export function download(transcript) {
  at("take").onclick = () => {
    offer(transcript());
    at("taking").showModal();
  };
}

/** Show, by language, buttons that save the transcript. */
function offer(transcript) {
  const day = new Date().toISOString().slice(0, 10);
  const rows = transcript.languages.map((language) => {
    const row = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = nameOf(language);
    name.lang = language;
    const buttons = ["txt", "srt", "vtt"].map((form) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = form;
      button.setAttribute("aria-label", `${nameOf(language)} as ${form}`);
      button.onclick = () => save(`captions-${day}.${language}.${form}`, transcript.file(language, form));
      return button;
    });
    row.append(name, ...buttons);
    return row;
  });
  at("files").replaceChildren(...rows);
}

/** Hand out a file that was made here. */
function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
