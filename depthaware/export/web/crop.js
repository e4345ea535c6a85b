// The square of an image around a face, as depthaware.faces places it. Pixels have their centers at integers.
const FACTOR = 2.2, LIFT = 0.11, HEAD = 1.4; // sides of the square, its lift, and the whole head, in sides of the box
const USUAL = [1.6, 2.66], SHIFT = 0.17; // sides and shifts of squares that are crops of faces already
const FEATHER = 0.12; // width of the border that fades out, in sides of the square

export function roll({ points }) {
  return Math.atan2(points[3] - points[1], points[2] - points[0]);
}

export function faceCrop({ box: [left, top, right, bottom] }, angle = 0, factor = FACTOR) {
  const side = Math.max(right - left, bottom - top);
  const x = (left + right) / 2 + Math.sin(angle) * LIFT * side;
  const y = (top + bottom) / 2 - Math.cos(angle) * LIFT * side;
  return { x, y, side: factor * side, angle };
}

// The middle of an image that is a crop of a face already.
export function wholeImage(crop, { width, height }) {
  const side = Math.min(width, height), box = crop.side / FACTOR, x = (width - 1) / 2, y = (height - 1) / 2;
  const usual = side / box >= USUAL[0] && side / box <= USUAL[1] && Math.max(width, height) <= 1.1 * side;
  return usual && Math.max(Math.abs(x - crop.x), Math.abs(y - crop.y)) <= SHIFT * box ? { x, y, side, angle: 0 } : crop;
}

// The square of the frame before, enlarged and moved by as little as keeps the whole head inside.
export function cover(square, face) {
  const cos = Math.cos(square.angle), sin = Math.sin(square.angle);
  const head = faceCrop(face, 0, HEAD), side = Math.max(square.side, head.side);
  const turn = ({ x, y }) => [cos * x + sin * y, cos * y - sin * x];
  const middle = turn(head), reach = (side - head.side) / 2;
  const [u, v] = turn(square).map((at, axis) => Math.min(Math.max(at, middle[axis] - reach), middle[axis] + reach));
  return { x: cos * u - sin * v, y: sin * u + cos * v, side, angle: square.angle };
}

// Opacity, 0 to 255, of a square that is drawn back into its image: it fades out towards its sides inside the image.
export function opacity(crop, image, size) {
  const sides = [[0, -1], [0, 1], [1, -1], [1, 1]].filter((side) => isVisible(crop, image, ...side));
  return Uint8ClampedArray.from({ length: size * size }, (_, i) => {
    const place = [i % size, Math.floor(i / size)].map((at) => (at + 0.5) / size - 0.5);
    return sides.reduce((value, [axis, sign]) => value * ramp((0.5 - sign * place[axis]) / FEATHER), 255);
  });
}

function isVisible({ x, y, side, angle }, { width, height }, axis, sign) {
  const cos = side * Math.cos(angle), sin = side * Math.sin(angle);
  for (let i = -32; i <= 32; i++) {
    const [a, b] = axis ? [i / 64, sign / 2] : [sign / 2, i / 64], u = x + cos * a - sin * b, v = y + sin * a + cos * b;
    if (u >= 0.5 && v >= 0.5 && u <= width - 1.5 && v <= height - 1.5) return true;
  }
  return false;
}

function ramp(position) {
  const at = Math.min(Math.max(position, 0), 1);
  return at * at * (3 - 2 * at);
}

// Red, green and blue planes in [0, 1] of a square; beyond the image its edge goes on.
export function readCrop({ data, width, height }, { x, y, side, angle }, size) {
  const planes = new Float32Array(3 * size * size), step = side / size, middle = (size - 1) / 2;
  const a = Math.cos(angle) * step, b = Math.sin(angle) * step;
  for (let row = 0, at = 0; row < size; row++) {
    for (let column = 0; column < size; column++, at++) {
      const u = clamp(x + a * (column - middle) - b * (row - middle), width);
      const v = clamp(y + b * (column - middle) + a * (row - middle), height);
      const left = Math.floor(u), top = Math.floor(v), right = u - left, down = v - top;
      const first = 4 * (top * width + left), next = right ? 4 : 0, below = down ? 4 * width : 0;
      for (let c = 0; c < 3; c++) {
        const i = first + c, above = data[i] + right * (data[i + next] - data[i]);
        const under = data[i + below] + right * (data[i + below + next] - data[i + below]);
        planes[c * size * size + at] = (above + down * (under - above)) / 255;
      }
    }
  }
  return planes;
}

const clamp = (value, length) => Math.min(Math.max(value, 0), length - 1);
