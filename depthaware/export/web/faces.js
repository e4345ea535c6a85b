// Faces in an image, by BlazeFace.
const SIDE = 128, SCORE = 0.5, CLEAR = 0.7, SAME = 0.3;

export class FaceFinder {
  constructor(run) { // colors and their dimensions -> candidates, 17 numbers each
    this.run = run;
    this.canvas = new OffscreenCanvas(SIDE, SIDE);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.context.imageSmoothingQuality = "high";
  }

  // The largest face of the whole image, or the one that continues `last`.
  async follow(image, last) {
    const faces = await this.look(image, whole(image), SCORE);
    return last ? faces.sort((a, b) => overlap(b.box, last.box) - overlap(a.box, last.box))[0] : largest(faces);
  }

  // The largest face of a photo, in which it may be small: closer and closer looks, until one is sure.
  async search(image) {
    for (let parts = 1; parts <= 4; parts *= 2) {
      const found = [];
      for (const view of tiles(image, parts)) {
        for (const face of await this.look(image, view, parts === 1 ? SCORE : CLEAR)) {
          const again = await this.closeUp(image, face);
          if (again) found.push(again);
        }
      }
      if (found.length) return largest(found);
    }
    return undefined;
  }

  async closeUp(image, face) {
    const [left, top, right, bottom] = face.box, width = Math.max(right - left, bottom - top);
    const view = (zoom) => ({
      left: (left + right - zoom * width + 1) / 2, top: (top + bottom - zoom * width + 1) / 2, side: zoom * width,
    });
    for (const zoom of [4, 2.5]) {
      const again = (await this.look(image, view(zoom), CLEAR)).find((other) => overlap(other.box, face.box) > SAME);
      if (!again) return undefined;
      face = again;
    }
    return face;
  }

  async look(image, { left, top, side }, score) {
    this.context.fillRect(0, 0, SIDE, SIDE); // black beyond the image
    this.context.drawImage(image, left, top, side, side, 0, 0, SIDE, SIDE);
    const { data } = this.context.getImageData(0, 0, SIDE, SIDE);
    const area = SIDE * SIDE, colors = new Float32Array(3 * area);
    for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) colors[c * area + i] = data[4 * i + c];
    const found = await this.run(colors, [1, 3, SIDE, SIDE]), step = side / SIDE, faces = [];
    for (let i = 0; i < found.length; i += 17) {
      if (found[i] < score) continue;
      const pixels = Array.from(found.subarray(i + 1, i + 17), (value, k) => value * step + (k % 2 ? top : left) - 0.5);
      faces.push({ score: found[i], box: pixels.slice(0, 4), points: pixels.slice(4) });
    }
    return merge(faces);
  }
}

const whole = ({ width, height }) => ({ left: 0, top: 0, side: Math.max(width, height) });

function tiles(image, parts) {
  if (parts === 1) return [whole(image)];
  const side = Math.max(image.width, image.height) / parts, places = [];
  for (let top = 0; top === 0 || top < image.height - side / 2; top += side / 2) {
    for (let left = 0; left === 0 || left < image.width - side / 2; left += side / 2) places.push({ left, top, side });
  }
  return places;
}

const largest = (faces) => faces.sort((a, b) => b.box[2] - b.box[0] - (a.box[2] - a.box[0]))[0];

// One face of all that show the same one, averaged by their scores.
function merge(faces) {
  const merged = [];
  let rest = faces.sort((a, b) => b.score - a.score);
  while (rest.length) {
    const [best] = rest, same = rest.filter((face) => face === best || overlap(face.box, best.box) > SAME);
    const total = same.reduce((sum, face) => sum + face.score, 0);
    const weighted = (key, i) => same.reduce((sum, face) => sum + face.score * face[key][i], 0) / total;
    const mean = (key) => best[key].map((_, i) => weighted(key, i));
    merged.push({ score: best.score, box: mean("box"), points: mean("points") });
    rest = rest.filter((face) => !same.includes(face));
  }
  return merged;
}

function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const shared = Math.max(width, 0) * Math.max(height, 0), area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return shared / Math.max(area(a) + area(b) - shared, 1e-6);
}
