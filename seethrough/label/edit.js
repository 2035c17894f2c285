"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};

const UNSURE = Number(document.body.dataset.unsure);  // Confidence below which one should look.
const FLAGS = ["valid", "incomplete", "checked"];
const LEFT_OUT = "left out";
const stage = $("#stage");
const plane = $("#plane");

let characters = [];  // As the server lists them.
let shown = null;  // The character that is open: its layers are back to front.
let parts = [];  // Its pictures and rows, by layer.
let rows = [];
let order = [];  // Layers as the list shows them.
const histories = new Map();  // By character: changes that were made, and those undone.
const state = { current: 0, solo: null, hidden: new Set(), unsureFirst: true, last: undefined };
const view = { zoom: 1, panX: 0, panY: 0 };

async function ask(path, options) {
  const answer = await fetch(path, options);
  const content = await answer.json().catch(() => ({ error: answer.statusText }));
  if (!answer.ok) throw Object.assign(new Error(content.error), { status: answer.status });
  return content;
}

/* Saving: the newest labels, one request at a time; what fails is kept and told. */

const saving = { dirty: false, running: null, problem: null };

function save() {
  saving.dirty = true;
  saving.running ??= push();
  return saving.running;
}

async function push() {
  try {
    while (saving.dirty) await pushOnce();
  } catch (problem) {
    Object.assign(saving, { dirty: true, problem });
    tellSaving(`Not saved: ${problem.message}`, problem.status === 409);
  } finally {
    saving.running = null;
  }
}

async function pushOnce() {
  saving.dirty = false;
  tellSaving("Saving…");
  const { id, labels, revision } = shown;
  const body = JSON.stringify({ labels, revision });
  const headers = { "Content-Type": "application/json" };
  const saved = await ask(`characters/${encodeURIComponent(id)}`, { method: "PUT", headers, body });
  shown.revision = saved.revision;
  saving.problem = null;
  tellSaving(`Saved ${new Date().toLocaleTimeString()}`);
}

function tellSaving(text, changed = false) {
  const failed = saving.problem !== null && saving.dirty;
  $("#saved").textContent = text;
  $("#saving").classList.toggle("failed", failed);
  $("#retry").hidden = !failed || changed;
  $("#reload").hidden = $("#overwrite").hidden = !changed;
}

/** Somebody else wrote the file: take theirs, or put ours in its place. */
async function resolve(mine) {
  const theirs = await ask(`characters/${encodeURIComponent(shown.id)}`);
  if (mine) {
    shown.revision = theirs.revision;
    await save();
  } else {
    Object.assign(saving, { dirty: false, problem: null });
    histories.delete(shown.id);
    tellSaving("Loaded the file");
    await open(shown.id);
  }
}

/* Changes. One is [what, before, after]; `what` is a flag, or a layer's index. */

const history = () => {
  if (!histories.has(shown.id)) histories.set(shown.id, { done: [], undone: [] });
  return histories.get(shown.id);
};
const labelOf = (index) => shown.labels.layers[shown.layers[index].id];
const isUnsure = (index) => (labelOf(index)?.confidence ?? 0) < UNSURE;

function put(what, value) {
  if (typeof what === "string") {
    shown.labels[what] = value;
  } else {
    const id = shown.layers[what].id;
    if (value === undefined) delete shown.labels.layers[id];
    else shown.labels.layers[id] = value;
    // In the file as in the character.
    const entries = shown.layers.map((layer) => [layer.id, shown.labels.layers[layer.id]]);
    shown.labels.layers = Object.fromEntries(entries.filter(([, label]) => label !== undefined));
    state.current = what;
  }
}

function change(what, value) {
  const before = typeof what === "string" ? shown.labels[what] : labelOf(what);
  if (JSON.stringify(before) === JSON.stringify(value)) return;
  history().done.push([what, before, value]);
  history().undone = [];
  put(what, value);
  render();
  save();
}

function step(from, to, side, word) {
  const entry = history()[from].pop();
  if (!entry) return say(`Nothing to ${word}`);
  history()[to].push(entry);
  put(entry[0], entry[side]);
  render();
  scrollToCurrent();
  say(`${word === "undo" ? "Undone" : "Done again"}: ${nameOf(entry[0])}`);
  save();
}

const undo = () => step("done", "undone", 1, "undo");
const redo = () => step("undone", "done", 2, "redo");
const nameOf = (what) => (typeof what === "string" ? what : shown.layers[what].path.at(-1));

function give(tag) {
  state.last = tag;
  change(state.current, { tag, confidence: 1, by: "person" });
  say(`${nameOf(state.current)}: ${tag ?? LEFT_OUT}`);
}

/** The tag is right: then on to what else is unsure. */
function accept() {
  const label = labelOf(state.current);
  if (!label) return say("It has no tag yet");
  give(label.tag);
  nextUnsure();
}

/* Layers. */

const isShown = (index) =>
  state.solo === null ? !state.hidden.has(index) : state.solo === index;
const say = (text) => { $("#status").textContent = text; };

function choose(index, focus = false) {
  if (!shown?.layers[index]) return;
  state.current = index;
  if (state.solo !== null) state.solo = index;
  render();
  scrollToCurrent();
  if (focus) $(".pick", rows[index]).focus({ preventScroll: true });
  say(shown.layers[index].path.join(" / "));
}

const scrollToCurrent = () => rows[state.current]?.scrollIntoView({ block: "nearest" });
const move = (by) => choose(order[clamp(order.indexOf(state.current) + by, 0, order.length - 1)], focusInList());
const focusInList = () => $("#rows").contains(document.activeElement);

function nextUnsure() {
  const start = order.indexOf(state.current);
  const next = [...order.slice(start + 1), ...order.slice(0, start + 1)].find(isUnsure);
  if (next === undefined) say("Nothing is unsure");
  else choose(next);
}

function toggle(index) {
  if (!state.hidden.delete(index)) state.hidden.add(index);
  state.solo = null;
  render();
}

function solo(index) {
  state.solo = state.solo === index ? null : index;
  state.current = index;
  render();
}

function showAll() {
  state.hidden.clear();
  state.solo = null;
  render();
}

/** The list anew: by confidence, or front to back. It stays so while labels change. */
function sortRows() {
  order = shown.layers.map((_, index) => index).reverse();
  const sureness = (index) => labelOf(index)?.confidence ?? -1;
  if (state.unsureFirst) order.sort((one, other) => sureness(one) - sureness(other));
  $("#rows").append(...order.map((index) => rows[index]));
  $("#order").textContent = state.unsureFirst ? "Unsure first" : "Front first";
}

/* State to page. */

function render() {
  const unsure = shown.layers.filter((_, index) => isUnsure(index)).length;
  $("#count").textContent = `${shown.layers.length} layers, ${unsure} unsure, tags of ${shown.labels.tag_set}`;
  rows.forEach((row, index) => {
    const label = labelOf(index);
    const current = index === state.current;
    row.classList.toggle("current", current);
    row.classList.toggle("off", !isShown(index));
    row.classList.toggle("unsure", isUnsure(index));
    row.classList.toggle("unlabelled", !label);
    $(".given b", row).textContent = label ? label.tag ?? LEFT_OUT : "no tag";
    $(".given em", row).textContent = label ? `${Math.round(100 * label.confidence)} % by ${label.by}` : "";
    $("input", row).checked = !state.hidden.has(index);
    $(".solo", row).setAttribute("aria-pressed", String(state.solo === index));
    $(".pick", row).setAttribute("aria-current", String(current));
    for (const control of $$("input, button", row)) control.tabIndex = current ? 0 : -1;
    parts[index].classList.toggle("off", !isShown(index));
  });
  for (const flag of FLAGS) $(`#${flag}`).checked = shown.labels[flag];
  $("#undo").disabled = !history().done.length;
  $("#redo").disabled = !history().undone.length;
  const [x1, y1, x2, y2] = shown.layers[state.current]?.box ?? [0, 0, 0, 0];
  const style = { left: `${x1}px`, top: `${y1}px`, width: `${x2 - x1}px`, height: `${y2 - y1}px` };
  Object.assign($(".frame", plane).style, style);
  if (document.activeElement !== $("#tag")) $("#tag").value = labelOf(state.current)?.tag ?? "";
  layOut();
}

function layOut() {
  if (!shown) return;
  const [width, height] = shown.canvas;
  const scale = view.zoom * 0.94 * Math.min(stage.clientWidth / width, stage.clientHeight / height);
  const left = (stage.clientWidth - width * scale) / 2 + view.panX;
  const top = (stage.clientHeight - height * scale) / 2 + view.panY;
  plane.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
  plane.style.setProperty("--scale", scale);
  plane.classList.toggle("coarse", scale * devicePixelRatio > 2);
  return { scale, left, top };
}

/** Zoom about a point of the stage. */
function zoom(factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) {
  const to = clamp(view.zoom * factor, 0.5, 32);
  const ratio = to / view.zoom;
  const [dx, dy] = [x - stage.clientWidth / 2, y - stage.clientHeight / 2];
  Object.assign(view, { zoom: to, panX: dx - (dx - view.panX) * ratio, panY: dy - (dy - view.panY) * ratio });
  layOut();
}

function whole() {
  Object.assign(view, { zoom: 1, panX: 0, panY: 0 });
  layOut();
}

/** Zoom to the chosen layer. */
function closeUp() {
  const [x1, y1, x2, y2] = shown.layers[state.current].box;
  const fill = 0.4 * Math.min(stage.clientWidth / (x2 - x1), stage.clientHeight / (y2 - y1));
  whole();
  const { scale } = layOut();
  zoom(fill / scale);
  const [width, height] = shown.canvas;
  view.panX = (width / 2 - (x1 + x2) / 2) * layOut().scale;
  view.panY = (height / 2 - (y1 + y2) / 2) * layOut().scale;
  layOut();
}

function nextGround() {
  const grounds = ["checker", "white", "black"];
  const next = grounds[(grounds.indexOf(document.body.dataset.ground) + 1) % grounds.length];
  document.body.dataset.ground = next;
}

/** The frontmost shown layer under a pointer that isn't transparent there, or -1. */
function layerAt(event) {
  const { scale, left, top } = layOut();
  const box = stage.getBoundingClientRect();
  const [x, y] = [(event.clientX - box.left - left) / scale, (event.clientY - box.top - top) / scale];
  const probe = make("canvas", { width: 1, height: 1 });
  const context = probe.getContext("2d", { willReadFrequently: true });
  return shown.layers.findLastIndex(({ box: [x1, y1, x2, y2] }, index) => {
    if (!isShown(index) || x < x1 || x >= x2 || y < y1 || y >= y2) return false;
    context.clearRect(0, 0, 1, 1);
    context.drawImage($("img", parts[index]), x1 - Math.floor(x), y1 - Math.floor(y));
    return context.getImageData(0, 0, 1, 1).data[3] > 25;
  });
}

/* Characters. */

async function open(id) {
  const read = await ask(`characters/${encodeURIComponent(id)}`);
  shown = read;
  Object.assign(state, { current: 0, solo: null });
  state.hidden = new Set(read.layers.flatMap((layer, index) => (layer.visible ? [] : [index])));
  $("#name").textContent = document.title = read.name;
  $("#characters").value = id;
  const [width, height] = read.canvas;
  Object.assign(plane.style, { width: `${width}px`, height: `${height}px` });
  parts = read.layers.map((layer, index) => makePart(layer, index));
  rows = read.layers.map((layer, index) => makeRow(layer, index));
  plane.replaceChildren($(".ground", plane), ...parts, make("div", { className: "frame" }));
  $("#rows").replaceChildren();
  sortRows();
  state.current = order[0] ?? 0;
  whole();
  render();
  scrollToCurrent();
}

function makePart(layer, index) {
  const [left, top, right, bottom] = layer.box;
  const image = make("img", { className: "picture", alt: "", src: `characters/${encodeURIComponent(shown.id)}/${index}` });
  // By then another character may be open.
  const ifOpen = (action) => () => { if (image.parentElement === parts[index]) action(); };
  const broken = () => say(`${layer.id}: its picture can't be read`);
  image.decode().then(ifOpen(() => drawThumbnail(image, index)), ifOpen(broken));
  const part = make("div", { className: "part" }, image);
  Object.assign(part.style, {
    left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px`, opacity: layer.opacity,
    mixBlendMode: { add: "plus-lighter" }[layer.blend] ?? layer.blend,
  });
  return part;
}

function drawThumbnail(image, index) {
  const canvas = $("canvas", rows[index]);
  const scale = Math.min(canvas.width / image.naturalWidth, canvas.height / image.naturalHeight, 8);
  const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

function makeRow(layer, index) {
  const name = layer.path.at(-1);
  const row = make("li");
  const eye = make("label", { className: "eye", title: "Show or hide (V)" });
  eye.innerHTML = '<input type="checkbox"><svg aria-hidden="true"><use class="open" href="#eye"/><use class="shut" href="#eye-shut"/></svg>';
  $("input", eye).setAttribute("aria-label", `Show ${name}`);
  const given = make("span", { className: "given" }, make("b"), make("em"));
  const text = make("span", { className: "text" }, given, make("small", { textContent: layer.path.join(" / "), title: layer.id }));
  const pick = make("button", { type: "button", className: "pick" }, make("canvas", { width: 88, height: 88 }), text);
  const only = make("button", { type: "button", className: "solo", textContent: "Solo", title: "Only this layer (S)" });
  only.setAttribute("aria-label", `Solo ${name}`);
  row.append(eye, pick, only);
  $("input", eye).addEventListener("change", () => toggle(index));
  pick.addEventListener("click", () => choose(index));
  only.addEventListener("click", () => solo(index));
  return row;
}

/** Open another character, once what was changed here is on the disk. */
async function leaveFor(id) {
  if (saving.dirty || saving.running) await save();
  if (saving.dirty) {
    $("#characters").value = shown.id;
    return say("Not saved yet: the labels of this character are still here alone");
  }
  try {
    await open(id);
    say(shown.name);
  } catch (problem) {
    $("#characters").value = shown?.id ?? "";
    say(problem.message);
  }
}

function walk(by) {
  const at = characters.findIndex((one) => one.id === shown.id);
  const next = characters[at + by];
  if (next) return leaveFor(next.id);
  say(by > 0 ? "This is the last character" : "This is the first character");
}

/* The list of tags that match what is typed. */

const tagInput = $("#tag");
const tagList = $("#tags");
let chosenTag = 0;

function showTags() {
  const typed = tagInput.value.trim().toLowerCase();
  const rank = (tag) => (tag.startsWith(typed) ? 0 : tag.split(" ").some((word) => word.startsWith(typed)) ? 1 : 2);
  const found = shown.tags.filter((tag) => tag.includes(typed)).sort((one, other) => rank(one) - rank(other));
  chosenTag = 0;
  tagList.replaceChildren(...found.map((tag, index) => {
    const option = make("li", { id: `tag-${index}`, textContent: tag });
    option.setAttribute("role", "option");
    option.addEventListener("pointerdown", (event) => { event.preventDefault(); takeTag(tag); });
    return option;
  }));
  tagList.hidden = !found.length;
  tagInput.setAttribute("aria-expanded", String(!tagList.hidden));
  markTag();
}

function markTag() {
  [...tagList.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === chosenTag)));
  const option = tagList.children[chosenTag];
  option?.scrollIntoView({ block: "nearest" });
  tagInput.setAttribute("aria-activedescendant", option?.id ?? "");
}

function closeTags() {
  tagList.hidden = true;
  tagInput.setAttribute("aria-expanded", "false");
}

function takeTag(tag) {
  stage.focus({ preventScroll: true });
  give(tag);
}

function startTyping() {
  tagInput.focus();
  tagInput.value = "";
  showTags();
}

tagInput.addEventListener("focus", () => { tagInput.select(); if (tagList.hidden) { tagInput.value = ""; showTags(); } });
tagInput.addEventListener("blur", () => { closeTags(); render(); });
tagInput.addEventListener("input", showTags);
tagInput.addEventListener("keydown", (event) => {
  const options = tagList.children;
  if (event.isComposing) return;
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (by) {
    chosenTag = clamp(chosenTag + by, 0, Math.max(0, options.length - 1));
    markTag();
  } else if (event.key === "Enter") {
    if (options[chosenTag]) takeTag(options[chosenTag].textContent);
    else say(`No tag has “${tagInput.value}” in it`);
  } else if (event.key === "Escape") {
    stage.focus({ preventScroll: true });
  } else {
    event.stopPropagation();
    return;
  }
  event.preventDefault();
  event.stopPropagation();
});

/* Pointer: a click chooses, one moves, two pinch, the wheel zooms. */

const pointers = new Map();
let travelled = 0;
const middle = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
const spread = ([one, other]) => Math.hypot(one[0] - other[0], one[1] - other[1]);
const onStage = ([x, y]) => { const box = stage.getBoundingClientRect(); return [x - box.left, y - box.top]; };

stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button")) return;
  if (!pointers.size) travelled = 0;
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) return;
  const before = [...pointers.values()];
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  const after = [...pointers.values()];
  const [from, to] = [middle(before), middle(after)];
  travelled += Math.abs(to[0] - from[0]) + Math.abs(to[1] - from[1]) + pointers.size - 1;
  if (travelled < 4) return;
  view.panX += to[0] - from[0];
  view.panY += to[1] - from[1];
  if (after.length > 1) zoom(spread(after) / Math.max(1, spread(before)), ...onStage(to));
  layOut();
});
function release(event) {
  if (!pointers.delete(event.pointerId) || pointers.size || event.type !== "pointerup" || travelled >= 4) return;
  const index = layerAt(event);
  if (index >= 0) choose(index);
}
stage.addEventListener("pointerup", release);
stage.addEventListener("pointercancel", release);
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / 400), ...onStage([event.clientX, event.clientY]));
}, { passive: false });

/* Controls and keys. */

const flip = (flag) => change(flag, !shown.labels[flag]);
const reorder = () => { state.unsureFirst = !state.unsureFirst; sortRows(); scrollToCurrent(); };
const onClick = {
  undo, redo, accept, larger: () => zoom(1.25), smaller: () => zoom(0.8), whole, order: reorder,
  leave: () => give(null), previous: () => walk(-1), next: () => walk(1), retry: save,
  reload: () => resolve(false), overwrite: () => resolve(true), "open-help": () => $("#help").showModal(),
};
for (const [id, action] of Object.entries(onClick)) {
  $(`#${id}`).addEventListener("click", () => Promise.resolve(action()).catch((problem) => say(problem.message)));
}
for (const flag of FLAGS) $(`#${flag}`).addEventListener("change", () => flip(flag));
$("#characters").addEventListener("change", (event) => leaveFor(event.target.value));

const KEYS = {
  arrowup: () => move(-1), arrowdown: () => move(1), k: () => move(-1), j: () => move(1), n: nextUnsure,
  enter: startTyping, y: accept, ".": () => (state.last === undefined ? say("No tag was given yet") : give(state.last)),
  x: () => give(null), delete: () => change(state.current, undefined), backspace: () => change(state.current, undefined),
  s: () => solo(state.current), v: () => toggle(state.current), a: showAll,
  "[": () => walk(-1), "]": () => walk(1), o: reorder, g: nextGround, r: whole, f: closeUp,
  1: () => flip("valid"), 2: () => flip("incomplete"), 3: () => flip("checked"),
  "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), "?": () => $("#help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (!shown || $("#help").open || event.altKey) return;
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  let action = null;
  if (key === "z") action = event.shiftKey ? redo : undo;
  else if (key === "y" && command) action = redo;
  else if (!command) action = KEYS[key];
  const own = event.target.closest("button, select, input[type=checkbox]");
  // Enter presses a button, and arrows go through a choice, as everywhere.
  const pressed = own && !own.matches(".pick") && (key === "enter" || (own.matches("select") && !command));
  if (!action || pressed) return;
  event.preventDefault();
  action();
});

addEventListener("beforeunload", (event) => { if (saving.dirty || saving.running) event.preventDefault(); });

/* Start. */

async function start() {
  characters = await ask("characters");
  $("#characters").append(...characters.map(({ id, name, unsure, checked, problem }) => {
    const note = problem ? "broken" : checked ? "checked" : `${unsure} unsure`;
    return make("option", { value: id, textContent: `${name} (${note})`, title: problem ?? "", disabled: Boolean(problem) });
  }));
  const broken = characters.filter((one) => one.problem);
  characters = characters.filter((one) => !one.problem);
  if (characters.length) await open(characters[0].id);
  if (broken.length) say(broken.map((one) => one.problem).join("; "));
}

new ResizeObserver(layOut).observe(stage);
start().catch((problem) => say(problem.message));
