// The webcam: which there are, its stream in a video element, and single frames of it as JPEG.

const WANTED = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const LONGEST_WAIT_MS = 3000; // for a frame: one that hangs longer was unplugged, or sleeps

/** Why there is no picture: "refused", "none", "busy", "insecure", "unplugged" or "other". */
export class NoCamera extends Error {
  constructor(why, detail = "") {
    super(detail);
    this.why = why;
  }
}

const WHY = {
  NotAllowedError: "refused",
  SecurityError: "refused",
  NotFoundError: "none",
  OverconstrainedError: "none",
  NotReadableError: "busy",
  AbortError: "busy",
};

/** A webcam in a video element; its frames are `mirrored`, which may change, where the session's are. */
export class Camera {
  #video;
  #stream = null;
  #canvas = document.createElement("canvas");
  /** When the latest frame came, in the page's milliseconds. */
  came = 0;
  /** Called when a camera that delivered is gone. */
  unplugged = () => {};

  constructor(video, mirrored) {
    this.#video = video;
    this.mirrored = mirrored;
  }

  /** [{id, label}] of the cameras; labels are empty until one of them was opened once. */
  static async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return devices
      .filter((device) => device.kind === "videoinput")
      .map(({ deviceId, label }) => ({ id: deviceId, label }));
  }

  /** Open the camera `id`, or whichever the browser offers; throws NoCamera. */
  async open(id) {
    this.close();
    if (!navigator.mediaDevices?.getUserMedia) throw new NoCamera("insecure");
    const video = id ? { ...WANTED, deviceId: { exact: id } } : WANTED;
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
      this.#video.srcObject = this.#stream;
      await this.#video.play();
    } catch (error) {
      this.close();
      throw new NoCamera(WHY[error.name] ?? "other", error.message);
    }
    this.#track.addEventListener("ended", () => {
      this.close();
      this.unplugged();
    });
  }

  close() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
  }

  get isOpen() {
    return this.#stream !== null;
  }

  get #track() {
    return this.#stream.getVideoTracks()[0];
  }

  /** The video's size in pixels. */
  get size() {
    return { width: this.#video.videoWidth, height: this.#video.videoHeight };
  }

  get id() {
    return this.#track.getSettings().deviceId ?? "";
  }

  /** What capture.json says of it. */
  describe() {
    return {
      label: this.#track.label.slice(0, 200),
      width_px: this.#video.videoWidth,
      height_px: this.#video.videoHeight,
      frames_per_second: this.#track.getSettings().frameRate ?? null,
    };
  }

  /** The next frame, unscaled, as a JPEG; of a `part` only, where one is given; throws NoCamera where
      none comes. */
  async frame({ part = null, quality = 0.95 } = {}) {
    if (!this.isOpen) throw new NoCamera("unplugged");
    await this.#next();
    return this.again({ part, quality });
  }

  /** As `frame`, but of the picture that the video shows already. */
  async again({ part = null, quality = 0.95 } = {}) {
    const { width, height } = this.size;
    if (!width) throw new NoCamera("unplugged");
    const [x1, y1, x2, y2] = part ?? [0, 0, width, height];
    const [wide, high] = [x2 - x1, y2 - y1];
    if (this.#canvas.width !== wide || this.#canvas.height !== high) {
      Object.assign(this.#canvas, { width: wide, height: high });
    }
    const context = this.#canvas.getContext("2d", { alpha: false, willReadFrequently: true });
    if (this.mirrored) context.setTransform(-1, 0, 0, 1, width - x1, -y1);
    else context.setTransform(1, 0, 0, 1, -x1, -y1);
    context.drawImage(this.#video, 0, 0);
    const blob = await new Promise((done) => this.#canvas.toBlob(done, "image/jpeg", quality));
    if (!blob) throw new NoCamera("other");
    return blob;
  }

  /** Wait for a frame that was not shown yet. */
  #next() {
    return new Promise((done, failed) => {
      const late = setTimeout(() => failed(new NoCamera("unplugged")), LONGEST_WAIT_MS);
      const came = () => {
        clearTimeout(late);
        this.came = performance.now();
        done();
      };
      if (this.#video.requestVideoFrameCallback) this.#video.requestVideoFrameCallback(came);
      else requestAnimationFrame(came);
    });
  }
}
