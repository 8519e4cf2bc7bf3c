import { defineKernel, linearMain } from '../../device/kernel.js';
import { rowLanesMain, rowSum, rowVectors, rowWorkgroup, vectorHelpers } from '../row/row-lanes.wgsl.js';

/** y = x·r·weight with r = 1/sqrt(mean(x²) + eps) of the row, which is kept for the gradient. */
export const forwardKernel = defineKernel({
  name: 'rms_norm',
  bindings: { x: 'read', weight: 'read', y: 'write', r: 'write' },
  params: { rows: 'u32', units: 'u32', inverse_columns: 'f32', eps: 'f32' },
  vectors: rowVectors('x', 'weight', 'y'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    rowSum(variant) +
    rowLanesMain(
      variant,
      `
  var squares = F(0);
  for (var c = lane; c < end; c += LANES) {
    let v = F(x[base + c]);
    squares += v * v;
  }
  let scale = 1.0 / sqrt(row_sum(total(squares), lid) * p.inverse_columns + p.eps);
  for (var c = lane; c < end; c += LANES) {
    y[base + c] = y_t(F(x[base + c]) * scale${variant.has('weight') ? ' * F(weight[c])' : ''});
  }
  if (inside && lane == 0u) { r[row] = scale; }`,
    ),
});

/** d = r·g·weight − x·r³·mean(g·weight·x), the gradient of x. */
export const inputGradientKernel = defineKernel({
  name: 'rms_norm_gradient_x',
  bindings: { g: 'read', x: 'read', weight: 'read', r: 'read', d: 'write' },
  params: { rows: 'u32', units: 'u32', inverse_columns: 'f32' },
  vectors: rowVectors('g', 'x', 'weight', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) => {
    const weight = variant.has('weight') ? ' * F(weight[c])' : '';
    return (
      vectorHelpers(variant.constants['width']) +
      rowSum(variant) +
      rowLanesMain(
        variant,
        `
  var dots = F(0);
  for (var c = lane; c < end; c += LANES) {
    dots += F(g[base + c])${weight} * F(x[base + c]);
  }
  let scale = r[min(row, p.rows - 1u)];
  let slope = row_sum(total(dots), lid) * p.inverse_columns * scale * scale * scale;
  for (var c = lane; c < end; c += LANES) {
    d[base + c] = d_t(F(g[base + c])${weight} * scale - F(x[base + c]) * slope);
  }`,
      )
    );
  },
});

/** Σ g·x·r over the rows of a block, for each column: summands of the gradient of the weight. */
export const weightGradientKernel = defineKernel({
  name: 'rms_norm_gradient_weight',
  bindings: { g: 'read', x: 'read', r: 'read', sums: 'write' },
  params: { count: 'u32', rows: 'u32', units: 'u32', block: 'u32' },
  vectors: rowVectors('g', 'x', 'sums'),
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    linearMain(
      'p.count',
      `
  let first = i / p.units * p.block;
  let last = min(first + p.block, p.rows);
  var at = first * p.units + i % p.units;
  var sum = F(0);
  for (var row = first; row < last; row++) {
    sum += F(g[at]) * F(x[at]) * r[row];
    at += p.units;
  }
  sums[i] = sum;`,
    ),
});
