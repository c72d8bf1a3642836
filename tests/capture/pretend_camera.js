// A webcam for tests: a canvas that shows what window.demoFrame(target) answers, a base64 JPEG, for
// the page's current target ("index x y", or "" before one), with a speck of noise in each frame.
// window.pretendCamera: fail (an error's name), unplug(), still, and moving: the person is drawn anew for
// each frame, as two frames of one target have to differ for more than a look.
(() => {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: 1280, height: 720 });
  const context = canvas.getContext("2d");
  let bitmap = null;
  let asked = null;
  const pretend = { fail: null, still: false, moving: false, stream: null };
  window.pretendCamera = pretend;
  const draw = () => {
    const target = document.getElementById("stage")?.hidden === false
      ? document.getElementById("stage").dataset.target ?? "" : "";
    if (target !== asked) {
      asked = target;
      bitmap = null; // no new frame before the one that looks there
      window.demoFrame(target).then(async (text) => {
        const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
        const made = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
        if (asked === target) bitmap = made;
      });
    }
    if (bitmap && pretend.moving) asked = null; // this one is shown once
    if (!bitmap) return;
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    if (!pretend.still) {
      context.fillStyle = `hsl(${Math.random() * 360} 80% 50%)`;
      context.fillRect(0, 0, 16, 16);
    }
  };
  setInterval(draw, 40);
  const device = { kind: "videoinput", deviceId: "pretend", label: "Webcam" };
  navigator.mediaDevices.enumerateDevices = async () => (pretend.fail === "NotFoundError" ? [] : [device]);
  navigator.mediaDevices.getUserMedia = async () => {
    if (pretend.fail) throw new DOMException("pretended", pretend.fail);
    pretend.stream = canvas.captureStream(25);
    return pretend.stream;
  };
  pretend.unplug = () => {
    const [track] = pretend.stream.getVideoTracks();
    track.stop();
    track.dispatchEvent(new Event("ended"));
  };
})();
