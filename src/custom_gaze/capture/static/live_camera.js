// The live page's camera: which there are, the one that is shown, and its frames as JPEGs.
import { element } from "./page.js";

const QUALITY = 0.95;
const WISHED = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const video = element("video");
const canvas = document.createElement("canvas");
const pen = canvas.getContext("2d", { alpha: false });

/** Why there is no picture, as the key of a text. */
export class NoCamera extends Error {}

const REASONS = {
  NotAllowedError: "live.camera.refused",
  NotFoundError: "live.camera.none",
  OverconstrainedError: "live.camera.none",
  NotReadableError: "live.camera.busy",
};

/** Show a camera, '' for the browser's choice; `gone` is called when it is unplugged. */
export async function open(id, gone) {
  close();
  if (!navigator.mediaDevices) throw new NoCamera("live.camera.none");
  let stream;
  try {
    const wish = id ? { ...WISHED, deviceId: { exact: id } } : WISHED;
    stream = await navigator.mediaDevices.getUserMedia({ video: wish, audio: false });
  } catch (error) {
    throw new NoCamera(REASONS[error.name] ?? "live.camera.busy");
  }
  const [track] = stream.getVideoTracks();
  track.addEventListener("ended", gone);
  video.srcObject = stream;
  await video.play();
  return track.getSettings().deviceId ?? "";
}

export function close() {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
}

/** Every camera as {id, label}; their names are told once one of them is allowed. */
export async function cameras() {
  const all = await navigator.mediaDevices.enumerateDevices();
  const found = all.filter((device) => device.kind === "videoinput");
  return found.map(({ deviceId, label }, n) => ({ id: deviceId, label: label || `${n + 1}` }));
}

/** Wait for the camera's next frame; returns the time it came, in milliseconds. */
export const nextFrame = () =>
  new Promise((come) => {
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback((now) => come(now));
    else requestAnimationFrame(come);
  });

/** What the camera shows now, unscaled, mirrored where the frames that trained the model were. */
export async function frame(mirrored) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width) return null;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  pen.setTransform(mirrored ? -1 : 1, 0, 0, 1, mirrored ? width : 0, 0);
  pen.drawImage(video, 0, 0);
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", QUALITY));
}
