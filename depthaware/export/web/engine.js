// The exported graphs in a thread of their own, so that the page stays responsive: photo and frames in, frames out.
import { cover, faceCrop, opacity, readCrop, roll, wholeImage } from "./crop.js";
import { FaceFinder } from "./faces.js";
import { relativeMotion } from "./motion.js";

const MOST_PIXELS = 2048, SHOWN = 1024, TILTED = 0.1, ASKEW = 0.35; // longest sides; roll, in radians
let ort, facts, sessions, faces, source;
let rest = { face: null, crop: null, keypoints: null }; // of the camera: the face last seen, its square, the first pose

const tasks = {
  // Open some of the graphs. `backend`: "wasm", "webgpu", or whichever is there.
  async load(names, threads, backend) {
    facts = await (await get("export.json")).json();
    if (backend === "webgpu" || (!backend && (await hasGpu()))) {
      try {
        return await open(names, threads, "webgpu", ".gpu.onnx");
      } catch (error) {
        if (error instanceof Missing || backend) throw error;
        console.warn(error); // a GPU that cannot compute this
      }
    }
    return open(names, threads, "wasm", ".onnx");
  },

  // The square around the face of a photo, its place there, and what drawing needs of it; null without a face.
  async photo(bitmap) {
    const image = draw(bitmap, MOST_PIXELS / Math.max(bitmap.width, bitmap.height));
    bitmap.close();
    const face = await faces.search(image.canvas);
    if (!face) return null;
    const angle = roll(face), crop = wholeImage(faceCrop(face, Math.abs(angle) < TILTED ? 0 : angle), image.canvas);
    const square = readSquare(image, crop), found = await detect("source", square);
    source = { ...found, ...(await run("source_encoder", found)) };
    tasks.restart();
    const { width, height } = image.canvas, { canvas, place } = reduce(image, crop, SHOWN / Math.max(width, height));
    const whole = { image: await createImageBitmap(canvas), place, mask: opacity(crop, image.canvas, facts.size) };
    return { pixels: toPixels(square), source: toList(source), crop, whole };
  },

  // The key points to which one image of the camera moves the photo; null without a face.
  async look(image, mirror) {
    const view = draw(image, 1, mirror);
    image.close();
    rest.face = await faces.follow(view.canvas, rest.face);
    if (!rest.face) return null;
    const angle = roll(rest.face);
    rest.crop = cover(rest.crop ?? faceCrop(rest.face, Math.abs(angle) < ASKEW ? 0 : angle), rest.face);
    const { width, height } = view.canvas, crop = wholeImage(rest.crop, view.canvas);
    const found = await detect("driving", readSquare(view, crop));
    rest.keypoints ??= found;
    return { moved: toList(relativeMotion(source, found, rest.keypoints)), crop, width, height };
  },

  restart() {
    rest = { face: null, crop: null, keypoints: null };
  },

  // The photo to be drawn, as `photo` found it.
  take(tensors) {
    source = fromList(tensors);
  },

  async draw(moved) {
    const { prediction } = await run("driver", { ...source, ...fromList(moved) });
    return toPixels(prediction.data);
  },
};

class Missing extends Error {}

async function get(file) {
  const answer = await fetch(file).catch(() => null);
  if (!answer?.ok) throw new Missing(file);
  return answer;
}

const bytes = async (file) => new Uint8Array(await (await get(file)).arrayBuffer());

async function hasGpu() {
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !adapter.info?.isFallbackAdapter; // one in software is slower than WebAssembly
}

async function open(names, threads, backend, suffix) {
  const runtime = `ort.${backend}.min.mjs`;
  ort = await import(`./${runtime}`).catch(() => { throw new Missing(runtime); });
  ort.env.wasm.wasmPaths = new URL(".", self.location.href).href;
  ort.env.wasm.numThreads = threads;
  sessions = {};
  for (const name of names) {
    const path = `${name}.bin`, [graph, data] = await Promise.all([bytes(name + suffix), bytes(path)]);
    const externalData = [{ path, data }];
    sessions[name] = await ort.InferenceSession.create(graph, { executionProviders: [backend], externalData });
  }
  if (names.includes("detector")) {
    const session = await ort.InferenceSession.create(await bytes("face.onnx"), { executionProviders: ["wasm"] });
    faces = new FaceFinder(async (...colors) => (await session.run({ colors: tensor(...colors) })).candidates.data);
  }
  return backend;
}

// Tensors as they travel between the workers.
const toList = (tensors) => Object.entries(tensors).map(([name, { data, dims }]) => [name, data, dims]);
const fromList = (list) => Object.fromEntries(list.map(([name, data, dims]) => [name, tensor(data, dims)]));
const tensor = (data, dims) => new ort.Tensor("float32", data, dims);

function run(name, values) {
  return sessions[name].run(Object.fromEntries(facts.graphs[name].inputs.map((key) => [key, values[key]])));
}

async function detect(role, square) {
  const image = tensor(square, [1, 3, facts.size, facts.size]), found = await run("detector", { image });
  const values = Object.entries(found).map(([key, value]) => [`${role}_${key}`, value]);
  return { [`${role}_image`]: image, ...Object.fromEntries(values) };
}

const canvases = [];

function draw(image, scale, mirror = false, slot = 0) { // never enlarges
  const canvas = (canvases[slot] ??= new OffscreenCanvas(1, 1)), factor = Math.min(scale, 1);
  const [width, height] = [image.width, image.height].map((length) => Math.max(1, Math.round(length * factor)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.setTransform(mirror ? -1 : 1, 0, 0, 1, mirror ? width : 0, 0);
  context.drawImage(image, 0, 0, width, height);
  return context;
}

// The square of an image at the size of the model; a large one is reduced first, so that nothing flickers.
function readSquare(image, crop) {
  const { canvas, place } = reduce(image, crop, facts.size / crop.side);
  return readCrop(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), place, facts.size);
}

// A smaller image, unless it would be nearly as large, and the place of a square in it.
function reduce({ canvas }, crop, scale) {
  const small = scale < 0.75 ? draw(canvas, scale, false, 1).canvas : canvas;
  const ratio = small.width / canvas.width, move = (at) => (at + 0.5) * ratio - 0.5;
  return { canvas: small, place: { ...crop, x: move(crop.x), y: move(crop.y), side: crop.side * ratio } };
}

function toPixels(planes) {
  const area = planes.length / 3, pixels = new Uint8ClampedArray(4 * area); // rounds
  for (let i = 0; i < area; i++) {
    for (let c = 0; c < 3; c++) pixels[4 * i + c] = 255 * planes[c * area + i];
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}

let queue = Promise.resolve();
self.onmessage = ({ data: { id, task, values } }) => {
  queue = queue.then(async () => {
    try {
      self.postMessage({ id, value: await tasks[task](...values) });
    } catch (error) {
      console.error(error);
      self.postMessage({ id, error: error.message, missing: error instanceof Missing });
    }
  });
};
