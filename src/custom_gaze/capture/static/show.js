// The full screen: one dot after the other, and the frames of whoever looks at it.
import { ask, element, pause, tell } from "./page.js";

// The dot is found and held: a saccade across a screen takes 0.2 s, corrections as long again.
const SETTLES_MS = 1000;
const BETWEEN_MS = 120; // two frames of a burst: what changes in less is the camera's noise
const BLINK_MS = 350;
const MORE_TRIES = 3; // than there are frames, before another target is shown first
const INSISTS_AT = 3; // showings of a target: then eyes that seem closed are looking down
const LOST_AT = 2; // targets in a row without a face
const LATER = 3; // targets shown before one that has failed comes again
const DOT_PX = [64, 14];

/** Why the show stopped: a text's key, or what the server said. */
export class Paused extends Error {
  constructor(key, words = "") {
    super(words);
    this.key = key;
  }
}

export class Show {
  #camera;
  #state;
  #stopped = null;
  #animation = null;
  /** The targets that were shown, for whoever wants to look on: [index, x, y]. */
  onTarget = () => {};

  constructor(camera, state) {
    this.#camera = camera;
    this.#state = state;
  }

  /** Stop as soon as can be; `run` then throws. */
  stop(key) {
    this.#stopped ??= new Paused(key);
  }

  /** Show the targets that lack frames until none does; throws Paused, Refused or NoCamera. */
  async run() {
    const wanted = this.#state.framesPerTarget;
    const targets = this.#state.targets;
    const queue = [...targets.keys()].filter((index) => targets[index].kept < wanted);
    const shown = new Map();
    let lost = 0;
    this.#progress();
    while (queue.length) {
      const index = queue.shift();
      shown.set(index, (shown.get(index) ?? 0) + 1);
      const trouble = await this.#one(index, shown.get(index) >= INSISTS_AT);
      this.#progress();
      lost = trouble === "no face" ? lost + 1 : 0;
      if (lost >= LOST_AT) throw new Paused("pause.noFace");
      if (trouble === "several faces") throw new Paused("pause.several");
      if (trouble === "still picture") throw new Paused("pause.still");
      if (trouble) queue.splice(LATER, 0, index);
    }
  }

  /** Show one target; returns "" or why it still lacks frames. */
  async #one(index, insist) {
    const target = this.#state.targets[index];
    const wanted = this.#state.framesPerTarget;
    this.#place(target);
    this.onTarget(index, target.x, target.y);
    element("stage").dataset.target = `${index} ${target.x} ${target.y}`;
    await this.#wait(SETTLES_MS);
    let verdict = "";
    for (let tries = wanted + MORE_TRIES; target.kept < wanted; tries--) {
      if (tries === 0) return verdict;
      const frame = await this.#camera.frame();
      this.#check();
      const answer = await ask(`keep?target=${index}${insist ? "&insist=1" : ""}`, frame);
      target.kept = answer.kept;
      verdict = answer.verdict;
      this.#note(verdict);
      this.#check();
      const good = verdict === "kept" || verdict === "full";
      if (target.kept < wanted) await this.#wait(good ? BETWEEN_MS : BLINK_MS);
    }
    return "";
  }

  #place({ x, y }) {
    const dot = element("dot");
    const [large, small] = DOT_PX;
    Object.assign(dot.style, { left: `${x}px`, top: `${y}px`, width: `${small}px`, height: `${small}px` });
    this.#animation?.cancel();
    this.#animation = dot.animate(
      [{ transform: `translate(-50%, -50%) scale(${large / small})` }, { transform: "translate(-50%, -50%) scale(1)" }],
      { duration: SETTLES_MS, easing: "ease-out" },
    );
  }

  #note(verdict) {
    const key = { "closed eyes": "note.closed", "no face": "note.noFace" }[verdict];
    element("note").hidden = !key;
    if (key) tell(element("note"), key);
  }

  #progress() {
    const round = this.#state.targets.filter((target) => target.round === this.#state.round);
    const done = round.filter((target) => target.kept >= this.#state.framesPerTarget).length;
    Object.assign(element("progress"), { max: round.length, value: done });
  }

  async #wait(ms) {
    await pause(ms);
    this.#check();
  }

  #check() {
    if (this.#stopped) throw this.#stopped;
  }
}
