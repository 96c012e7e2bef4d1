"use strict";
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg", WIDTH = 560, HEIGHT = 190, TOP = 14, BOTTOM = 34, SHORTEST = 12;

for (const kind of ["prosody", "acoustic"])
  Object.keys(OFFER[kind]).forEach((name, i) => {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", value: name, checked: i === 0 });
    label.append(box, " " + name);
    $(kind).append(label);
  });
for (const [id, names] of [["speaker", OFFER.speakers], ["style", OFFER.styles]])
  for (const name of names) $(id).append(new Option(name, name));
$("text").maxLength = OFFER.longest;

function tell(what, wrong = false) {
  $("told").textContent = what;
  $("told").className = wrong ? "wrong" : "";
}

async function post(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

const chosen = (kind) => [...$(kind).querySelectorAll(":checked")].map((box) => box.value);

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const temperatures = $("temperatures").value.split(",").filter((t) => t.trim()).map(Number), asked = [];
  if (!temperatures.length || temperatures.some((t) => !(t >= 0))) return tell("temperatures: numbers of at least 0, with commas between", true);
  for (const prosody of chosen("prosody"))
    for (const acoustic of chosen("acoustic"))
      // A regression gives one answer, whatever the temperature and the seed.
      for (const prosody_temperature of OFFER.prosody[prosody] ? temperatures : [0])
        for (let take = 0; take < (OFFER.prosody[prosody] || OFFER.acoustic[acoustic] ? $("number").valueAsNumber || 1 : 1); take++)
          asked.push({ prosody, acoustic, prosody_temperature, seed: $("seed").valueAsNumber + take });
  if (!asked.length) return tell("choose at least one model of prosody and one of mels", true);
  $("speak").disabled = true;
  $("takes").replaceChildren();
  try {
    for (const [i, one] of asked.entries()) {
      tell(`speaking ${i + 1} of ${asked.length}; the first time a model compiles`);
      const numbers = Object.fromEntries(["acoustic_temperature", "pace", "pitch", "pitch_range"].map((id) => [id, $(id).valueAsNumber]));
      const labels = { text: $("text").value, speaker: $("speaker").value, style: $("style").value };
      show({ ...one, ...numbers }, await post("speak", { ...one, ...numbers, ...labels }));
    }
    tell("Drag a bar up or down for its pitch, an edge sideways for the duration before it; then speak it as drawn.");
  } catch (error) {
    tell(error.message, true);
  }
  $("speak").disabled = false;
});

function element(parent, name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  parent.append(made);
  return made;
}

/** A card: what was asked, its sound, its prosody to be drawn. */
function show(asked, found) {
  const card = document.createElement("article"), audio = document.createElement("audio");
  const header = document.createElement("header"), settings = document.createElement("span"), footer = document.createElement("footer");
  const again = document.createElement("button"), save = document.createElement("button"), figure = document.createElementNS(SVG, "svg");
  card.className = "take";
  header.append(`${asked.prosody} → ${asked.acoustic}`, settings);
  settings.textContent = `${OFFER.prosody[asked.prosody] ? `τ ${asked.prosody_temperature}, ` : ""}seed ${asked.seed}`;
  settings.title = `mels τ ${asked.acoustic_temperature}, pace ${asked.pace}, pitch ${asked.pitch}, range ${asked.pitch_range}`;
  audio.controls = true;
  figure.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  again.textContent = "Speak as drawn";
  save.textContent = "Save prosody";
  footer.append(again, save);
  card.append(header, audio, figure, footer);
  $("takes").append(card);
  let prosody = found.prosody;
  const hear = (wav) => { audio.src = "data:audio/wav;base64," + wav; };
  hear(found.wav);
  draw(figure, prosody);
  again.addEventListener("click", async () => {
    again.disabled = true;
    try {
      const { acoustic, acoustic_temperature, seed } = asked;
      const spoken = await post("voice", { acoustic, acoustic_temperature, seed, prosody });
      hear(spoken.wav);
      audio.play().catch(() => {});
      tell("spoken as drawn");
    } catch (error) {
      tell(error.message, true);
    }
    again.disabled = false;
  });
  save.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([JSON.stringify(prosody, null, 1)], { type: "application/json" }));
    link.download = "prosody.json";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}

/** Bars of f0 over phonemes in time; dragging changes `prosody` in place. */
function draw(figure, prosody, moved = new Set()) {
  const phonemes = prosody.phonemes, total = phonemes.reduce((sum, p) => sum + p.ms, 0);
  const pitches = phonemes.filter((p) => p.hz !== null).map((p) => Math.log(p.hz));
  const low = Math.min(...pitches, Math.log(100)) - 0.15, high = Math.max(...pitches, Math.log(250)) + 0.15;
  const x = (ms) => (ms / total) * WIDTH, span = HEIGHT - TOP - BOTTOM;
  const y = (hz) => TOP + ((high - Math.log(hz)) / (high - low)) * span;
  const hz = (py) => Math.exp(high - ((py - TOP) / span) * (high - low));
  figure.replaceChildren();
  for (const mark of [50, 100, 150, 200, 300, 400, 600].filter((m) => Math.log(m) > low && Math.log(m) < high)) {
    element(figure, "line", { x1: 0, x2: WIDTH, y1: y(mark), y2: y(mark), class: "edge" });
    element(figure, "text", { x: 3, y: y(mark) - 3, class: "axis" }, `${mark} Hz`);
  }
  let from = 0;
  phonemes.forEach((p, i) => {
    const left = x(from), right = x(from + p.ms);
    from += p.ms;
    element(figure, "line", { x1: right, x2: right, y1: 0, y2: HEIGHT, class: "edge" });
    element(figure, "text", { x: (left + right) / 2, y: HEIGHT - (i % 2 ? 6 : 19) }, p.phone);
    const grip = element(figure, "line", { x1: right, x2: right, y1: 0, y2: HEIGHT, class: "grip", "data-edge": i });
    const before = p.ms;
    drag(figure, grip, (dx) => { p.ms = Math.max(SHORTEST, before + (dx / WIDTH) * total); }, () => draw(figure, prosody, moved));
    if (p.hz === null) return;
    const bar = { x1: left + 3, x2: Math.max(right - 3, left + 4), y1: y(p.hz), y2: y(p.hz) };
    const line = element(figure, "line", { ...bar, class: moved.has(i) ? "pitch moved" : "pitch", "data-pitch": i });
    element(line, "title", {}, `${p.phone}: ${Math.round(p.hz)} Hz, ${Math.round(p.ms)} ms`);
    const start = y(p.hz);
    drag(figure, line, (dx, dy) => {
      p.hz = Math.min(2000, Math.max(20, hz(start + dy)));
      moved.add(i);
      line.setAttribute("y1", y(p.hz));
      line.setAttribute("y2", y(p.hz));
    }, () => draw(figure, prosody, moved));
  });
}

/** Calls change(dx, dy), in the figure's units, while `handle` is dragged, and done() at its end. */
function drag(figure, handle, change, done) {
  handle.addEventListener("pointerdown", (start) => {
    start.preventDefault();
    handle.setPointerCapture(start.pointerId);
    const scale = WIDTH / figure.getBoundingClientRect().width;
    const move = (now) => change((now.clientX - start.clientX) * scale, ((now.clientY - start.clientY) * HEIGHT) / figure.getBoundingClientRect().height);
    handle.addEventListener("pointermove", move);
    handle.addEventListener("lostpointercapture", () => { handle.removeEventListener("pointermove", move); done(); }, { once: true });
  });
}
