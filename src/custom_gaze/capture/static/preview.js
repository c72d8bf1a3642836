// The camera's picture with the face's box, and what is good of it and what is not.
import { ask, element, number, pause, tell } from "./page.js";

const EVERY_MS = 150; // between an answer and the next frame
const CHECKS = ["face", "size", "light", "eyes", "middle"];
const SVG = "http://www.w3.org/2000/svg";

/** Looks at the camera's frames, one after the other, while it is `running`. */
export class Preview {
  #camera;
  #failed;
  #round = 0;
  #distances = [];
  /** Called with each look. */
  seen = () => {};

  /** `failed` is called with what ended it. */
  constructor(camera, failed) {
    this.#camera = camera;
    this.#failed = failed;
    element("checks").replaceChildren();
    for (const name of CHECKS) {
      const line = document.createElement("li");
      line.id = `check-${name}`;
      line.append(document.createElement("b"), document.createElement("span"));
      element("checks").append(line);
    }
    this.#show(null);
  }

  async start() {
    const round = ++this.#round;
    try {
      while (round === this.#round) {
        if (document.hidden) {
          await pause(EVERY_MS);
          continue;
        }
        const look = await ask("look", await this.#camera.frame({ quality: 0.85 }));
        if (round !== this.#round) return;
        this.#show(look);
        this.seen(look);
        await pause(EVERY_MS);
      }
    } catch (error) {
      if (round === this.#round) {
        this.stop();
        this.#failed(error);
      }
    }
  }

  stop() {
    this.#round++;
    this.#show(null);
  }

  /** The face's distance in cm, of the last looks, or null. */
  get distance() {
    const sorted = [...this.#distances].sort((a, b) => a - b);
    return sorted.length < 3 ? null : sorted[Math.floor(sorted.length / 2)];
  }

  #show(look) {
    this.#distances = look ? [...this.#distances, look.distance].slice(-15).filter(Boolean) : [];
    const overlay = element("overlay");
    overlay.replaceChildren();
    if (look?.box) {
      overlay.setAttribute("viewBox", `0 0 ${look.width} ${look.height}`);
      const [x1, y1, x2, y2] = look.box;
      const box = { x: x1, y: y1, width: x2 - x1, height: y2 - y1, rx: 12, class: "face" };
      overlay.append(drawn("rect", box));
      for (const [cx, cy] of look.eyes ?? []) {
        overlay.append(drawn("circle", { cx, cy, r: (x2 - x1) / 40, class: "eye" }));
      }
    }
    for (const name of CHECKS) {
      const line = element(`check-${name}`);
      const good = look ? look.checks[name] : null;
      line.className = good === null ? "unknown" : good ? "good" : "bad";
      line.firstChild.textContent = good === null ? "–" : good ? "✓" : "!";
      tell(line.lastChild, ...sentence(name, look));
    }
    const bad = look && CHECKS.find((name) => !look.checks[name]);
    tell(element("verdict"), ...(bad === null ? ["verdict.wait"] : verdict(bad, look)));
    element("verdict").className = bad ? "bad" : "good";
  }
}

function verdict(bad, look) {
  return bad === undefined ? ["verdict.good"] : sentence(bad, look);
}

/** The key and the values of what is said of a check. */
function sentence(name, look) {
  if (!look) return [`check.${name}`];
  const good = look.checks[name];
  if (name === "face" && !good) return [look.problem === "no face" ? "face.none" : "face.several"];
  if (!look.box) return [`check.${name}`];
  if (name === "size") return [good ? "size.good" : "size.bad", { px: number(look.size) }];
  if (name === "light" && !good) return [lightProblem(look)];
  return [`${name}.${good ? "good" : "bad"}`];
}

function lightProblem({ light }) {
  if (light < 50) return "light.dark";
  return light > 215 ? "light.bright" : "light.side";
}

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

