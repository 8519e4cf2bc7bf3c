import { defineKernel } from '../../device/kernel.js';
import { rowLanesMain, rowSum, rowVectors, rowWorkgroup, vectorHelpers } from '../row/row-lanes.wgsl.js';

/** y = ‖a − b‖₂ of each row. */
export const forwardKernel = defineKernel({
  name: 'row_distance',
  bindings: { a: 'read', b: 'read', y: 'write' },
  params: { rows: 'u32', units: 'u32' },
  vectors: rowVectors('a', 'b'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    rowSum(variant) +
    rowLanesMain(
      variant,
      `
  var squares = F(0);
  for (var c = lane; c < end; c += LANES) {
    let v = F(a[base + c]) - F(b[base + c]);
    squares += v * v;
  }
  let sum = row_sum(total(squares), lid);
  if (inside && lane == 0u) { y[row] = sqrt(sum); }`,
    ),
});

/** d = sign · g · (a − b) / ‖a − b‖, and 0 where a = b. */
export const gradientKernel = defineKernel({
  name: 'row_distance_gradient',
  bindings: { a: 'read', b: 'read', y: 'read', g: 'read', d: 'write' },
  params: { rows: 'u32', units: 'u32', sign: 'f32' },
  vectors: rowVectors('a', 'b', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    rowLanesMain(
      variant,
      `
  let n = min(row, p.rows - 1u);
  let distance = y[n];
  // Not "> 0": a distance that is not a number must show in the gradient.
  let slope = select(p.sign * f32(g[n]) / distance, 0.0, distance == 0.0);
  for (var c = lane; c < end; c += LANES) { d[base + c] = d_t(slope * (F(a[base + c]) - F(b[base + c]))); }`,
    ),
});
