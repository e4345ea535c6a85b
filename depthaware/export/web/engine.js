// The exported graphs in a thread of their own, so that the page stays responsive: photo and frames in, frames out.
import { cover, faceCrop, readCrop, roll, wholeImage } from "./crop.js";
import { FaceFinder } from "./faces.js";
import { relativeMotion } from "./motion.js";

const MOST_PIXELS = 2048, TILTED = 0.1, ASKEW = 0.35; // longest side of a photo; roll of photos and cameras, in radians
let ort, facts, sessions, faces, source;
let rest = { face: null, crop: null, keypoints: null }; // of the camera: the face last seen, its square, the first pose

const tasks = {
  // `backend`: "wasm", "webgpu", or whichever is there.
  async load(backend) {
    facts = await (await get("export.json")).json();
    if (backend === "webgpu" || (!backend && (await hasGpu()))) {
      try {
        return await open("webgpu", ".gpu.onnx");
      } catch (error) {
        if (error instanceof Missing || backend) throw error;
        console.warn(error); // a GPU that cannot compute this
      }
    }
    return open("wasm", ".onnx");
  },

  async photo(bitmap) {
    const image = draw(bitmap, Math.min(1, MOST_PIXELS / Math.max(bitmap.width, bitmap.height)));
    const face = await faces.search(image.canvas);
    if (!face) return null;
    const angle = roll(face), crop = wholeImage(faceCrop(face, Math.abs(angle) < TILTED ? 0 : angle), image.canvas);
    const planes = readSquare(bitmap, image, crop), found = await detect("source", planes);
    const encoding = await run("source_encoder", { source_image: found.image, ...found.values });
    source = { source_image: found.image, ...found.values, ...encoding };
    tasks.restart();
    return toPixels(planes);
  },

  // One frame of the camera: null without a face.
  async frame(bitmap, mirror) {
    const image = draw(bitmap, 1, mirror);
    rest.face = await faces.follow(image.canvas, rest.face);
    if (!rest.face) return null;
    const angle = roll(rest.face);
    rest.crop = cover(rest.crop ?? faceCrop(rest.face, Math.abs(angle) < ASKEW ? 0 : angle), rest.face);
    const crop = wholeImage(rest.crop, image.canvas);
    const { values } = await detect("driving", readSquare(bitmap, image, crop, mirror));
    rest.keypoints ??= values;
    const moved = relativeMotion(source, values, rest.keypoints, ort.Tensor);
    const { prediction } = await run("driver", { ...source, ...moved });
    return { pixels: toPixels(await prediction.getData()), crop };
  },

  restart() {
    rest = { face: null, crop: null, keypoints: null };
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

async function open(backend, suffix) {
  const runtime = `ort.${backend}.min.mjs`;
  ort = await import(`./${runtime}`).catch(() => { throw new Missing(runtime); });
  ort.env.wasm.wasmPaths = new URL(".", self.location.href).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
  const start = performance.now();
  const names = Object.keys(facts.graphs);
  const files = await Promise.all([bytes("face.onnx"), ...names.flatMap((name) => [bytes(name + suffix), bytes(`${name}.bin`)])]);
  const loaded = performance.now();
  sessions = { face: await ort.InferenceSession.create(files[0], { executionProviders: ["wasm"] }) };
  for (const [i, name] of names.entries()) {
    const [graph, data] = files.slice(1 + 2 * i);
    const externalData = [{ path: `${name}.bin`, data }];
    sessions[name] = await ort.InferenceSession.create(graph, { executionProviders: [backend], externalData });
  }
  const shape = [1, 3, 128, 128];
  faces = new FaceFinder(async (colors) => (await sessions.face.run({ colors: new ort.Tensor("float32", colors, shape) })).candidates.data);
  return { backend, size: facts.size, threads: ort.env.wasm.numThreads, fetched: loaded - start, opened: performance.now() - loaded };
}

function run(name, values) {
  return sessions[name].run(Object.fromEntries(facts.graphs[name].inputs.map((key) => [key, values[key]])));
}

async function detect(role, planes) {
  const image = new ort.Tensor("float32", planes, [1, 3, facts.size, facts.size]), found = await run("detector", { image });
  return { image, values: Object.fromEntries(Object.entries(found).map(([key, value]) => [`${role}_${key}`, value])) };
}

const canvases = [];

function draw(bitmap, scale, mirror = false, slot = 0) {
  const canvas = (canvases[slot] ??= new OffscreenCanvas(1, 1));
  const [width, height] = [bitmap.width, bitmap.height].map((length) => Math.max(1, Math.round(length * scale)));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.setTransform(mirror ? -1 : 1, 0, 0, 1, mirror ? width : 0, 0);
  context.drawImage(bitmap, 0, 0, width, height);
  return context;
}

// The square of an image at the size of the model; a large one is reduced first, so that nothing flickers.
function readSquare(bitmap, { canvas }, crop, mirror = false) {
  const scale = Math.min(1, facts.size / crop.side), small = scale < 0.75 ? draw(canvas, scale, false, 1) : canvas.getContext("2d");
  const ratio = small.canvas.width / canvas.width, move = (at) => (at + 0.5) * ratio - 0.5;
  const pixels = small.getImageData(0, 0, small.canvas.width, small.canvas.height);
  return readCrop(pixels, { x: move(crop.x), y: move(crop.y), side: crop.side * ratio, angle: crop.angle }, facts.size);
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
