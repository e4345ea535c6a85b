// The page: asks for photo and camera, lets the engine work, shows frames and says what is wrong.
const element = (id) => document.getElementById(id);
const say = (text) => { element("status").textContent = text; };
const settings = new URLSearchParams(location.search); // ?backend=wasm or webgpu, else the faster one
const CONSTRAINTS = { video: { width: 640, height: 480, facingMode: "user" } };
const FACE = "Please choose one that shows a face from the front, large and well lit.";
const REFUSALS = {
  NotAllowedError:
    "The camera was not allowed. Please allow it for this page in the settings of the browser, then start it again.",
  SecurityError:
    "Browsers give the camera only to pages whose address begins with https. Please tell the owner of this page.",
  NotFoundError: "No camera was found. Please connect one, then start it again.",
  NotReadableError: "The camera is in use. Please close the other program that shows it, then start it again.",
};
let eye, hand, info, running = false; // two engines: one looks at the next image while the other draws
let whole, latest; // the photo with the place of its square, and the square last drawn
const square = new OffscreenCanvas(1, 1);

function makeEngine() {
  const worker = new Worker("engine.js", { type: "module" }), waiting = new Map();
  let count = 0;
  worker.onmessage = ({ data: { id, value, error, missing } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(value);
    else reject(Object.assign(new Error(error), { missing }));
  };
  worker.onerror = ({ message }) => {
    const error = Object.assign(new Error(message ?? "engine.js"), { missing: !message });
    for (const { reject } of waiting.values()) reject(error);
  };
  return (task, values = [], transfer = []) => new Promise((resolve, reject) => {
    waiting.set(++count, { resolve, reject });
    worker.postMessage({ id: count, task, values }, transfer);
  });
}

// A service worker keeps the files for use offline, and gives the headers for threads to hosts that send none.
async function prepare() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("offline.js");
    await navigator.serviceWorker.ready;
  } catch (error) {
    return console.warn(error); // then without a copy for offline use
  }
  if (!navigator.serviceWorker.controller) {
    const claimed = new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve));
    await Promise.race([claimed, new Promise((resolve) => setTimeout(resolve, 2000))]);
  }
  if (!self.crossOriginIsolated && !sessionStorage.reloaded) {
    sessionStorage.reloaded = "yes"; // once: the headers come with the page itself
    location.reload();
    await new Promise(() => {});
  }
}

function show(pixels, canvas) {
  const side = Math.sqrt(pixels.length / 4);
  resize(canvas, side, side);
  canvas.getContext("2d").putImageData(new ImageData(pixels, side, side), 0, 0);
}

function resize(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
}

// The square in its place in the photo, or alone.
function showResult(pixels) {
  const canvas = element("result"), alone = !element("paste").checked, { image, place, mask } = whole;
  latest = pixels;
  for (let i = 0; i < mask.length; i++) pixels[4 * i + 3] = alone ? 255 : mask[i];
  if (alone) return show(pixels, canvas);
  show(pixels, square);
  resize(canvas, image.width, image.height);
  const context = canvas.getContext("2d"), scale = place.side / square.width;
  context.resetTransform();
  context.drawImage(image, 0, 0);
  context.translate(place.x + 0.5, place.y + 0.5);
  context.rotate(place.angle);
  context.scale(scale, scale);
  context.imageSmoothingQuality = "high";
  context.drawImage(square, -square.width / 2, -square.height / 2);
}

async function choose(file, name) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    return say(`${name} is no photo that this browser can show. Please choose a JPEG or PNG file.`);
  }
  if (!running) say("Looking for the face …");
  const found = await eye("photo", [image], [image]);
  if (!found) return say(`No face was found in ${name}. ${FACE}`);
  await hand("take", [found.source]);
  whole?.image.close();
  whole = found.whole;
  show(found.pixels, element("source"));
  showResult(found.pixels);
  element("camera").disabled = false;
  if (!running) say("Now start the camera, and look straight ahead.");
}

async function start() {
  const video = element("video"), button = element("camera");
  button.disabled = true;
  try {
    if (!navigator.mediaDevices) throw new DOMException("", "SecurityError");
    video.srcObject = await navigator.mediaDevices.getUserMedia(CONSTRAINTS);
    await video.play();
    video.parentElement.style.aspectRatio = `${video.videoWidth} / ${video.videoHeight}`;
    await eye("restart");
    running = true;
    element("rest").disabled = button.disabled = false;
    button.textContent = "Stop the camera";
    say("Look straight ahead …");
    await follow(video);
    say("The camera has stopped. Start it again to go on.");
  } catch (error) {
    console.warn(error);
    say(REFUSALS[error.name] ?? problem(error));
  }
  running = false;
  stop();
  outline(null);
  element("rest").disabled = true;
  button.disabled = false;
  button.textContent = "Start the camera";
}

function stop() {
  element("video").srcObject?.getTracks().forEach((track) => track.stop());
}

async function follow(video) {
  const [track] = video.srcObject.getVideoTracks(), times = [];
  let drawing = Promise.resolve(), last = -1;
  while (track.readyState === "live") {
    if (video.currentTime === last) {
      await new Promise((resolve) => setTimeout(resolve, 5)); // no new image yet
      continue;
    }
    last = video.currentTime;
    const image = await createImageBitmap(video);
    const seen = await eye("look", [image, true], [image]);
    outline(seen);
    await drawing;
    if (!seen) {
      times.length = 0;
      say("No face is seen by the camera. Please move into the middle, into better light.");
      continue;
    }
    drawing = hand("draw", [seen.moved]).then((pixels) => {
      showResult(pixels);
      times.push(performance.now());
      if (times.length > 10) times.shift();
      document.body.dataset.frames = Number(document.body.dataset.frames ?? 0) + 1;
      if (times.length === 10) report(9000 / (times[9] - times[0]));
    });
  }
  await drawing;
}

function report(rate) {
  document.body.dataset.rate = rate.toFixed(1);
  const where = info.backend === "webgpu" ? "on the GPU" : `on the CPU, ${info.threads} threads`;
  say(`${rate.toFixed(0)} frames per second, ${where}`);
}

// The square that the model sees, over the mirrored view of the camera.
function outline(seen) {
  const { style } = element("square");
  style.display = seen ? "block" : "none";
  if (!seen) return;
  const { crop, width, height } = seen;
  style.left = `${(100 * (crop.x + 0.5 - crop.side / 2)) / width}%`;
  style.top = `${(100 * (crop.y + 0.5 - crop.side / 2)) / height}%`;
  style.width = `${(100 * crop.side) / width}%`;
  style.rotate = `${crop.angle}rad`;
}

function problem(error) {
  return error.missing
    ? `A part of this page is missing (${error.message}). Please reload it; if that does not help, tell its owner.`
    : `Something went wrong (${error.message}). Please reload the page.`;
}

element("photo").addEventListener("change", ({ target }) => {
  const [file] = target.files;
  target.value = ""; // the same file may be chosen again
  if (file) choose(file, file.name).catch((error) => say(problem(error)));
});
element("camera").addEventListener("click", () => (running ? stop() : start()));
element("paste").addEventListener("change", () => { if (latest) showResult(latest); });
element("rest").addEventListener("click", () => eye("restart"));

try {
  await prepare();
  [eye, hand] = [makeEngine(), makeEngine()];
  const cores = Math.min(navigator.hardwareConcurrency, 8);
  const threads = self.crossOriginIsolated ? Math.max(1, cores >> 1) : 1, wanted = settings.get("backend");
  const [backend] = await Promise.all([
    eye("load", [["detector", "source_encoder"], threads, wanted]),
    hand("load", [["driver"], threads, wanted]),
  ]);
  info = { backend, threads: 2 * threads };
  Object.assign(document.body.dataset, info);
  element("photo").disabled = false;
  const example = await fetch("portrait.png");
  if (example.ok && !whole) await choose(await example.blob(), "The example");
  document.body.dataset.ready = "yes";
} catch (error) {
  console.error(error);
  say(problem(error));
}
