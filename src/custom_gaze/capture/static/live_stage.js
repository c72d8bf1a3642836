// What the live page draws of the screen: the gaze of each model, the last minute, a round's targets.
import { element } from "./page.js";

export const SHAPES = { personal: "disc", corrected: "square", base: "triangle" };
const COLORS = { personal: "--gaze", corrected: "--corrected", base: "--base" };
const canvas = element("screen");
const stage = element("stage");

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const isFull = () => document.fullscreenElement === stage;

/** The size of the screen in CSS pixels: the stage's own where it fills the screen. */
export function screenSize() {
  if (isFull()) return { width_px: stage.clientWidth, height_px: stage.clientHeight };
  return { width_px: screen.width, height_px: screen.height };
}

/** Fill the screen with the stage; false where the browser refuses. */
export async function goFull() {
  if (isFull()) return true;
  try {
    await stage.requestFullscreen({ navigationUI: "hide" });
  } catch {
    return false;
  }
  await new Promise((done) => setTimeout(done, 300)); // the window finds its size
  return isFull();
}

export const leaveFull = () => (isFull() ? document.exitFullscreen() : undefined);

/** Draw `view`: {screen: {width_px, height_px}, dots, heat, target, result, lines}. */
export function draw(view) {
  const { width_px, height_px } = view.screen;
  const shown = canvas.clientWidth || 1;
  const scale = shown / width_px;
  const ratio = devicePixelRatio;
  const size = [Math.round(shown * ratio), Math.round(height_px * scale * ratio)];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  if (!isFull()) canvas.style.aspectRatio = `${width_px} / ${height_px}`;
  const pen = canvas.getContext("2d");
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = color("--screen");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(scale * ratio, 0, 0, scale * ratio, 0, 0);
  const unit = isFull() ? 1 : Math.max(1, 0.45 / scale); // marks stay visible in the small view
  if (view.target) target(pen, view.target); // alone: whatever else is there draws the eye
  else {
    if (view.heat) heat(pen, view.heat, width_px, height_px);
    grid(pen, width_px, height_px, unit);
    if (view.result) results(pen, view.result, unit);
    for (const [name, point] of Object.entries(view.dots ?? {})) {
      const alpha = name === "personal" ? 0.9 : 0.75;
      mark(pen, name, inside(point, width_px, height_px), 16 * unit, alpha);
    }
  }
  stage.dataset.target = view.target ? [view.target.index, ...view.target.at].join(" ") : "";
}

/** A point held to the screen: what is looked at beside it is marked at its edge. */
const inside = ([x, y], width, height) => [
  Math.min(Math.max(x, 0), width),
  Math.min(Math.max(y, 0), height),
];

function grid(pen, width, height, unit) {
  pen.strokeStyle = color("--grid");
  pen.lineWidth = unit;
  pen.beginPath();
  for (const share of [0.25, 0.5, 0.75]) {
    pen.moveTo(share * width, 0);
    pen.lineTo(share * width, height);
    pen.moveTo(0, share * height);
    pen.lineTo(width, share * height);
  }
  pen.stroke();
}

function heat(pen, { cells, heat: values }, width, height) {
  const [columns, rows] = cells;
  pen.fillStyle = color("--gaze");
  values.forEach((value, index) => {
    if (value < 8) return;
    pen.globalAlpha = (0.75 * value) / 255;
    const [column, row] = [index % columns, Math.floor(index / columns)];
    const [left, top] = [(column * width) / columns, (row * height) / rows];
    pen.fillRect(left, top, width / columns + 0.5, height / rows + 0.5);
  });
  pen.globalAlpha = 1;
}

/** One model's mark: its shape tells it where its colour does not. */
function mark(pen, name, [x, y], size, alpha = 1) {
  pen.globalAlpha = alpha;
  pen.fillStyle = color(COLORS[name]);
  pen.strokeStyle = color("--screen");
  pen.lineWidth = size / 8;
  pen.beginPath();
  if (SHAPES[name] === "disc") pen.arc(x, y, size, 0, 2 * Math.PI);
  else if (SHAPES[name] === "square") pen.rect(x - size * 0.8, y - size * 0.8, size * 1.6, size * 1.6);
  else {
    pen.moveTo(x, y - size);
    pen.lineTo(x + size, y + size * 0.8);
    pen.lineTo(x - size, y + size * 0.8);
    pen.closePath();
  }
  pen.fill();
  pen.stroke();
  pen.globalAlpha = 1;
}

/** A target: a ring that shrinks onto its dot, which holds the eye. `share` goes from 0 to 1. */
function target(pen, { at: [x, y], share }) {
  pen.fillStyle = color("--target");
  pen.globalAlpha = 0.3;
  pen.beginPath();
  pen.arc(x, y, 10 + 34 * (1 - share), 0, 2 * Math.PI);
  pen.fill();
  pen.globalAlpha = 1;
  pen.beginPath();
  pen.arc(x, y, 10, 0, 2 * Math.PI);
  pen.fill();
  pen.fillStyle = color("--screen");
  pen.beginPath();
  pen.arc(x, y, 3, 0, 2 * Math.PI);
  pen.fill();
}

function results(pen, targets, unit) {
  for (const { target_px: [x, y], predicted_px } of targets) {
    for (const [name, [to_x, to_y]] of Object.entries(predicted_px)) {
      pen.strokeStyle = color("--faint");
      pen.lineWidth = 1.5 * unit;
      pen.globalAlpha = name === "personal" ? 1 : 0.4;
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(to_x, to_y);
      pen.stroke();
      mark(pen, name, [to_x, to_y], 9 * unit, name === "personal" ? 1 : 0.6);
    }
    pen.strokeStyle = color("--target");
    pen.lineWidth = 3 * unit;
    pen.beginPath();
    pen.moveTo(x - 13 * unit, y);
    pen.lineTo(x + 13 * unit, y);
    pen.moveTo(x, y - 13 * unit);
    pen.lineTo(x, y + 13 * unit);
    pen.stroke();
  }
}
