"use strict";

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

const stage = $("#stage");
const plane = $("#plane");
const plates = $$(".layer");  // Back to front; everywhere below, a layer is its index here.
const rows = $$("#rows li").reverse();
const names = plates.map((plate) => $("img", plate).alt);
const pageWidth = plane.offsetWidth;
const pageHeight = plane.offsetHeight;

const MAX_TILT = 75;  // Degrees; layers are never seen from behind or from the edge.
const APART = 1.1;  // Depth of the whole stack at 100 % explosion, in longer sides of the page.
const FILLED = 0.94;  // Share of the stage that the page, or the stack, fills at zoom 1.
const MAX_ENLARGED = 8;  // Screen pixels a page pixel, at zoom 1.
const FLAT = { explode: 0, wipe: 0, yaw: 0, pitch: 0, tilted: false, zoom: 1, panX: 0, panY: 0 };

const state = { ...FLAT, hidden: new Set(), solo: null, current: plates.length - 1 };

/* Geometry. The page is `scale` times as large on the screen, and `width` x `height` there. It is
   turned about y, then about x, and seen from `distance`. */

let size = { scale: 1, width: 0, height: 0, distance: 1 };

function layOut() {
  const box = stage.getBoundingClientRect();
  const fit = FILLED * Math.min(box.width / pageWidth, box.height / pageHeight);
  const width = Math.max(1, Math.round(pageWidth * Math.min(fit, MAX_ENLARGED)));
  const scale = width / pageWidth;
  const height = pageHeight * scale;
  size = { scale, width, height, distance: 2.4 * Math.max(width, height) };
  plane.style.left = `${Math.round((box.width - pageWidth) / 2)}px`;
  plane.style.top = `${Math.round((box.height - pageHeight) / 2)}px`;
  render();
}

const stack = () => state.explode * APART * Math.max(size.width, size.height);
const depthOf = (layer) => stack() * ((layer + 1) / Math.max(1, plates.length) - 0.5);

function turn() {
  const [yaw, pitch] = [state.yaw, state.pitch].map((degrees) => (degrees * Math.PI) / 180);
  return { cy: Math.cos(yaw), sy: Math.sin(yaw), cp: Math.cos(pitch), sp: Math.sin(pitch) };
}

/** Half the width and height, on the stage, of the stack as it is turned, at a scale. */
function reach(scale) {
  const { cy, sy, cp, sp } = turn();
  const [halfWidth, halfHeight, halfStack] = [size.width, size.height, stack()].map((n) => (n * scale) / 2);
  let [right, bottom] = [0, 0];
  for (const x of [-halfWidth, halfWidth]) {
    for (const y of [-halfHeight, halfHeight]) {
      for (const z of [-halfStack, halfStack]) {
        const toward = -x * sy + z * cy;
        const nearer = size.distance / Math.max(1, size.distance - (y * sp + toward * cp));
        right = Math.max(right, Math.abs((x * cy + z * sy) * nearer));
        bottom = Math.max(bottom, Math.abs((y * cp - toward * sp) * nearer));
      }
    }
  }
  return [right, bottom];
}

/** How much the plane is scaled down so that the stack stays within the stage. */
function fitScale() {
  let scale = 1;
  // A smaller stack reaches less far towards the eye, so the first answer is too small.
  for (let round = 0; state.explode && round < 3; round++) {
    const [right, bottom] = reach(scale);
    const fit = Math.min(stage.clientWidth / 2 / right, stage.clientHeight / 2 / bottom);
    scale = Math.min(1, scale * FILLED * fit);
  }
  return scale;
}

/** Where a pointer meets the plate at depth `z`, in shares of the page. */
function pageAt(event, z) {
  const box = stage.getBoundingClientRect();
  const u = (event.clientX - box.left - box.width / 2 - state.panX) / state.zoom;
  const v = (event.clientY - box.top - box.height / 2 - state.panY) / state.zoom;
  const { cy, sy, cp, sp } = turn();
  const scale = fitScale();
  const d = size.distance;
  // The perspective projection of (x, y, z) is (u, v): two equations, linear in x and y.
  const [a, b, e] = [d * cy - u * sy * cp, u * sp, (u * d) / scale - d * z * sy - u * z * cy * cp];
  const [c, f, g] = [(d * sp - v * cp) * sy, d * cp + v * sp, (v * d) / scale + z * cy * (d * sp - v * cp)];
  const determinant = a * f - b * c;
  const x = (e * f - b * g) / determinant;
  const y = (a * g - e * c) / determinant;
  return [x / size.width + 0.5, y / size.height + 0.5];
}

/** The frontmost shown layer under a pointer that isn't transparent there, or -1. */
function layerAt(event) {
  const probe = document.createElement("canvas");
  probe.width = probe.height = 1;
  const context = probe.getContext("2d", { willReadFrequently: true });
  return plates.findLastIndex((plate, layer) => {
    if (!isShown(layer)) return false;
    const [x, y] = pageAt(event, depthOf(layer));
    const image = $("img", plate);
    const { left, top } = image.parentElement.style;
    context.clearRect(0, 0, 1, 1);
    const column = Math.floor(x * pageWidth) - parseInt(left);
    const row = Math.floor(y * pageHeight) - parseInt(top);
    context.drawImage(image, -column, -row);
    return context.getImageData(0, 0, 1, 1).data[3] > 25;
  });
}

/* State to page. */

const isShown = (layer) =>
  state.solo === null ? !state.hidden.has(layer) : state.solo === layer;

function render() {
  const scale = fitScale() * size.scale;
  const { yaw, pitch, zoom, panX, panY, wipe, explode } = state;
  const flat = !yaw && !pitch && !explode;
  const moved = zoom !== 1 || panX || panY;
  const turned = flat ? "" : `perspective(${size.distance}px) rotateX(${pitch}deg) rotateY(${yaw}deg) `;
  plane.style.transform = `translate(${panX}px, ${panY}px) scale(${zoom}) ${turned}scale3d(${scale}, ${scale}, ${scale})`;
  plane.style.setProperty("--scale", size.scale * zoom);
  plane.classList.toggle("coarse", size.scale * zoom * devicePixelRatio > 2);
  plane.classList.toggle("apart", !flat);
  plane.classList.toggle("wiped", wipe > 0);
  plane.style.setProperty("--wipe", `${100 * wipe}%`);
  $(".ground").style.setProperty("--z", `${depthOf(-1) / size.scale}px`);
  $(".original").style.setProperty("--z", `${depthOf(plates.length - 1) / size.scale}px`);

  plates.forEach((plate, layer) => {
    const row = rows[layer];
    const current = layer === state.current;
    plate.style.setProperty("--z", `${depthOf(layer) / size.scale}px`);
    for (const element of [plate, row]) {
      element.classList.toggle("off", !isShown(layer));
      element.classList.toggle("current", current);
    }
    $("input", row).checked = !state.hidden.has(layer);
    $(".solo", row).setAttribute("aria-pressed", String(state.solo === layer));
    $(".pick", row).setAttribute("aria-current", String(current));
    // One stop of the tab key a kind of control; arrows move between the rows.
    for (const control of $$("input, button", row)) control.tabIndex = current ? 0 : -1;
  });
  $("#reset").hidden = flat && !moved && !wipe;
  $("#all").textContent = allShown() ? "Hide all" : "Show all";
  for (const [id, value] of [["explode", explode], ["wipe", wipe]]) {
    const slider = $(`#${id}`);
    slider.value = Math.round(100 * value);
    slider.nextElementSibling.textContent = `${slider.value} %`;
  }
}

let easing = 0;

/** Change state and show it; `eased` moves there instead of jumping. */
function set(change, { eased = false, say = null } = {}) {
  Object.assign(state, change);
  plane.classList.toggle("eased", eased);
  clearTimeout(easing);
  if (eased) easing = setTimeout(() => plane.classList.remove("eased"), 400);
  if (say !== null) $("#status").textContent = say;
  render();
}

/* Actions. */

const allShown = () => state.solo === null && !state.hidden.size;

function choose(layer, focus = null) {
  if (!plates.length) return;
  const current = clamp(layer, 0, plates.length - 1);
  const solo = state.solo === null ? null : current;
  set({ current, solo }, { say: names[current] });
  hint(current);
  hinting = setTimeout(hint, 1200, null);
  const row = rows[current];
  if (focus) $(focus, row).focus();
  row.scrollIntoView({ block: "nearest" });
}

function toggle(layer) {
  if (!plates[layer]) return;
  if (!state.hidden.delete(layer)) state.hidden.add(layer);
  const word = state.hidden.has(layer) ? "hidden" : "shown";
  set({ solo: null, current: layer }, { say: `${names[layer]} ${word}` });
}

function solo(layer) {
  if (!plates[layer]) return;
  const on = state.solo !== layer;
  set({ solo: on ? layer : null, current: layer }, { say: on ? `Only ${names[layer]}` : "All chosen layers" });
}

function toggleAll() {
  const hidden = new Set(allShown() ? plates.keys() : []);
  set({ hidden, solo: null }, { say: hidden.size ? "All layers hidden" : "All layers shown" });
}

let hinting = 0;

/** Outline the layer's box, or none. */
function hint(layer) {
  clearTimeout(hinting);
  plates.forEach((plate, index) => plate.classList.toggle("hint", index === layer));
}

/** Take the layers apart. Until somebody tilts, the view turns so that one sees between them. */
function explode(amount, options) {
  const turned = state.tilted ? {} : { yaw: 38 * Math.min(1, 3 * amount), pitch: -12 * Math.min(1, 3 * amount) };
  set({ explode: amount, wipe: amount ? 0 : state.wipe, ...turned }, options);
}

function wipe(amount, options) {
  const flat = state.tilted ? {} : { yaw: 0, pitch: 0 };
  set(amount ? { wipe: amount, explode: 0, ...flat } : { wipe: 0 }, options);
}

function tilt(yaw, pitch, options) {
  const within = (degrees) => clamp(degrees, -MAX_TILT, MAX_TILT);
  set({ yaw: within(state.yaw + yaw), pitch: within(state.pitch + pitch), tilted: true }, options);
}

/** Zoom about a point, in pixels from the middle of the stage. */
function zoom(factor, x = 0, y = 0) {
  const to = clamp(state.zoom * factor, 0.5, 16);
  const ratio = to / state.zoom;
  set({ zoom: to, panX: x - (x - state.panX) * ratio, panY: y - (y - state.panY) * ratio });
}

const pan = (x, y) => set({ panX: state.panX + x, panY: state.panY + y });

function reset() {
  // The button hides itself, which would drop the focus.
  if (document.activeElement === $("#reset")) stage.focus();
  set({ ...FLAT }, { eased: true, say: "View reset" });
}

function show(group, value) {
  const option = $(`input[name="${group}"][value="${value}"]`);
  if (!option) return;
  option.checked = true;
  if (value === "depth") drawDepths();
  document.body.dataset[group] = value;
}

function nextGround() {
  const options = $$('input[name="ground"]');
  const next = options[(options.findIndex((option) => option.checked) + 1) % options.length];
  show("ground", next.value);
}

/* Pictures made once from those embedded. */

/** A layer's depth, cut out by its alpha; the filter of the style gives it colour. */
function drawDepths() {
  for (const far of $$(".far")) {
    const picture = far.previousElementSibling;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [far.naturalWidth, far.naturalHeight];
    const context = canvas.getContext("2d");
    context.drawImage(far, 0, 0);
    context.globalCompositeOperation = "destination-in";
    context.drawImage(picture, 0, 0);
    far.replaceWith(canvas);
  }
}

function drawThumbnail(layer) {
  const image = $("img", plates[layer]);
  const canvas = $("canvas", rows[layer]);
  const context = canvas.getContext("2d");
  const scale = Math.min(canvas.width / image.naturalWidth, canvas.height / image.naturalHeight, MAX_ENLARGED);
  const [width, height] = [image.naturalWidth * scale, image.naturalHeight * scale];
  context.imageSmoothingQuality = "high";
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(image, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
}

/* Pointer: one tilts, with shift or the middle button it moves, two pinch; a click chooses. */

const pointers = new Map();
let travelled = 0;
let grip = null;

const middle = (points) => [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
const spread = ([one, other]) => Math.hypot(one[0] - other[0], one[1] - other[1]);

stage.addEventListener("pointerdown", (event) => {
  if (event.target.closest("button")) return;
  if (!pointers.size) travelled = 0;
  grip = event.target.closest(".divider");
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  stage.setPointerCapture(event.pointerId);
});

stage.addEventListener("pointermove", (event) => {
  if (!pointers.has(event.pointerId)) return;
  const before = [...pointers.values()];
  pointers.set(event.pointerId, [event.clientX, event.clientY]);
  const after = [...pointers.values()];
  const [oldMiddle, newMiddle] = [middle(before), middle(after)];
  const [x, y] = [newMiddle[0] - oldMiddle[0], newMiddle[1] - oldMiddle[1]];
  travelled += Math.abs(x) + Math.abs(y) + (pointers.size - 1);
  if (travelled < 4) return;
  if (grip) {
    // Not 0: that would take the line away from under the pointer.
    wipe(clamp(pageAt(event, 0)[0], 0.001, 1));
  } else if (pointers.size > 1) {
    const box = stage.getBoundingClientRect();
    pan(x, y);
    zoom(spread(after) / Math.max(1, spread(before)), newMiddle[0] - box.left - box.width / 2, newMiddle[1] - box.top - box.height / 2);
  } else if (event.shiftKey || event.buttons & 4) {
    pan(x, y);
  } else {
    tilt(0.35 * x, -0.35 * y);
  }
});

function release(event) {
  if (!pointers.delete(event.pointerId) || pointers.size || event.type !== "pointerup") return;
  if (travelled < 4 && !grip) {
    const layer = layerAt(event);
    if (layer >= 0) choose(layer);
  }
}
stage.addEventListener("pointerup", release);
stage.addEventListener("pointercancel", release);

stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  const box = stage.getBoundingClientRect();
  zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2);
}, { passive: false });

/* Controls. */

$("#explode").addEventListener("input", (event) => explode(event.target.value / 100));
$("#wipe").addEventListener("input", (event) => wipe(event.target.value / 100));
$("#reset").addEventListener("click", reset);
$("#all").addEventListener("click", toggleAll);
$("#open-help").addEventListener("click", () => $("#help").showModal());
for (const option of $$(".choice input")) {
  option.addEventListener("change", () => show(option.name, option.value));
}

rows.forEach((row, layer) => {
  $("input", row).addEventListener("change", () => toggle(layer));
  $(".solo", row).addEventListener("click", () => solo(layer));
  $(".pick", row).addEventListener("click", () => choose(layer));
  row.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hint(layer));
  row.addEventListener("pointerleave", () => hint(null));
});

$("#rows").addEventListener("keydown", (event) => {
  const to = {
    ArrowUp: state.current + 1, ArrowDown: state.current - 1, Home: plates.length - 1, End: 0,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const focus = [".eye input", ".pick", ".solo"].find((kind) => event.target.matches(kind));
  choose(to, focus);
});

/* Keys. */

stage.addEventListener("keydown", (event) => {
  const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (!x && !y) return;
  event.preventDefault();
  if (event.shiftKey) pan(-40 * x, -40 * y);
  else tilt(5 * x, -5 * y);
});

const KEYS = {
  k: () => choose(state.current + 1),
  j: () => choose(state.current - 1),
  v: () => toggle(state.current),
  s: () => solo(state.current),
  a: toggleAll,
  e: () => explode(state.explode ? 0 : 0.7, { eased: true }),
  w: () => wipe(state.wipe ? 0 : 0.5),
  1: () => show("view", "colour"),
  2: () => show("view", "alpha"),
  3: () => show("view", "depth"),
  g: nextGround,
  r: reset,
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  "?": () => $("#help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("#help").open) return;
  if (!$("#shortcuts").checked) return;
  const action = KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

/* Start. */

Object.assign(document.body.dataset, { view: "colour", ground: "checker" });
for (const option of $$(".choice input:checked")) show(option.name, option.value);
new ResizeObserver(layOut).observe(stage);
layOut();
plates.forEach((plate, layer) => $("img", plate).decode().then(() => drawThumbnail(layer)));
