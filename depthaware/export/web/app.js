// The exported graphs under onnxruntime-web: photo and camera in, frames out, nothing sent.
import { relativeMotion } from "./motion.js";

const element = (id) => document.getElementById(id);
const say = (text) => { element("status").textContent = text; };
const known = { source: null, initial: null, running: false };
let ort, facts, sessions;

async function isolate() {
  if (!("serviceWorker" in navigator)) return;
  await navigator.serviceWorker.register("worker.js");
  await navigator.serviceWorker.ready;
  if (!self.crossOriginIsolated && !sessionStorage.reloaded) {
    sessionStorage.reloaded = "yes"; // once: the headers come with the page itself
    location.reload();
    await new Promise(() => {});
  }
}

async function load() {
  ort = await import("./ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL(".", location.href).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const answer = await fetch("export.json");
  if (!answer.ok) throw new Error("export.json");
  facts = await answer.json();
  const size = facts.size;
  for (const id of ["source", "driving", "result"]) Object.assign(element(id), { width: size, height: size });
  sessions = {};
  for (const [name, graph] of Object.entries(facts.graphs)) {
    const file = await fetch(graph.file);
    if (!file.ok) throw new Error(graph.file);
    sessions[name] = await ort.InferenceSession.create(await file.arrayBuffer(), { executionProviders: ["wasm"] });
  }
}

async function run(name, values) {
  const { inputs } = facts.graphs[name];
  return sessions[name].run(Object.fromEntries(inputs.map((key) => [key, values[key]])));
}

async function detect(role, canvas) {
  const image = toTensor(canvas);
  const found = await run("detector", { image });
  return Object.fromEntries(Object.entries(found).map(([key, value]) => [`${role}_${key}`, value]));
}

function toTensor(canvas) {
  const { width, height } = canvas;
  const pixels = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, width, height).data;
  const area = width * height, planes = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) planes[c * area + i] = pixels[4 * i + c] / 255;
  return new ort.Tensor("float32", planes, [1, 3, height, width]);
}

function show(tensor, canvas) {
  const [, , height, width] = tensor.dims, area = width * height, pixels = new Uint8ClampedArray(4 * area);
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = 255 * tensor.data[c * area + i];
    pixels[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
}

function drawSquare(canvas, image, width, height, mirror = false) {
  const side = Math.min(width, height), context = canvas.getContext("2d", { willReadFrequently: true });
  context.setTransform(mirror ? -1 : 1, 0, 0, 1, mirror ? canvas.width : 0, 0);
  context.drawImage(image, (width - side) / 2, (height - side) / 2, side, side, 0, 0, canvas.width, canvas.height);
}

async function encode() {
  const source = { source_image: toTensor(element("source")), ...(await detect("source", element("source"))) };
  known.source = { ...source, ...(await run("source_encoder", source)) };
}

async function choose(file) {
  try {
    const image = await createImageBitmap(file);
    drawSquare(element("source"), image, image.width, image.height);
  } catch {
    return say(`${file.name} is no photo that this browser can show. Please choose a JPEG or PNG file.`);
  }
  await encode();
  element("camera").disabled = known.running;
  if (!known.running) say("Now start the camera.");
}

async function start() {
  const video = document.createElement("video");
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
  } catch (error) {
    return say(error.name === "NotFoundError" ? "No camera was found. Please connect one and try again."
      : "The camera was not allowed or is in use. Please allow it for this page in the browser's settings and try again.");
  }
  Object.assign(video, { muted: true, playsInline: true });
  await video.play();
  known.running = true;
  element("camera").disabled = true;
  element("again").disabled = false;
  let shown = 0, since = performance.now();
  while (video.srcObject.active) {
    drawSquare(element("driving"), video, video.videoWidth, video.videoHeight, true);
    const driving = await detect("driving", element("driving"));
    known.initial ??= driving;
    const moved = relativeMotion(known.source, driving, known.initial, ort.Tensor);
    show((await run("driver", { ...known.source, ...moved })).prediction, element("result"));
    if (++shown % 10 === 0) {
      const rate = 1e4 / (performance.now() - since);
      since = performance.now();
      document.body.dataset.rate = rate.toFixed(1);
      say(`${rate.toFixed(1)} frames per second, ${ort.env.wasm.numThreads} threads`);
    }
    await new Promise(requestAnimationFrame);
  }
  known.running = false;
  element("camera").disabled = false;
  say("The camera has stopped. Start it again to go on.");
}

element("photo").addEventListener("change", (event) => event.target.files[0] && choose(event.target.files[0]));
element("camera").addEventListener("click", start);
element("again").addEventListener("click", () => { known.initial = null; });
try {
  await isolate();
  await load();
  say("Choose a photo of a face.");
  document.body.dataset.ready = "yes";
} catch (error) {
  console.error(error);
  say(`A part of this page is missing or damaged (${error.message}). Please reload it; if that does not help, tell whoever runs it.`);
}
