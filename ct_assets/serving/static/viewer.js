"use strict";
// The viewer's page: NiiVue draws, this file wires windows, masks, findings and keys.
// All addresses are relative to the page's own; nothing is asked of another server.

const COLOURS = { reference: [76, 207, 106], predicted: [[255, 180, 40], [240, 90, 200], [70, 190, 255]] };
const OUTLINE_WIDTH = 0.4;
const OPACITY_STEP = 0.1;
const key = document.body.dataset.key;
const base = `${encodeURIComponent(key)}/`;
const byId = (id) => document.getElementById(id);

const viewer = new niivue.Niivue({
  backColor: [0, 0, 0, 1],
  crosshairColor: [0.4, 0.75, 1, 0.7],
  crosshairWidth: 0.4,
  crosshairGap: 6,
  dragAndDropEnabled: false,
  isRadiologicalConvention: true,
  isSliceMM: true,
  isRuler: true,
  loadingText: "",
  logLevel: "error",
  multiplanarShowRender: niivue.SHOW_RENDER.NEVER,
  sagittalNoseLeft: true,
  showAllOrientationMarkers: true,
});

let view = null;
let shown = [];
let opacity = 0.45;
let areMasksOn = true;
let finding = -1;

function maskColour(mask, place) {
  return mask.is_prediction ? COLOURS.predicted[place % COLOURS.predicted.length] : COLOURS.reference;
}

function setWindow(low, high) {
  viewer.volumes[0].cal_min = low;
  viewer.volumes[0].cal_max = high;
  viewer.updateGLVolume();
  showWindow();
}

function showWindow() {
  const { cal_min: low, cal_max: high } = viewer.volumes[0];
  byId("level").value = Math.round((low + high) / 2);
  byId("width").value = Math.round(high - low);
  for (const button of byId("window-buttons").children) {
    const [from, to] = view.windows[button.dataset.window];
    button.setAttribute("aria-pressed", String(from === low && to === high));
  }
}

function drawMasks() {
  shown.forEach((isShown, place) => viewer.setOpacity(place + 1, areMasksOn && isShown ? opacity : 0));
  viewer.overlayOutlineWidth = byId("outline").checked ? OUTLINE_WIDTH : 0;
  viewer.updateGLVolume();
}

function goTo(place) {
  if (!view.findings.length) return;
  finding = (place + view.findings.length) % view.findings.length;
  viewer.scene.crosshairPos = viewer.mm2frac(view.findings[finding].center_ras_mm);
  viewer.createOnLocationChange();
  viewer.drawScene();
  [...byId("findings").children].forEach((row, at) => row.setAttribute("aria-selected", String(at === finding)));
}

function open(other) {
  if (other) window.location.href = encodeURIComponent(other) + window.location.hash;
}

function voxelOf([x, y, z]) {
  // NiiVue counts in its own order of axes; these are i, j, k of the file
  return view.voxel_of_ras_mm.slice(0, 3).map((row) => Math.round(row[0] * x + row[1] * y + row[2] * z + row[3]));
}

function showLocation(place) {
  const [x, y, z] = place.mm;
  const side = (value, plus, minus) => `${value >= 0 ? plus : minus} ${Math.abs(value).toFixed(1)}`;
  const value = place.values[0].value;
  byId("location").textContent =
    `${side(x, "R", "L")} ${side(y, "A", "P")} ${side(z, "S", "I")} mm\n` +
    `voxel ${voxelOf(place.mm).join(", ")}\n${Number(value).toFixed(0)} HU`;
}

function addWindows() {
  for (const [name, [low, high]] of Object.entries(view.windows)) {
    const button = document.createElement("button");
    button.textContent = name;
    button.dataset.window = name;
    button.title = `${low} to ${high} HU`;
    button.addEventListener("click", () => setWindow(low, high));
    byId("window-buttons").append(button);
  }
}

function addMasks() {
  let predicted = 0;
  view.masks.forEach((mask, place) => {
    const colour = maskColour(mask, mask.is_prediction ? predicted++ : 0);
    const line = document.createElement("li");
    const label = document.createElement("label");
    const box = document.createElement("input");
    const swatch = document.createElement("span");
    box.type = "checkbox";
    box.checked = shown[place];
    box.addEventListener("change", () => { shown[place] = box.checked; drawMasks(); });
    swatch.className = "swatch";
    swatch.style.background = `rgb(${colour.join(",")})`;
    label.append(box, " ", swatch, `${mask.title}, ${mask.volume_ml.toFixed(2)} ml`);
    line.append(label);
    byId("masks").append(line);
  });
  if (!view.masks.length) byId("masks").textContent = "none";
}

function addFindings() {
  view.findings.forEach((one, place) => {
    const row = document.createElement("tr");
    const mask = view.masks.find((each) => each.key === one.mask);
    const cells = [mask.title, one.volume_ml.toFixed(2), one.center_ras_mm.map((mm) => mm.toFixed(0)).join(", ")];
    cells.forEach((text, column) => {
      const cell = document.createElement("td");
      cell.textContent = text;
      if (column === 1) cell.className = "n";
      row.append(cell);
    });
    row.addEventListener("click", () => goTo(place));
    byId("findings").append(row);
  });
}

function addNeighbours() {
  for (const side of ["previous", "next"]) {
    if (!view[side]) continue;
    byId(side).href = encodeURIComponent(view[side]);
    byId(side).hidden = false;
  }
}

function setLayout(value) {
  byId("layout").value = String(value);
  viewer.setSliceType(Number(value));
}

function setOpacityOfMasks(value) {
  opacity = Math.min(1, Math.max(0, value));
  byId("opacity").value = opacity;
  drawMasks();
}

function onKey(event) {
  if (event.target.type === "number" || (event.target.type === "range" && event.key.startsWith("Arrow"))) return;
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const windows = Object.values(view.windows);
  const actions = {
    ArrowUp: () => viewer.moveCrosshairInVox(0, 0, 1),
    ArrowDown: () => viewer.moveCrosshairInVox(0, 0, -1),
    ArrowLeft: () => open(view.previous),
    ArrowRight: () => open(view.next),
    f: () => goTo(finding + 1),
    F: () => goTo(finding - 1),
    m: () => { areMasksOn = !areMasksOn; drawMasks(); },
    o: () => { byId("outline").checked = !byId("outline").checked; drawMasks(); },
    v: () => setLayout({ 3: 0, 0: 1, 1: 2, 2: 3 }[byId("layout").value]),
    "+": () => setOpacityOfMasks(opacity + OPACITY_STEP),
    "-": () => setOpacityOfMasks(opacity - OPACITY_STEP),
  };
  const number = Number(event.key);
  const action = number >= 1 && number <= windows.length ? () => setWindow(...windows[number - 1]) : actions[event.key];
  if (!action) return;
  event.preventDefault();
  event.stopPropagation(); // NiiVue has keys of its own
  action();
}

async function start() {
  const answer = await fetch(`${base}view.json`);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  view = await answer.json();
  let predicted = 0;
  const overlays = view.masks.map((mask) => {
    const name = `mask-${mask.key}`;
    const [r, g, b] = maskColour(mask, mask.is_prediction ? predicted++ : 0);
    viewer.addColormap(name, { R: [0, r, r], G: [0, g, g], B: [0, b, b], A: [0, 255, 255], I: [0, 1, 255] });
    return { url: base + mask.url, name: `${mask.key}.nii.gz`, colormap: name, cal_min: 0, cal_max: 1, opacity };
  });
  shown = view.masks.map(() => true);
  await viewer.attachToCanvas(byId("canvas"));
  await viewer.loadVolumes([{ url: base + view.image, name: "image.nii.gz", colormap: "gray" }, ...overlays]);
  viewer.onLocationChange = showLocation;
  viewer.onIntensityChange = showWindow;
  addWindows();
  addMasks();
  addFindings();
  addNeighbours();
  const [low, high] = view.windows.lung;
  setWindow(low, high);
  setLayout(3);
  drawMasks();
  if (view.findings.length) goTo(0);
  else viewer.createOnLocationChange();
  byId("level").addEventListener("change", fromInputs);
  byId("width").addEventListener("change", fromInputs);
  byId("layout").addEventListener("change", (event) => {
    setLayout(event.target.value);
    event.target.blur(); // keys are the page's again
  });
  byId("opacity").addEventListener("input", (event) => setOpacityOfMasks(Number(event.target.value)));
  byId("outline").addEventListener("change", drawMasks);
  window.addEventListener("keydown", onKey, { capture: true });
  byId("message").textContent = "";
  document.body.dataset.ready = "true";
}

function fromInputs() {
  const level = Number(byId("level").value);
  const half = Math.max(1, Number(byId("width").value)) / 2;
  setWindow(level - half, level + half);
}

start().catch((error) => {
  byId("message").textContent = `The image cannot be shown: ${error.message}`;
  document.body.dataset.ready = "failed";
});
