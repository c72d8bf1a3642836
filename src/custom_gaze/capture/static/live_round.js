// A round of nine targets, what it found, and a recalibration that follows one.
import { alert, camera, failed, learnState } from "./live.js";
import { draw, isFull } from "./live_stage.js";
import { ask, element, number, pause, say, tell } from "./page.js";

const SETTLE_MS = 900; // for the eyes to arrive and to rest; the ring shrinks meanwhile
const PATIENCE_MS = 4000; // with blinks and lost faces at one target, which then comes once more
const REFUSED = { no_face: "live.why.no_face", blink: "live.why.blink", still: "live.why.still" };
let going = false;
let following = false; // a recalibration
let last = null; // {round, kind} of what can be kept

export const running = () => going;
export const recalibrating = () => following;

class Left extends Error {}

/** Show nine targets and take their frames; returns what they told, or null where it was left. */
export async function begin(kind, view, screen) {
  going = true;
  element("result").hidden = true;
  view.result = null;
  try {
    const made = await ask("live/round", { kind, screen });
    const waiting = made.targets.map((at, index) => ({ at, index, tries: 0 }));
    const all = waiting.length;
    while (waiting.length) {
      const one = waiting.shift();
      tell(element("progress"), "live.target", { number: all - waiting.length, all });
      const whole = await targetOf(view, made, one);
      if (!whole && one.tries++ === 0) waiting.push(one);
    }
    const found = await ask("live/round/end", { round: made.round });
    last = { round: made.round, kind };
    if (kind === "recalibrate") await recalibrate(found);
    else report(found);
    return found;
  } catch (error) {
    if (!(error instanceof Left)) throw error;
    tell(element("progress"), "live.left");
    return null;
  } finally {
    view.target = null;
    going = false;
  }
}

/** One target: the ring shrinks, then a burst. Returns whether it has all its frames. */
async function targetOf(view, made, { at, index }) {
  const hint = element("hint");
  hint.hidden = true;
  hint.classList.toggle("up", at[1] > view.screen.height_px / 2); // not over the target
  const began = performance.now();
  for (let share = 0; share < 1; ) {
    if (!isFull()) throw new Left();
    share = Math.min(1, (performance.now() - began) / SETTLE_MS);
    view.target = { at, index, share };
    draw(view);
    await new Promise(requestAnimationFrame);
  }
  let taken = 0;
  const burst = performance.now();
  while (taken < made.frames && performance.now() - burst < PATIENCE_MS) {
    const picture = await camera.frame();
    if (!isFull()) throw new Left();
    const { why } = await ask(`live/round/frame?round=${made.round}&target=${index}`, picture);
    hint.hidden = !why;
    if (why) tell(hint, REFUSED[why]);
    else taken += 1;
  }
  hint.hidden = true;
  return taken === made.frames;
}

// ------------------------------------------------------------------ what it found

function cells(name, error) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  tell(head, name);
  const interval =
    error.low_deg === null ? "–" : `${number(error.low_deg, 1)}–${number(error.high_deg, 1)}°`;
  const texts = [
    `${number(error.error_deg, 2)}°`,
    interval,
    number(error.error_px),
    error.error_cm === null ? "–" : number(error.error_cm, 1),
  ];
  line.append(head, ...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
  return line;
}

function table(title, rows, note, values) {
  tell(element("result-title"), title);
  element("rows").replaceChildren(...rows);
  tell(element("result-note"), note, values);
  element("result").hidden = false;
}

function report(found) {
  const order = ["personal", "corrected", "base"].filter((name) => name in found.models);
  const rows = order.map((name) => cells(`live.name.${name}`, found.models[name]));
  tell(element("progress"), "live.measured");
  table("live.result", rows, "live.result.note", { frames: found.frames, targets: found.targets.length });
  element("keep").hidden = false;
  element("session").value = newName();
}

function newName() {
  const now = new Date();
  const two = (value) => String(value).padStart(2, "0");
  const day = `${now.getFullYear()}${two(now.getMonth() + 1)}${two(now.getDate())}`;
  return `live-${day}-${two(now.getHours())}${two(now.getMinutes())}${two(now.getSeconds())}`;
}

element("keep").addEventListener("submit", async (event) => {
  event.preventDefault();
  const session = element("session").value.trim();
  tell(element("progress"), "live.keeping");
  alert("");
  try {
    const kept = await ask("live/round/keep", { round: last.round, session });
    tell(element("progress"), "live.kept", kept);
    element("keep").hidden = true;
  } catch (error) {
    tell(element("progress"), "live.not_kept");
    failed(error);
  }
});

// ------------------------------------------------------------------ recalibration

const STEPS = ["import", "fetch", "prepare", "index", "train", "export", "quantise", "evaluate", "load"];

async function recalibrate() {
  await ask("live/recalibrate", { round: last.round, session: newName() });
  follow().catch(failed); // the page goes on with the model that it has
}

/** Tell how a recalibration gets on until it has ended. */
async function follow() {
  for (const id of ["validate", "recalibrate"]) element(id).disabled = true;
  following = true;
  let taken = false; // the new model, by the page; the run goes on to its evaluation
  try {
    for (;;) {
      const now = await ask("live/recalibration");
      if (now.stands === "running") {
        if (now.result && !taken) {
          taken = true;
          following = false;
          await shown(now.result, "live.early.note");
        }
        const step = STEPS.find((name) => now.step.startsWith(name)) ?? "import";
        const words = { step: say(`live.step.${step}`), seconds: number(now.result?.seconds ?? 0) };
        tell(element("progress"), taken ? "live.early" : "live.running", words);
        await pause(500);
        continue;
      }
      if (now.stands === "failed") {
        await learnState(); // the old model again
        element("result").hidden = true;
        tell(element("progress"), "live.failed");
        return alert("live.refused", { error: now.error });
      }
      const { seconds, experiment } = now.result;
      tell(element("progress"), "live.recalibrated", { seconds: number(seconds), experiment });
      return await shown(now.result, "live.recalibrated.note");
    }
  } finally {
    following = false;
    for (const id of ["validate", "recalibrate"]) element(id).disabled = false;
  }
}

async function shown(result, note) {
  await learnState();
  const rows = [cells("live.before", result.before), cells("live.after", result.after)];
  element("keep").hidden = true;
  table("live.recalibrated.title", rows, note, {
    session: result.session, experiment: result.experiment, frames: result.frames,
  });
}
