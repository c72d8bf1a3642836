// The capture page: camera, screen, targets in full screen, rounds, import.
import { Camera, NoCamera } from "./camera.js";
import { Measure } from "./measure.js";
import { ask, element, end, number, pause, Refused, say, speak, tell } from "./page.js";
import { Preview } from "./preview.js";
import { Paused, Show } from "./show.js";

const PARTS = ["elsewhere", "work", "importing", "done"];
const POLL_MS = 400;

let state, camera, preview, measure;
let show = null; // while the full screen is there

// ------------------------------------------------------------------ what is shown

function part(name) {
  for (const each of PARTS) element(each).hidden = each !== name;
}

function notice(key, values) {
  element("notice").hidden = !key;
  if (key) tell(element("notice"), key, values);
}

/** Show what can be done now. */
function refresh() {
  if (!state) return;
  const wanted = state.framesPerTarget;
  const of = state.targets.length || state.targetsPlanned;
  const complete = state.targets.filter((target) => target.kept >= wanted).length;
  const frames = state.targets.reduce((sum, target) => sum + target.kept, 0);
  const all = complete === state.targets.length && complete > 0;
  tell(element("session"), "capture.session", { session: state.session });
  element("screen-step").hidden = Boolean(state.screen);
  const title = all ? "round.done" : frames ? "start.further" : "start.title";
  tell(element("start-title"), title, { targets: of, complete, frames, each: wanted });
  element("how").hidden = all;
  element("after").hidden = !all;
  element("start").hidden = all;
  tell(element("start"), frames ? "start.goOn" : "start.button");
  element("round").hidden = !all;
  element("finish").hidden = !frames;
  element("finish").classList.toggle("main", all);
  tell(element("finish"), all ? "finish.all" : "finish.now");
  element("clear").hidden = !frames;
  const missing = !camera.isOpen ? "missing.camera" : state.screen || measure?.isKnown ? "" : "missing.screen";
  element("start").disabled = element("round").disabled = Boolean(missing);
  element("missing").hidden = !missing;
  if (missing) tell(element("missing"), missing);
}

/** Say what went wrong; only what nobody foresees is thrown on. */
async function failed(error) {
  preview.stop();
  if (error instanceof NoCamera) {
    camera.close();
    notice(`camera.${error.why}`, { detail: error.message });
    element("try-again").hidden = false;
  } else if (error instanceof Paused) {
    if (error.key) notice(error.key);
    preview.start();
  } else if (error instanceof Refused && error.answer.elsewhere) {
    camera.close();
    notice(null);
    part("elsewhere");
  } else if (error instanceof Refused && error.status === 0) {
    over("ended.title", "ended.text");
  } else if (error instanceof Refused) {
    notice("failed", { detail: error.message });
    if (camera.isOpen) preview.start();
  } else {
    notice("failed", { detail: String(error) });
    throw error;
  }
  refresh();
}

/** Nothing more can be done here. */
function over(title, text, values = {}) {
  camera.close();
  notice(null);
  tell(element("done-title"), title, values);
  tell(element("done-text"), text, values);
  part("done");
}

// ------------------------------------------------------------------ the camera

async function openCamera(id) {
  preview.stop();
  element("try-again").hidden = true;
  try {
    await camera.open(id);
    notice(null);
    preview.start();
  } catch (error) {
    await failed(error);
  }
  await listCameras();
  refresh();
}

async function listCameras() {
  const cameras = await Camera.list();
  const chosen = camera.isOpen ? camera.id : element("cameras").value;
  element("cameras").replaceChildren(
    ...cameras.map(({ id, label }, at) => {
      const name = label || say("camera.unnamed", { number: at + 1 });
      return new Option(name, id, false, id === chosen);
    }),
  );
  element("cameras").disabled = cameras.length < 2;
}

// ------------------------------------------------------------------ the full screen

async function run() {
  preview.stop();
  notice(null);
  const stage = element("stage");
  stage.hidden = false;
  try {
    await stage.requestFullscreen({ navigationUI: "hide" }).catch(() => {
      throw new Paused("pause.noFullScreen");
    });
    stage.focus();
    await settled();
    const [width, height] = [innerWidth, innerHeight];
    const screenNow = state.screen
      ? { ...state.screen, width_px: width, height_px: height }
      : measure.result(width, height);
    state = await ask("begin", { screen: screenNow, camera: camera.describe() });
    show = new Show(camera, state);
    await show.run();
    preview.start();
  } catch (error) {
    await failed(error);
  } finally {
    show = null;
    stage.hidden = true;
    if (document.fullscreenElement) await document.exitFullscreen().catch(() => {});
    refresh();
    element(element("start").hidden ? "finish" : "start").focus();
  }
}

/** Wait until the full screen has its size. */
async function settled() {
  for (let size = "", same = 0, tries = 0; same < 3 && tries < 30; tries++) {
    await pause(50);
    const now = `${innerWidth} ${innerHeight}`;
    same = now === size ? same + 1 : 0;
    size = now;
  }
}

function listen() {
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) show?.stop("pause.left");
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) show?.stop("pause.hidden");
  });
  addEventListener("blur", () => show?.stop("pause.hidden"));
  addEventListener("keydown", (event) => {
    if (show && event.key === " ") {
      event.preventDefault();
      show.stop("pause.asked");
    }
  });
  element("stage").addEventListener("click", () => show?.stop("pause.asked"));
  addEventListener("pagehide", () => ask("release", {}, { keepalive: true }).catch(() => {}));
  navigator.mediaDevices?.addEventListener("devicechange", listCameras);
  element("cameras").addEventListener("change", (event) => openCamera(event.target.value));
  element("try-again").addEventListener("click", () => openCamera(element("cameras").value));
  element("start").addEventListener("click", run);
  element("here").addEventListener("click", () => claim(true));
  element("round").addEventListener("click", async () => {
    await answered(ask("more", {}));
    run();
  });
  element("clear").addEventListener("click", async () => {
    if (confirm(say("clear.sure"))) await answered(ask("clear", {}));
  });
  element("end").addEventListener("click", async () => {
    await end().catch(() => {});
    over("ended.title", "ended.text");
  });
  element("finish").addEventListener("click", finish);
}

/** Take what the server answers as the new state. */
async function answered(answer) {
  try {
    state = await answer;
    refresh();
  } catch (error) {
    await failed(error);
  }
}

// ------------------------------------------------------------------ the import

async function finish() {
  try {
    preview.stop();
    await ask("finish", {});
    camera.close();
    part("importing");
    while (!state.outcome) {
      await pause(POLL_MS);
      state = await ask("state");
    }
  } catch (error) {
    return failed(error);
  }
  const { frames, targets, error } = state.outcome;
  if (error) return over("notImported.title", "notImported.text", { detail: error });
  over("done.title", "done.text", { frames, targets, session: state.session });
  element("done-next").hidden = false;
  element("command").textContent = `custom-gaze run ${state.session}`;
}

// ------------------------------------------------------------------ the beginning

/** Take the capture for this page; `force` takes it from another one. */
async function claim(force) {
  try {
    state = await ask("claim", { force });
  } catch (error) {
    if (!camera) begin({ mirrored: true });
    return failed(error);
  }
  begin(state);
  if (state.finishing) return finish();
  part("work");
  refresh();
  await openCamera(element("cameras").value);
}

function begin({ mirrored, lastScreen }) {
  camera?.close();
  camera = new Camera(element("video"), mirrored);
  camera.unplugged = () => (show ? null : failed(new NoCamera("unplugged")));
  element("overlay").classList.toggle("as-it-is", !mirrored);
  preview?.stop();
  preview = new Preview(camera, failed);
  preview.seen = () => measure.showDistance();
  if (state) measure ??= new Measure(preview, lastScreen, refresh);
  measure?.follow(preview);
}

listen();
speak(element("language"), () => {
  measure?.show();
  refresh();
});
claim(false);
