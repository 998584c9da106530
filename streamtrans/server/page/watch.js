// A viewer's page. The right to read along comes in the fragment of its address, which browsers send to nobody.

import { Board, nameOf } from "./board.js";
import { download, dress, recall, remember, say, sentence, stayAwake, trouble } from "./look.js";
import { late, Watching } from "./stream.js";
import { Transcript } from "./transcript.js";

const at = (id) => document.getElementById(id);
const board = new Board(at("stage"), at("later"));
const given = new URLSearchParams(location.hash.slice(1));

let transcript = new Transcript();
let watching = null;

function read(language) {
  watching?.leave();
  transcript = new Transcript();
  transcript.begin();
  board.clear();
  board.show([language], "");
  say("Connecting …");
  watching = new Watching(given.get("token") ?? "", language, {
    started(started) {
      offerLanguages(started.languages ?? [started.language], started.language);
      trouble("");
      say("Reading along", "on");
    },
    told(event) {
      if (event.caption) {
        board.put(transcript.take(event.caption));
        at("take").disabled = false;
      }
      if (late(event)) say("Captions are late", "away");
      else say("Reading along", "on");
    },
    away(why) {
      say("Looking for the speaker …", "away");
      trouble(why ? `${sentence(why)} This page tries again by itself.` : AWAY);
    },
    ended: over,
  });
}

const AWAY = "The server doesn't answer. This page tries again by itself, and shows what was said meanwhile.";

function over({ kind, message }) {
  transcript.close();
  board.close();
  awake();
  say("Over");
  if (kind === "done") trouble("The speaker has stopped. These captions stay here until you close the page.");
  else if (kind === "gone") trouble("There are no captions under this link, or not any more. Ask the speaker for a new one.");
  else trouble(sentence(message));
}

function offerLanguages(languages, current) {
  const options = languages.map((code) => new Option(nameOf(code), code)).sort((a, b) => a.text.localeCompare(b.text));
  for (const option of options) option.lang = option.value;
  at("language").replaceChildren(...options);
  at("language").value = current;
}

at("language").onchange = () => {
  remember("reads", at("language").value);
  read(at("language").value);
};

download(() => transcript);

/** What this reader understands, where the server writes it; else what the speaker chose. */
async function wished() {
  const answer = await fetch("v1/capabilities").catch(() => null);
  const known = answer?.ok ? (await answer.json()).languages : [];
  if (known.length) offerLanguages(known, given.get("to"));
  const mine = [recall("reads", ""), ...navigator.languages.map((tag) => tag.split("-")[0])];
  return mine.find((code) => known.includes(code)) ?? given.get("to") ?? "en";
}

dress(() => board.settle());
const awake = stayAwake();
addEventListener("hashchange", () => location.reload());
read(await wished());
