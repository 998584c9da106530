// The speaker's page.

import { Board, nameOf } from "./board.js";
import { download, dress, recall, remember, say, sentence, stayAwake, trouble } from "./look.js";
import { picture } from "./qr.js";
import { listen, Silent } from "./sound.js";
import { late, Stream } from "./stream.js";
import { Transcript } from "./transcript.js";

const at = (id) => document.getElementById(id);
const transcript = new Transcript();
const board = new Board(at("stage"), at("later"));

let key = "";
let offered = null; // what the server says of itself
let chosen = []; // languages of the captions
let sitting = null; // {stream, sound, spoken, awake, viewer}, while captions run
let rights = []; // tokens of all streams of this page, by which they can be deleted

// ---- what the server offers

async function ask() {
  say("Loading …");
  let answer;
  try {
    answer = await fetch("v1/capabilities", { headers: key ? { Authorization: `Bearer ${key}` } : {} });
    offered = answer.ok ? await answer.json() : null;
  } catch {
    answer = null;
  }
  if (offered) {
    offerLanguages();
    trouble("");
    at("ask").hidden = true;
    at("go").disabled = false;
    say("Ready");
  } else if (answer?.status === 401 || answer?.status === 403) {
    askForKey(key ? "That key doesn't open this server." : "");
  } else {
    const loading = answer?.status === 503;
    trouble(loading ? "The server is loading its model. This page goes on by itself." : ABSENT);
    setTimeout(ask, 2_000);
  }
}

const ABSENT = "The server doesn't answer. Is it running (streamtrans serve --page)? This page tries again by itself.";

function askForKey(problem) {
  key = "";
  trouble(problem);
  at("ask").hidden = false;
  at("go").disabled = true;
  at("key").focus();
  say("Needs a key");
}

at("ask").onsubmit = (event) => {
  event.preventDefault();
  key = at("key").value.trim();
  at("key").value = "";
  void ask();
};

// ---- languages

function offerLanguages() {
  const named = offered.languages.map((code) => [code, nameOf(code)]).sort(([, a], [, b]) => a.localeCompare(b));
  const options = named.map(([code, name]) => new Option(name, code));
  at("spoken").replaceChildren(new Option("any language", ""), ...options);
  for (const option of options) option.lang = option.value;
  const spoken = recall("spoken", "");
  at("spoken").value = offered.languages.includes(spoken) ? spoken : "";
  const mine = navigator.languages.map((tag) => tag.split("-")[0]).find((code) => offered.languages.includes(code));
  const remembered = recall("chosen", []).filter((code) => offered.languages.includes(code));
  if (!chosen.length) chosen = remembered.length ? remembered : [mine ?? (offered.languages.includes("en") ? "en" : offered.languages[0])];
  showLanguages();
}

/** What the spoken language can become; the language itself stands for its transcript. */
function possible() {
  const pairs = offered.translations ?? [];
  const spoken = at("spoken").value;
  if (!pairs.length) return offered.languages;
  const fitting = pairs.filter(({ source }) => !spoken || source === spoken);
  return offered.languages.filter((code) => fitting.some(({ targets }) => targets?.includes(code)));
}

function targets() {
  const spoken = at("spoken").value;
  return spoken && !chosen.includes(spoken) && chosen.length < most() ? [spoken, ...chosen] : chosen;
}

function most() {
  return offered.limits?.maxTargets ?? 1;
}

function showLanguages() {
  const chips = chosen.map((code) => {
    const chip = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.append(nameOf(code), " ", cross());
    button.lang = code;
    button.setAttribute("aria-label", `Remove ${nameOf(code)}`);
    button.disabled = chosen.length === 1;
    button.onclick = () => choose(chosen.filter((each) => each !== code));
    chip.append(button);
    return chip;
  });
  at("chosen").replaceChildren(...chips);
  const left = possible().filter((code) => !chosen.includes(code));
  const options = left.map((code) => new Option(nameOf(code), code)).sort((a, b) => a.text.localeCompare(b.text));
  at("add").replaceChildren(new Option("add …", ""), ...options);
  at("add").disabled = !left.length || targets().length >= most();
  board.show(targets(), at("spoken").value);
}

function cross() {
  const mark = document.createElement("span");
  mark.textContent = "×";
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

function choose(languages) {
  const before = targets();
  chosen = languages;
  remember("chosen", chosen);
  showLanguages();
  if (sitting) reconcile(before);
}

/** Ask for what is wanted and not written, and no more for what is written and not wanted. */
function reconcile(written) {
  const wanted = targets();
  const add = wanted.filter((code) => !written.includes(code));
  const remove = written.filter((code) => !wanted.includes(code));
  if (add.length || remove.length) sitting.stream.update(add, remove);
}

at("add").onchange = () => choose([...chosen, at("add").value]);
at("spoken").onchange = () => {
  remember("spoken", at("spoken").value);
  showLanguages();
};

// ---- one sitting

at("go").onclick = () => (sitting ? stop() : start());

async function start() {
  const source = document.querySelector("[name=source]:checked").value;
  at("go").disabled = true;
  trouble("");
  say(source === "tab" ? "Choose what to share …" : "Asking for the microphone …");
  const mine = {};
  try {
    mine.sound = await listen(source, (samples, loudness) => {
      mine.stream?.hear(samples);
      level(loudness);
    }, () => sitting === mine && stop());
  } catch (error) {
    if (!(error instanceof Silent)) throw error;
    trouble(error.message);
    at("go").disabled = false;
    say("Ready");
    return;
  }
  transcript.begin();
  sitting = mine;
  mine.awake = stayAwake();
  const spoken = at("spoken").value;
  const config = {
    audioFormat: { encoding: "AUDIO_ENCODING_PCM_S16LE", sampleRateHertz: 16_000 },
    sourceLanguages: spoken ? [spoken] : [],
    targets: targets().map((language) => ({ language })),
  };
  if (recall("calm", false)) config.mode = "CAPTION_MODE_STABLE";
  running(true);
  say("Connecting …");
  mine.stream = new Stream(config, listener(mine), key);
}

function listener(mine) {
  return {
    started(started, anew) {
      trouble(anew && mine.viewer ? LOST : "");
      if (anew && mine.viewer) {
        transcript.begin();
        board.close();
      }
      if (anew) rights.push(mine.stream.token);
      mine.viewer = started.viewerToken;
      at("share").disabled = !mine.viewer;
      reconcile(started.config.targets.map(({ language }) => language));
      say("Listening", "on");
    },
    told(event) {
      if (event.caption) caption(event.caption);
      else if (event.speech) mine.speech = event.speech.type === SPEAKS;
      else if (NOTICED.has(event.notice?.code)) trouble(sentence(event.notice.message));
      else if (RUNGS.has(event.notice?.code)) mine.busy = event.notice.code === WHOLE;
      else if (event.configRejected) trouble(sentence(event.configRejected.message));
      if (late(event)) say("Captions are late", "away");
      else if (mine.busy) say("Busy: whole sentences only", "away");
      else say(mine.ending ? "Finishing …" : "Listening", mine.speech ? "speech" : "on");
    },
    away(why) {
      say("Looking for the server …", "away");
      trouble(why ? `${sentence(why)} This page tries again by itself.` : AWAY);
    },
    ended(problem) {
      finish(mine);
      if (problem.kind === "key") askForKey(sentence(problem.message));
      else trouble({ cut: CUT, silent: SILENT }[problem.kind] ?? sentence(problem.message));
    },
  };
}

const SPEAKS = "SPEECH_EVENT_TYPE_SPEECH_STARTED";
const WHOLE = "NOTICE_CODE_NO_PARTIALS";
const RUNGS = new Set([WHOLE, "NOTICE_CODE_FEWER_PARTIALS", "NOTICE_CODE_FULL_SERVICE"]);
const NOTICED = new Set(["NOTICE_CODE_NO_SPEECH", "NOTICE_CODE_AUDIO_SCALE"]);
const AWAY = "The server doesn't answer. What you say is kept here, and goes on from where it broke once the server is back.";
const SILENT = "No sound came from the browser for a while, so the server has ended the captions. Start again.";
const CUT = "The server was started anew before it had finished, so the last words may be missing.";
const LOST =
  "The server knows nothing of the captions before, so new ones have begun. A few words may be missing, and viewers need the new link.";

function caption(message) {
  at("intro").hidden = true;
  board.put(transcript.take(message));
  at("take").disabled = false;
}

function stop() {
  sitting.sound.stop();
  sitting.ending = true;
  say("Finishing …", "on");
  at("go").disabled = true;
  sitting.stream.end();
}

function finish(mine) {
  if (sitting !== mine) return; // it was left, and another one may run
  mine.sound.stop();
  mine.awake();
  transcript.close();
  board.close();
  sitting = null;
  running(false);
  say("Stopped");
}

function running(yes) {
  document.documentElement.classList.toggle("running", yes);
  at("verb").textContent = yes ? "Stop" : "Start captions";
  at("go").disabled = false;
  at("spoken").disabled = at("source").disabled = yes;
  if (!yes) {
    at("share").disabled = true;
    level(0);
  }
}

function level(loudness) {
  const decibels = 20 * Math.log10(Math.max(loudness, 1e-4)); // −80 to 0
  at("go").style.setProperty("--level", String(Math.max(0, Math.min(1, (decibels + 60) / 50))));
}

// ---- viewers, files, and what is kept

at("share").onclick = async () => {
  const base = await reachable();
  const link = new URL("watch.html", base ?? location.href);
  link.hash = new URLSearchParams({ token: sitting.viewer, to: chosen.find((code) => code !== at("spoken").value) ?? chosen[0] });
  at("link").href = at("link").textContent = link;
  at("code").replaceChildren(...(base ? [picture(String(link), "QR code of the link for viewers")] : []));
  at("reach").hidden = base !== null;
  at("reach").textContent =
    `${location.hostname} is this machine itself: no phone can reach that address. Start the server with ` +
    "--http-host 0.0.0.0, then this link leads here from the whole network.";
  at("sharing").showModal();
};

/** Where others find this page; `null`: nowhere. */
async function reachable() {
  if (!/^(localhost|127\..*|\[::1\])$|\.localhost$/.test(location.hostname)) return location.href;
  const answer = await fetch("page.json").catch(() => null);
  return answer?.ok ? ((await answer.json()).addresses[0] ?? null) : null;
}

at("copy").onclick = async () => {
  await navigator.clipboard?.writeText(at("link").href);
  at("copy").textContent = navigator.clipboard ? "Copied" : "Copy it from above";
  setTimeout(() => (at("copy").textContent = "Copy the link"), 2_000);
};

download(() => transcript);

at("keeping").onclick = () => {
  const facts = kept().map((fact) => {
    const item = document.createElement("li");
    item.textContent = fact;
    return item;
  });
  at("facts").replaceChildren(...facts);
  at("deleted").textContent = "";
  at("kept").showModal();
};

function kept() {
  const facts = ["This page keeps the captions, in this tab alone, until you close it or delete them."];
  if (!offered) return facts;
  const { recorded, storedMs } = offered.keeping ?? {};
  const seconds = (milliseconds) => `${Math.round(Number(milliseconds ?? 0) / 1_000)} seconds`;
  facts.push(
    "While captions run, the server holds the last sentences, for viewers who come late. " +
      `If the connection breaks it waits ${seconds(offered.limits?.resumeMs)}, then it forgets them.`,
  );
  if (storedMs) facts.push(`So that captions survive a restart, their latest texts are also stored, up to ${seconds(storedMs)} after the last word.`);
  facts.push(
    recorded
      ? "This server records: the sound and all captions, until they are deleted, by you here or by who runs it."
      : "This server records nothing: no sound and no text is written to its disks" + (storedMs ? " beyond that." : "."),
  );
  facts.push("Theme, text size and languages are remembered in this browser.");
  return facts;
}

at("delete").onclick = async () => {
  if (sitting) {
    sitting.stream.leave();
    finish(sitting);
  }
  transcript.forget();
  board.clear();
  at("intro").hidden = false;
  at("take").disabled = true;
  const answers = await Promise.all(rights.map(forget));
  rights = rights.filter((_, index) => !answers[index]);
  at("deleted").textContent = rights.length
    ? "The captions here are gone, but the server didn't answer: what it keeps is still there. Try again."
    : "All of it is deleted.";
};

async function forget(resumeToken) {
  const headers = { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
  const answer = await fetch("v1/forget", { method: "POST", headers, body: JSON.stringify({ resumeToken }) }).catch(() => null);
  return answer?.ok ?? false;
}

addEventListener("beforeunload", (event) => {
  if (sitting || transcript.languages.length) event.preventDefault();
});

dress(() => board.settle());
board.show([], "");
void ask();
