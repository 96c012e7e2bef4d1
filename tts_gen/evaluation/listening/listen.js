"use strict";
// One page is a state: who listens, where in the test, the ratings so far. It is kept in localStorage at every change.
const $ = (id) => document.getElementById(id);
const test = JSON.parse($("data").textContent);
const endpoint = document.querySelector("main").dataset.endpoint; // filled in by `tts-gen listen serve`
const storageKey = "listening-test:" + test.test;
const words = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const letters = "ABCDEFGHIJKLMNOP";

let state = load() || { listener: "", session: "", started: "", at: 0, done: [], ratings: {}, saved: false };

function load() {
  try { return JSON.parse(localStorage.getItem(storageKey)); } catch { return null; }
}

function keep() {
  try { localStorage.setItem(storageKey, JSON.stringify(state)); }
  catch { notice("This browser keeps nothing: do not close or reload the page before the end."); }
}

function notice(text) { $("notice").textContent = text; $("notice").hidden = !text; }

// Order of the pages: training, then the listener's row of the Latin square.
function rowOf(listener) {
  const digits = listener.match(/\d+$/);
  if (digits) return Math.max(0, Number(digits[0].slice(-9)) - 1);
  let hash = 2166136261; // FNV-1a
  for (const c of listener) hash = Math.imul(hash ^ c.charCodeAt(0), 16777619) >>> 0;
  return hash;
}

function pages() {
  const row = rowOf(state.listener);
  const real = test.order[row % test.order.length].map((i) => test.trials[i]);
  return [...test.training, ...real].map((trial, i) => ({
    trial, training: i < test.training.length,
    stimuli: trial.orders[row % trial.orders.length].map((j) => trial.stimuli[j]),
  }));
}

// Sound: all samples of a page run in step, one is audible; so switching is instant and keeps the position.
const buffers = new Map();
const decoder = new OfflineAudioContext(1, 1, test.rate);
let context = null, player = null;

async function decode(id) {
  if (!buffers.has(id)) {
    const bytes = test.audio
      ? Uint8Array.from(atob(test.audio[id]), (c) => c.charCodeAt(0)).buffer
      : await fetch("wavs/" + id + ".wav").then((r) => { if (!r.ok) throw new Error(r.status); return r.arrayBuffer(); });
    buffers.set(id, await decoder.decodeAudioData(bytes));
  }
  return buffers.get(id);
}

const needed = (page) => [...(page.trial.reference ? [page.trial.reference] : []), ...page.stimuli];

async function decodePage(page) {
  await Promise.all(needed(page).map(decode));
}

function play(id) {
  context ||= new AudioContext();
  context.resume();
  if (player && player.current === id) return stop();
  if (!player) {
    const start = context.currentTime + 0.02;
    player = { start, current: null, since: 0, voices: new Map() };
    for (const each of needed(shown)) {
      const source = new AudioBufferSourceNode(context, { buffer: buffers.get(each), loop: test.loop });
      const gain = new GainNode(context, { gain: 0 });
      source.connect(gain).connect(context.destination);
      source.start(start);
      player.voices.set(each, { source, gain });
    }
    const own = player;
    player.voices.get(id).source.onended = () => { if (player === own) stop(); };
  }
  hear();
  const now = context.currentTime;
  for (const [each, { gain }] of player.voices) {
    gain.gain.cancelScheduledValues(now);
    gain.gain.setTargetAtTime(each === id ? 1 : 0, now, 0.004);
  }
  player.current = id;
  player.since = Math.max(now, player.start);
  mark();
}

function stop() {
  if (!player) return;
  hear();
  const { voices } = player;
  player = null;
  const now = context.currentTime;
  for (const { source, gain } of voices.values()) {
    gain.gain.cancelScheduledValues(now);
    gain.gain.setTargetAtTime(0, now, 0.004);
    source.stop(now + 0.03);
  }
  mark();
}

// How many seconds of a sample have been audible.
function hear() {
  if (!player || player.current === null) return;
  const now = context.currentTime;
  heard[player.current] = (heard[player.current] || 0) + Math.max(0, now - player.since);
  player.since = Math.max(now, player.since);
}

function enough(id) {
  const whole = buffers.get(id).duration - 0.1;
  return (heard[id] || 0) >= Math.min(whole, test.heard ?? whole);
}

// A page of the test.
let shown = null, heard = {};

function element(tag, attributes = {}, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function sampleRow(id, name) {
  const button = element("button", { type: "button", className: "play", textContent: name, onclick: () => play(id) });
  const row = element("div", { className: "row" }, button);
  row.dataset.id = id;
  if (test.kind !== "mushra" || id === shown.trial.reference) return row;
  const slider = element("input", { type: "range", min: test.low, max: test.high, step: 1 });
  slider.setAttribute("aria-label", "Rating of " + name);
  slider.value = state.ratings[id] ?? 50;
  const value = element("output", { className: "value" });
  const rate = () => { state.ratings[id] = slider.valueAsNumber; keep(); mark(); };
  slider.oninput = rate;
  slider.onclick = rate; // a touch where the handle stands changes nothing, and is a rating too
  slider.ontouchend = (event) => { if (event.cancelable) rate(); }; // not cancelable: the end of scrolling
  row.append(element("div", { className: "rate" }, slider), value);
  return row;
}

function radios() {
  const ids = shown.stimuli;
  const options = test.kind === "ab"
    ? [["A", { [ids[0]]: 1, [ids[1]]: 0 }], ["No preference", { [ids[0]]: 0.5, [ids[1]]: 0.5 }], ["B", { [ids[0]]: 0, [ids[1]]: 1 }]]
    : words.map((word, i) => [i + 1 + " " + word, { [ids[0]]: i + 1 }]).reverse();
  const box = element("fieldset", {}, element("legend", { className: "soft", textContent: "Your answer" }));
  for (const [label, ratings] of options) {
    const radio = element("input", { type: "radio", name: "answer" });
    radio.checked = ids.every((id) => state.ratings[id] === ratings[id]);
    radio.onchange = () => { Object.assign(state.ratings, ratings); keep(); mark(); };
    box.append(element("label", {}, radio, label));
  }
  return box;
}

async function show() {
  stop();
  for (const id of ["start", "trial", "end"]) $(id).hidden = true;
  if (!state.listener) { $("start").hidden = false; return; }
  const all = pages();
  if (state.at >= all.length) { $("end").hidden = false; return finish(); }
  shown = all[state.at];
  heard = {};
  try { await decodePage(shown); }
  catch { return notice("The sound files could not be loaded. Ask for the page's address, or for the folder with its wavs."); }
  const nth = state.at - test.training.length;
  $("training").hidden = !shown.training;
  $("title").textContent = shown.training ? `Training ${state.at + 1} of ${test.training.length}` : `Page ${nth + 1} of ${test.trials.length}`;
  $("next").textContent = state.at === all.length - 1 ? "Finish" : "Next";
  const rows = [];
  if (shown.trial.reference) rows.push(sampleRow(shown.trial.reference, "Reference"));
  if (test.kind === "mushra") {
    const scale = element("div", { className: "scale" }, ...words.map((word) => element("span", { textContent: word })));
    rows.push(element("div", { className: "row head" }, element("span"), scale));
  }
  rows.push(...shown.stimuli.map((id, i) => sampleRow(id, test.kind === "mos" ? "Sample" : test.kind === "ab" ? letters[i] : "Sample " + letters[i])));
  $("rows").replaceChildren(...rows);
  $("choice").replaceChildren(...(test.kind === "mushra" ? [] : [radios()]));
  $("trial").hidden = false;
  shown.since = Date.now();
  $("title").focus();
  mark();
  const keepDecoded = new Set(needed(shown)); // one page's samples in memory, and the next one's
  for (const id of buffers.keys()) if (!keepDecoded.has(id)) buffers.delete(id);
  if (all[state.at + 1]) decodePage(all[state.at + 1]).catch(() => {});
}

function mark() {
  let unheard = 0, unrated = 0;
  for (const row of $("rows").querySelectorAll("[data-id]")) {
    const id = row.dataset.id, isReference = id === shown.trial.reference, rating = state.ratings[id];
    const value = row.querySelector(".value");
    row.classList.toggle("playing", Boolean(player) && player.current === id);
    row.classList.toggle("heard", enough(id));
    row.querySelector("button").setAttribute("aria-pressed", Boolean(player) && player.current === id);
    unheard += !enough(id);
    if (isReference) continue;
    unrated += rating === undefined;
    row.classList.toggle("unrated", rating === undefined);
    if (value) value.textContent = rating ?? "–";
  }
  $("next").disabled = unheard > 0 || unrated > 0;
  const todo = [unheard && `${unheard} not yet heard${test.heard ? "" : " to the end"}`, unrated && (test.kind === "mushra" ? `${unrated} not yet rated` : "no answer yet")];
  $("missing").textContent = todo.filter(Boolean).join(", ");
}

setInterval(() => {
  if (!player) { $("progress").style.width = "0"; return; }
  const before = enough(player.current);
  hear();
  if (enough(player.current) !== before) mark();
  const { duration } = buffers.get(player.current);
  const position = Math.max(0, context.currentTime - player.start) % duration;
  $("progress").style.width = `${(100 * position) / duration}%`;
}, 50);

$("next").onclick = () => {
  const ratings = Object.fromEntries(shown.trial.stimuli.map((id) => [id, state.ratings[id]]));
  const seconds = Math.round((Date.now() - shown.since) / 100) / 10;
  if (!shown.training) state.done.push({ trial: shown.trial.id, ratings, seconds });
  state.at += 1;
  keep();
  show();
};

$("rewind").onclick = () => {
  const id = player ? player.current : needed(shown)[0];
  stop();
  play(id);
};

$("who").onsubmit = (event) => {
  event.preventDefault();
  const random = crypto.getRandomValues(new Uint8Array(8));
  state.listener = $("listener").value.trim();
  state.session = Array.from(random, (b) => b.toString(16).padStart(2, "0")).join("");
  state.started = new Date().toISOString();
  keep();
  show();
};

document.addEventListener("keydown", (event) => {
  if ($("trial").hidden || event.ctrlKey || event.metaKey || event.altKey || event.target.type === "text") return;
  const row = event.target.closest(".row[data-id]"), slider = row && row.querySelector("input");
  const ids = needed(shown), step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
  if (event.key === " " && !event.target.matches(".actions button, input[type=radio]:not(:checked)")) {
    play(row ? row.dataset.id : player ? player.current : ids[0]);
  } else if (step && slider && event.target !== slider) {
    slider.valueAsNumber += step * (event.shiftKey ? 10 : 1);
    slider.oninput();
  } else if (test.kind === "mos" && /^[1-5]$/.test(event.key)) {
    $("choice").querySelectorAll("input")[test.high - event.key].click();
  } else if (/^\d$/.test(event.key)) {
    const id = event.key === "0" ? shown.trial.reference : shown.stimuli[event.key - 1];
    if (!id) return;
    $("rows").querySelector(`[data-id="${id}"] button`).focus();
    if (!player || player.current !== id) play(id);
  } else return;
  event.preventDefault();
});

// A focused button would be clicked once more when space is let go.
document.addEventListener("keyup", (event) => {
  if (event.key === " " && event.target.matches(".play, input[type=range]")) event.preventDefault();
});

// The end.
function result() {
  state.finished ||= new Date().toISOString();
  keep();
  const { listener, session, started, finished, done } = state;
  return JSON.stringify({ test: test.test, listener, session, started, finished, trials: done });
}

async function finish() {
  const body = result();
  if (state.saved) { $("saved").textContent = "Your results have been saved. You may close this page."; return; }
  if (!endpoint) { $("saved").textContent = "Please download the results and send the file to whom you had this test from."; return; }
  $("send").hidden = true;
  $("saved").textContent = "Saving…";
  try {
    const answer = await fetch(endpoint, { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok) throw new Error((await answer.text()) || answer.status);
    state.saved = true;
    keep();
    finish();
  } catch (error) {
    $("send").hidden = false;
    $("saved").textContent = `The results could not be sent (${error.message}). They are kept in this browser: send again, or download them.`;
  }
}

$("send").onclick = finish;

$("download").onclick = () => {
  const url = URL.createObjectURL(new Blob([result()], { type: "application/json" }));
  element("a", { href: url, download: `${state.listener}-${state.session}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
  if (!endpoint) state.saved = true;
  keep();
};

$("another").onclick = () => {
  if (!state.saved && !confirm("These results have not been saved. Throw them away?")) return;
  try { localStorage.removeItem(storageKey); } catch { /* nothing was kept */ }
  location.reload();
};

$("listener").value = new URLSearchParams(location.search).get("listener") || "";
show();
