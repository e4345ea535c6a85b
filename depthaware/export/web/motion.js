// Relative motion (Siarohin et al. 2019, eq. 11): the source's key points moved like the driving ones since the first.
export function relativeMotion(source, driving, initial) {
  const points = [source.source_kp_value, driving.driving_kp_value, initial.driving_kp_value].map(({ data }) => data);
  const scale = Math.sqrt(Math.max(hullArea(points[0]), 1e-8) / Math.max(hullArea(points[2]), 1e-8));
  const value = points[0].map((x, i) => x + scale * (points[1][i] - points[2][i]));
  const moved = { driving_kp_value: { data: value, dims: driving.driving_kp_value.dims } };
  if (!driving.driving_kp_jacobian) return moved;
  const frames = [source.source_kp_jacobian, driving.driving_kp_jacobian, initial.driving_kp_jacobian];
  const jacobian = new Float32Array(frames[1].data.length);
  for (let i = 0; i < jacobian.length; i += 4) {
    const [own, now, first] = frames.map(({ data }) => data.subarray(i, i + 4));
    jacobian.set(product(product(now, inverse(first)), own), i);
  }
  return { ...moved, driving_kp_jacobian: { data: jacobian, dims: driving.driving_kp_jacobian.dims } };
}

const product = ([a, b, c, d], [e, f, g, h]) => [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h];

function inverse([a, b, c, d]) {
  const determinant = a * d - b * c;
  return [d / determinant, -b / determinant, -c / determinant, a / determinant];
}

export function hullArea(flat) {
  const points = Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i], flat[2 * i + 1]]);
  points.sort((p, q) => p[0] - q[0] || p[1] - q[1]);
  const hull = [...chain(points), ...chain(points.reverse())];
  return hull.reduce((sum, [x, y], i) => {
    const [u, v] = hull[(i + 1) % hull.length];
    return sum + x * v - u * y;
  }, 0) / 2;
}

function chain(points) {
  const hull = [];
  for (const [x, y] of points) {
    while (hull.length > 1) {
      const [[a, b], [c, d]] = hull.slice(-2);
      if ((c - a) * (y - b) - (d - b) * (x - a) > 0) break;
      hull.pop();
    }
    hull.push([x, y]);
  }
  return hull.slice(0, -1);
}
