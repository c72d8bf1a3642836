// How wide the screen is and how far away the eyes are.
import { element, number, tell } from "./page.js";

const CARD_CM = [8.56, 5.398]; // ISO/IEC 7810 ID-1: bank cards, driving licences
const WIDTH_CM = [5, 500];
const DISTANCE_CM = [15, 500];

/** The step that measures the screen. */
export class Measure {
  #preview;
  #last;
  #typedDistance = false;
  #ratio = devicePixelRatio;
  #changed;

  /** `last` is the screen of the capture before, or null; `changed` is called when it is. */
  constructor(preview, last, changed) {
    this.#preview = preview;
    this.#last = last;
    this.#changed = changed;
    if (last) {
      element("by-width").checked = true;
      element("width").value = last.width_cm.toFixed(1);
      element("distance").value = last.distance_cm.toFixed(0);
      this.#typedDistance = true;
    }
    for (const id of ["by-card", "by-width", "card-px", "width"]) {
      element(id).addEventListener("input", () => this.show());
    }
    element("distance").addEventListener("input", () => {
      this.#typedDistance = true;
      this.show();
    });
    element("take-distance").addEventListener("click", () => {
      element("distance").value = this.#preview.distance.toFixed(0);
      this.#typedDistance = false;
      this.show();
    });
    addEventListener("resize", () => {
      if (devicePixelRatio !== this.#ratio && !this.#byWidth) this.show(); // zoomed: another card
      this.#ratio = devicePixelRatio;
    });
    this.show();
  }

  /** Take distances from this preview from now on. */
  follow(preview) {
    this.#preview = preview;
  }

  get #byWidth() {
    return element("by-width").checked;
  }

  get #cmPerPx() {
    return CARD_CM[0] / Number(element("card-px").value);
  }

  /** The width in cm of a picture of so many of the page's pixels, all over the screen. */
  #widthCm(px) {
    return this.#byWidth ? parse(element("width").value) : this.#cmPerPx * px;
  }

  /** Whether all of it is known. */
  get isKnown() {
    const width = this.#widthCm(screen.width);
    return between(width, WIDTH_CM) && between(parse(element("distance").value), DISTANCE_CM);
  }

  show() {
    const card = element("card");
    const px = Number(element("card-px").value);
    card.style.width = `${px}px`;
    card.style.height = `${(px * CARD_CM[1]) / CARD_CM[0]}px`;
    element("card-way").hidden = this.#byWidth;
    element("width-way").hidden = !this.#byWidth;
    element("last-width").hidden = !this.#asLast;
    const width = this.#widthCm(screen.width);
    const inches = (width * Math.hypot(screen.width, screen.height)) / screen.width / 2.54;
    const known = between(width, WIDTH_CM);
    const values = { cm: number(width || 0, 1), inch: number(inches || 0, 1) };
    element("found-width").hidden = this.#byWidth && !element("width").value; // nothing is wrong yet
    tell(element("found-width"), known ? "screen.found" : "screen.unknown", values);
    this.showDistance();
    this.#changed();
  }

  showDistance() {
    const found = this.#preview.distance;
    element("take-distance").disabled = found === null;
    const values = { cm: number(found ?? 0) };
    tell(element("found-distance"), found === null ? "distance.none" : "distance.found", values);
  }

  /** The screen as the server takes it, for a full screen of `width` × `height` of our pixels. */
  result(width, height) {
    return {
      width_px: width,
      height_px: height,
      pixel_ratio: devicePixelRatio,
      width_cm: this.#widthCm(width),
      width_from: this.#byWidth ? (this.#asLast ? this.#last.width_from : "typed") : "card",
      distance_cm: parse(element("distance").value),
      distance_from: this.#typedDistance ? "typed" : "face",
    };
  }

  get #asLast() {
    return this.#last !== null && element("width").value === this.#last.width_cm.toFixed(1);
  }
}

const parse = (text) => Number(text.replace(",", ".")) || 0;
const between = (value, [low, high]) => value >= low && value <= high;
