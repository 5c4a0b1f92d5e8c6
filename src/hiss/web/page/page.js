// The page: forms become requests to the HTTP interface of the same server, and jobs become cards.
import { decode, draw, wav } from "./sound.js";

const $ = (query, from = document) => from.querySelector(query);
const all = (query, from = document) => [...from.querySelectorAll(query)];
const copy = (id) => $(`#${id}`).content.cloneNode(true);
const say = (text) => ($("#status").textContent = text);

if (location.hash.length > 1) {
  sessionStorage.setItem("token", decodeURIComponent(location.hash.slice(1)));
  history.replaceState(null, "", location.pathname);
}

async function call(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) $("#enter").showModal();
  if (!response.ok) throw new Error((await response.json().catch(() => null))?.detail ?? `the server answers ${response.status}`);
  return response;
}

// Calls `heard` with each report of a job, until it has ended.
async function follow(job, heard) {
  const reader = (await call(`/v1/jobs/${job.id}/events`)).body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", part; !(part = await reader.read()).done; ) {
    const events = (rest + part.value).split("\n\n");
    rest = events.pop();
    for (const event of events) if (event.startsWith("data: ")) heard(JSON.parse(event.slice(6)));
  }
}

// Sends what a form asks for and shows what becomes of it.
async function ask(title, path, options, { file = null, compare = false } = {}) {
  const card = copy("card").firstElementChild, stop = new AbortController();
  let job = null;
  const show = (selector, visible) => ($(selector, card).hidden = !visible);
  const end = () => {
    stop.abort();
    if (job) call(`/v1/jobs/${job.id}`, { method: "DELETE" }).catch(() => {});
  };
  $("h2", card).textContent = title;
  $(".running span", card).textContent = "sending";
  $(".cancel", card).onclick = () => (end(), show(".running", false), refuse(card, "cancelled"));
  $(".remove", card).onclick = () => (end(), card.remove(), $(".main:not(:disabled)", active())?.focus());
  $(".empty")?.remove();
  $("#sitting").prepend(card);
  say(`${title}: working`);
  try {
    const response = await call(path, { method: "POST", signal: stop.signal, ...options, headers: { ...options.headers, Prefer: "respond-async" } });
    job = await response.json();
    if (stop.signal.aborted) end();
    await follow(job, (report) => {
      job = report;
      const progress = $("progress", card);
      if (report.total) (progress.max = report.total), (progress.value = report.done);
      $(".running span", card).textContent = report.total ? `${Math.round((100 * report.done) / report.total)} %` : report.state;
    });
    if (stop.signal.aborted) return;
    show(".running", false);
    if (job.state !== "done") throw new Error(job.problem?.detail ?? job.state);
    $(".facts", card).textContent = [job.model, job.seed !== null && `seed ${job.seed}`].filter(Boolean).join(", ");
    for (const [index, sound] of job.sounds.entries()) await showSound(card, job, index, sound, compare ? file : null);
    for (const button of all(".same button", card)) button.onclick = () => tell(button, card, job, file);
    show(".same", true);
    say(`${title}: done`);
  } catch (error) {
    if (stop.signal.aborted) return;
    show(".running", false);
    refuse(card, error.message);
  }
}

function refuse(card, text) {
  $(".problem", card).textContent = text;
  $(".problem", card).hidden = false;
  say(text);
}

// Shows a sound of a job, and where there is a file to compare it with, a way to hear that instead.
async function showSound(card, job, index, sound, file) {
  const place = `/v1/jobs/${job.id}/sounds/${index}`, part = copy("sound").firstElementChild;
  const content = await (await call(`${place}?format=wav`)).blob(), audio = $("audio", part), canvas = $("canvas", part);
  const shown = async (blob) => ({ url: URL.createObjectURL(blob), sound: await decode(await blob.arrayBuffer(), sound.sample_rate) });
  const after = await shown(content), before = file && (await shown(file));
  const use = ({ url, sound }, name) => {
    const { currentTime, paused } = audio;
    audio.src = url;
    audio.currentTime = currentTime;
    if (!paused) audio.play();
    canvas.hidden = !sound;
    canvas.setAttribute("aria-label", `Waveform and mel spectrogram ${name}`);
    if (sound) draw(canvas, sound);
  };
  use(after, `of sound ${index + 1}`);
  for (const button of all("[data-format]", part)) {
    button.setAttribute("aria-label", `Download ${button.textContent}`);
    button.onclick = () => download(`${place}?format=${button.dataset.format}`, `${job.task}-${index}.${button.dataset.format}`, card);
  }
  if (before) {
    const swap = Object.assign(document.createElement("button"), { textContent: "Hear before" });
    swap.onclick = () => {
      const back = audio.src === before.url;
      swap.textContent = back ? "Hear before" : "Hear after";
      use(back ? after : before, back ? "after" : "before");
    };
    $("figcaption", part).prepend(swap);
  }
  $(".sounds", card).append(part);
}

async function download(path, name, card) {
  try {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await (await call(path)).blob());
    link.download = name;
    link.click();
  } catch (error) {
    refuse(card, error.message);
  }
}

// Copies how to do the same; the server calls every file recording.wav, only the page knows its name.
async function tell(button, card, job, file) {
  let text = job[button.dataset.as];
  if (file && button.dataset.as === "python") text = text.replaceAll("'recording.wav'", JSON.stringify(file.name));
  if (file && button.dataset.as === "command") text = text.replaceAll("recording.wav", `'${file.name.replaceAll("'", `'\\''`)}'`);
  const shown = $("pre", card);
  (shown.textContent = text), (shown.hidden = false);
  try {
    await navigator.clipboard.writeText(text);
    say("copied");
  } catch {
    getSelection().selectAllChildren(shown); // not every browser lets a page write there
    say("press Ctrl+C to copy");
  }
}

// --- forms

const models = await call("/v1/models").then((response) => response.json(), (error) => (say(error.message), []));
const active = () => $("[role=tabpanel]:not([hidden])");

const field = (form, name) => form.elements.namedItem(name); // elements.length is something else

function option(value, text = value) {
  return Object.assign(document.createElement("option"), { value, textContent: text });
}

function labelled(text, input) {
  const label = document.createElement("label");
  label.append(text, input);
  return label;
}

function prepare(form, task) {
  const able = models.filter((model) => model.tasks.includes(task)), select = form.elements.model;
  select.append(...able.map((model) => option(model.name)));
  const model = () => able.find((one) => one.name === select.value);
  $("details", form)?.append(copy("more"));
  select.onchange = () => {
    const { labels, text, seconds, steps, sampler, samplers, guidance } = model();
    field(form, "steps").placeholder = steps;
    if (task === "denoise") return;
    const own = Object.entries(labels).map(([name, classes]) => {
      const choice = Object.assign(document.createElement("select"), { name: "label" });
      choice.append(option("", "any"), ...classes.map((one) => option(one)));
      return labelled(name, choice);
    });
    if (text) own.push(labelled("Prompt", Object.assign(document.createElement("input"), { name: "label" })));
    $(".prompt", form).replaceChildren(...own);
    field(form, "length").placeholder = `${seconds} s`;
    field(form, "guidance").placeholder = guidance;
    field(form, "sampler").replaceChildren(option("", `${sampler} (its own)`), ...samplers.map((one) => option(one)));
  };
  select.onchange();
}

// What a form says, without what it leaves open.
function said(form, names) {
  const pairs = names.map((name) => [name, field(form, name).value]).filter(([, value]) => value !== "");
  const words = ["model", "sampler", "negative", "how"];
  return Object.fromEntries(pairs.map(([name, value]) => [name, words.includes(name) ? value : Number(value)]));
}

function making(form) {
  const prompt = all("[name=label]", form).map((input) => input.value).filter(Boolean).join(" ");
  const names = ["model", "length", "steps", "sampler", "guidance", "negative", "temperature", "seed"];
  return { ...said(form, names), ...(prompt && { prompt }) };
}

function title(asked, fallback) {
  return asked.prompt ? `${asked.prompt} (${asked.model})` : `${fallback} (${asked.model})`;
}

const json = (asked) => ({ body: JSON.stringify(asked), headers: { "Content-Type": "application/json" } });

function sent(path, asked, file) {
  const form = new FormData();
  form.append("audio", file, "audio"); // the server needs no name
  return [`${path}?${new URLSearchParams(asked)}`, { body: form }];
}

function recordingOf(form) {
  const place = $(".file", form), state = { file: null, sound: null };
  place.append(copy("picker"));
  const drop = $(".drop", place), input = $("input", place), record = $(".record", place);
  const take = async (files) => {
    [state.file = null] = files;
    state.sound = state.file && (await decode(await state.file.arrayBuffer()));
    form.dispatchEvent(new Event("recording"));
  };
  input.onchange = () => take(input.files);
  drop.ondragover = (event) => (event.preventDefault(), drop.classList.add("over"));
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    input.files = event.dataTransfer.files;
    take(input.files);
  };
  record.hidden = !navigator.mediaDevices; // browsers offer it on this machine and over HTTPS only
  let recorder = null;
  record.onclick = async () => {
    if (recorder) return recorder.stop();
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true }).catch((error) => say(error.message));
    if (!stream) return;
    const parts = [];
    recorder = new MediaRecorder(stream);
    recorder.ondataavailable = (event) => parts.push(event.data);
    recorder.onstop = async () => {
      stream.getTracks().forEach((track) => track.stop());
      (recorder = null), (record.textContent = "Record");
      const sound = await decode(await new Blob(parts).arrayBuffer(), 48000); // the server does not read what browsers record
      const files = new DataTransfer();
      if (sound) files.items.add(wav(sound, "recording.wav"));
      input.files = files.files;
      take(input.files);
    };
    recorder.start();
    record.textContent = "Stop";
  };
  return state;
}

function prepareGenerate(form) {
  prepare(form, "generate");
  form.onsubmit = () => {
    const asked = { ...making(form), ...said(form, ["count"]) };
    ask(title(asked, "anything"), form.dataset.path, json(asked));
  };
}

function prepareDenoise(form) {
  prepare(form, "denoise");
  const recording = recordingOf(form), { share } = form.elements;
  const decibels = () => -20 * Math.log10(share.value / 100);
  share.oninput = () => {
    const text = share.value > 0 ? `${share.value} %, ${decibels().toFixed(0)} dB lower` : "none";
    $("output", form).textContent = text;
    share.setAttribute("aria-valuetext", text);
  };
  form.onsubmit = () => {
    const { file } = recording;
    const asked = { ...said(form, ["model", "steps"]), ...(share.value > 0 && { keep_db: Math.max(0, decibels()).toFixed(2) }) };
    ask(`${file.name}, denoised`, ...sent(form.dataset.path, asked, file), { file, compare: true });
  };
}

function prepareEdit(form) {
  prepare(form, "edit");
  const recording = recordingOf(form), { how, audio, start, end } = form.elements, canvas = $("canvas", form);
  const span = () => (start.value && end.value ? [Number(start.value), Number(end.value)] : null);
  const redraw = () => recording.sound && draw(canvas, recording.sound, span());
  const arrange = () => {
    $(".file", form).hidden = how.value === "loop";
    audio.required = how.value !== "loop";
    $(".span", form).hidden = how.value !== "inpaint";
    start.required = end.required = how.value === "inpaint";
    $(".strength", form).hidden = how.value !== "vary";
    redraw();
  };
  const at = (event) => {
    const { samples, rate } = recording.sound, { left, width } = canvas.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - left) / width)) * (samples.length / rate);
  };
  let anchor = null;
  canvas.onpointerdown = (event) => recording.sound && (canvas.setPointerCapture(event.pointerId), (anchor = at(event)));
  canvas.onpointermove = (event) => {
    if (anchor === null) return;
    [start.value, end.value] = [anchor, at(event)].sort((one, other) => one - other).map((seconds) => seconds.toFixed(3));
    redraw();
  };
  canvas.onpointerup = canvas.onpointercancel = () => (anchor = null);
  form.addEventListener("change", arrange);
  form.addEventListener("recording", redraw);
  arrange();
  form.onsubmit = () => {
    const asked = making(form);
    if (how.value === "loop") return ask(title(asked, "a loop"), "/v1/generate", json({ ...asked, loop: true }));
    Object.assign(asked, said(form, { vary: ["how", "strength"], inpaint: ["how", "start", "end"], continue: ["how"] }[how.value]));
    const { file } = recording;
    ask(`${file.name}, ${{ vary: "varied", inpaint: "mended", continue: "continued" }[how.value]}`, ...sent(form.dataset.path, asked, file), { file });
  };
}

async function prepareModels(panel) {
  for (const { name } of models) {
    const card = Object.assign(document.createElement("div"), { className: "model" });
    card.innerHTML = await (await call(`/v1/models/${encodeURIComponent(name)}/card`)).text();
    panel.append(card);
  }
}

// --- tabs: what no model can do is not there; arrows walk over those that are

const tabs = all("[role=tab]").filter((tab) => {
  const able = !tab.dataset.task || models.some((model) => model.tasks.includes(tab.dataset.task));
  if (!able) tab.remove();
  return able;
});

function choose(tab) {
  for (const one of tabs) {
    one.setAttribute("aria-selected", one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    $(`#${one.getAttribute("aria-controls")}`).hidden = one !== tab;
  }
}

const prepared = { generate: prepareGenerate, denoise: prepareDenoise, edit: prepareEdit };
for (const [index, tab] of tabs.entries()) {
  const panel = $(`#${tab.getAttribute("aria-controls")}`);
  tab.onclick = () => choose(tab);
  tab.onkeydown = ({ key }) => {
    const to = { ArrowRight: index + 1, ArrowLeft: index - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[key];
    if (to !== undefined) choose(tabs[to % tabs.length]), tabs[to % tabs.length].focus();
  };
  if (tab.dataset.task) prepared[tab.dataset.task]($("form", panel));
  else prepareModels(panel);
}
document.addEventListener("submit", (event) => event.target.method !== "dialog" && event.preventDefault());
document.addEventListener("keydown", ({ key }) => key === "Escape" && $(".running:not([hidden]) .cancel")?.click());
$("#enter form").onsubmit = ({ target }) => (sessionStorage.setItem("token", target.elements.token.value), location.reload());
choose(tabs[0]);
document.documentElement.dataset.ready = "";
