// The live page: the camera's frames go to the server one after the other, and what it sees in them
// is drawn.
import { Camera, NoCamera } from "./camera.js";
import { begin as beginRound, recalibrating, running } from "./live_round.js";
import { SHAPES, draw, goFull, isFull, leaveFull, screenSize } from "./live_stage.js";
import { Refused, ask, element, end, number, pause, say, speak, tell } from "./page.js";

const SVG = "http://www.w3.org/2000/svg";
const PATHS = {
  disc: "M8 1a7 7 0 1 0 .01 0z",
  square: "M2 2h12v12H2z",
  triangle: "M8 1l7 13H1z",
  cross: "M7 0h2v7h7v2H9v7H7V9H0V7h7z",
};
const HEAT_EVERY_MS = 1000;
const ANNOUNCE_MS = 2000;
const CALM_MS = 1000; // between frames while a recalibration runs
const tab = crypto.randomUUID();
export const camera = new Camera(element("video"), true);
const view = { screen: screenSize(), dots: {}, heat: null, target: null, result: null };
let state = { names: ["personal"], filters: [], geometry: null };
let geometry = null; // of this screen
let latency = null; // milliseconds from a frame to its dot, smoothed
let network = null; // of them the server's, smoothed alike
let spoken = { key: "", at: 0 };
let part = null; // of the next frame, that is sent; null: the whole of it
let size = [0, 0]; // of the frame that the part is of
let ended = false;

// ------------------------------------------------------------------ what is remembered

const stored = (key, otherwise) => localStorage.getItem(`custom-gaze.${key}`) ?? otherwise;
const store = (key, value) => localStorage.setItem(`custom-gaze.${key}`, value);

for (const key of ["beside", "heat", "mirror"]) {
  const box = element(key);
  box.addEventListener("change", () => store(key, box.checked));
}

/** What the user said of the screen, and its size. */
export function pageScreen() {
  const said = (id) => (element(id).value && element(id).checkValidity() ? Number(element(id).value) : null);
  return { ...screenSize(), width_cm: said("width"), distance_cm: said("distance") };
}

async function learnScreen() {
  view.screen = screenSize();
  const known = await ask("live/screen", pageScreen());
  geometry = known.geometry;
  tell(element("screen-known"), `live.screen.${known.known}`, {
    width: number(2 * geometry.center_x_px),
    height: number(2 * geometry.center_y_px),
    pixels: number(1 / geometry.deg_per_pixel, 1),
  });
}

// ------------------------------------------------------------------ alerts

export function alert(key, values) {
  const place = element("alert");
  place.hidden = !key;
  if (key) tell(place, key, values);
}

/** What went wrong, in words: the server's own, or that there is no server any more. */
export function failed(error) {
  if (error instanceof NoCamera) {
    const words = { detail: error.message };
    element("again").hidden = false;
    return alert(error.why === "unplugged" ? "live.camera.gone" : `camera.${error.why}`, words);
  }
  if (!(error instanceof Refused)) throw error;
  if (error.status === 0) {
    ended = true;
    camera.close();
    alert("page.ended");
  } else alert("live.refused", { error: error.message });
}

// ------------------------------------------------------------------ the loop

async function loop() {
  while (!ended) {
    if (running() || !camera.isOpen) {
      await pause(100); // a round takes its own frames
      continue;
    }
    if (recalibrating()) await pause(CALM_MS); // the run needs the processor
    try {
      await look();
    } catch (error) {
      if (error instanceof NoCamera) camera.close();
      failed(error);
    }
  }
}

async function look() {
  const { width, height } = camera.size;
  if (part && (width !== size[0] || height !== size[1])) part = null; // another camera
  const picture = await camera.frame({ part });
  const came = camera.came;
  const query = `live/frame?tab=${tab}&seconds=${came / 1000}&beside=${element("beside").checked}`;
  const place = part ? `&x=${part[0]}&y=${part[1]}&width=${width}&height=${height}` : "";
  let seen = await ask(query + place, picture);
  if (seen.whole) seen = await ask(query, await camera.again()); // the face has moved far
  ({ part, size } = seen);
  show(seen);
  const took = performance.now() - came;
  latency = smoothed(latency, took);
  network = smoothed(network, seen.took_ms);
  element("screen").dataset.latency = latency.toFixed(1);
  if (!view.result) {
    tell(element("numbers"), "live.numbers", {
      latency: number(latency), network: number(network), model: state.model,
    });
  }
}

const smoothed = (before, now) => (before === null ? now : 0.9 * before + 0.1 * now);

function show(seen) {
  box(seen);
  const filter = element("filter").value;
  view.dots = Object.fromEntries(
    Object.entries(seen.models).map(([name, by]) => [name, toPixels(by[filter])]),
  );
  if (!element("heat").checked) view.heat = null;
  if (!running()) draw(view);
  announce(seen.why ? `live.why.${seen.why}` : "live.found");
}

const toPixels = ([yaw, pitch]) => [
  geometry.center_x_px + yaw / geometry.deg_per_pixel,
  geometry.center_y_px + pitch / geometry.deg_per_pixel,
];

/** Say what changed, but not with every frame: it is read out. */
function announce(key) {
  const now = performance.now();
  if (key === spoken.key) spoken.at = now;
  else if (now - spoken.at > ANNOUNCE_MS || !spoken.key) {
    spoken = { key, at: now };
    tell(element("status"), key);
  }
}

function box({ face, size: [width, height] }) {
  const drawing = element("face");
  drawing.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const [x1, y1, x2, y2] = face ?? [0, 0, 0, 0];
  for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) {
    drawing.firstElementChild.setAttribute(name, Math.max(0, value));
  }
}

async function heatLoop() {
  while (!ended) {
    await pause(HEAT_EVERY_MS);
    if (!element("heat").checked || running() || document.hidden) continue;
    try {
      view.heat = await ask(`live/heat?tab=${tab}&seconds=0`, pageScreen());
    } catch (error) {
      failed(error);
    }
  }
}

// ------------------------------------------------------------------ the page

/** The models' names with their shapes, and the filters; anew when the language changes. */
function words() {
  const names = view.result ? [...state.names, "target"] : state.names;
  const entries = names.map((name) => {
    const item = document.createElement("li");
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", "0 0 16 16");
    drawing.setAttribute("aria-hidden", "true");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", PATHS[SHAPES[name] ?? "cross"]);
    path.setAttribute("class", name);
    drawing.append(path);
    item.append(drawing, say(`live.name.${name}`));
    return item;
  });
  element("legend").replaceChildren(...entries);
  const chosen = element("filter").value || stored("filter", "euro");
  const filters = state.filters.map((name) => new Option(say(`live.filter.${name}`), name));
  element("filter").replaceChildren(...filters);
  element("filter").value = chosen;
}

/** What the server shows now, after a start or a recalibration. */
export async function learnState() {
  state = await ask("live");
  const alone = element("alone");
  alone.hidden = !state.alone;
  if (state.alone) tell(alone, "live.alone", { why: state.alone });
  const beside = element("beside");
  beside.disabled = state.names.length < 2;
  beside.checked = !beside.disabled && stored("beside", "true") === "true";
  element("heat").checked = stored("heat", "false") === "true";
  element("mirror").checked = stored("mirror", String(state.mirrored)) === "true";
  for (const key of ["width", "distance"]) {
    element(key).value ||= stored(key, state[`${key}_cm`] ?? "");
  }
  turn();
  words();
}

function turn() {
  camera.mirrored = element("mirror").checked;
  element("video").parentElement.classList.toggle("turned", camera.mirrored);
}

async function openCamera(id) {
  element("again").hidden = true;
  try {
    await camera.open(id);
    alert("");
    await listCameras();
  } catch (error) {
    if (id && error instanceof NoCamera && error.why === "none") return openCamera(""); // another's
    failed(error);
  }
}

async function listCameras() {
  const named = ({ id, label }, n) => new Option(label || say("camera.unnamed", { number: n + 1 }), id);
  element("camera").replaceChildren(...(await Camera.list()).map(named));
  element("camera").value = camera.isOpen ? camera.id : "";
}

async function round(kind) {
  alert("");
  if (!camera.isOpen) return alert("live.camera.first");
  if (!(await goFull())) return alert("live.full.refused");
  try {
    await learnScreen();
    const found = await beginRound(kind, view, pageScreen());
    view.result = found?.targets ?? null;
    words();
  } catch (error) {
    failed(error);
  } finally {
    await leaveFull();
    await learnScreen().catch(failed);
    draw(view);
    if (view.result && !element("result").hidden) element("result-title").focus(); // is read out
  }
}

element("validate").addEventListener("click", () => round("validate"));
element("recalibrate").addEventListener("click", () => round("recalibrate"));
element("full").addEventListener("click", async () => {
  view.result = null;
  words();
  alert((await goFull()) ? "" : "live.full.refused");
});
element("filter").addEventListener("change", () => store("filter", element("filter").value));
element("camera").addEventListener("change", () => {
  store("camera", element("camera").value);
  openCamera(element("camera").value);
});
element("mirror").addEventListener("change", turn);
element("end").addEventListener("click", async () => {
  ended = true;
  camera.close();
  await leaveFull();
  await end().catch(() => {});
  alert("page.ended");
});
for (const id of ["width", "distance"]) {
  element(id).addEventListener("change", () => {
    store(id, element(id).value);
    learnScreen().catch(failed);
  });
}
document.addEventListener("fullscreenchange", () => {
  if (!running()) learnScreen().catch(failed);
  const hint = element("hint");
  hint.hidden = !isFull();
  hint.classList.remove("up");
  if (isFull()) tell(hint, "live.hint");
});
element("again").addEventListener("click", () => openCamera(element("camera").value));
camera.unplugged = () => failed(new NoCamera("unplugged"));
navigator.mediaDevices?.addEventListener("devicechange", () => {
  if (!camera.isOpen) openCamera(stored("camera", ""));
});
addEventListener("resize", () => draw(view));

speak(element("language"), words);
try {
  await learnState();
  await learnScreen();
  draw(view);
  await openCamera(stored("camera", ""));
  heatLoop();
  loop();
} catch (error) {
  failed(error);
}
