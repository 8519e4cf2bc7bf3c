import { defineKernel, linearMain, wideWorkgroup } from '../../device/kernel.js';
import {
  heldLoads,
  heldNumbers,
  rowLanesMain,
  rowSum,
  rowVectors,
  rowWorkgroup,
  vectorHelpers,
} from '../row/row-lanes.wgsl.js';

/**
 * y = x·r·weight with r = 1/sqrt(mean(x²) + eps) of the row, which is kept for the gradient. Rows of few units a lane
 * stay in registers (constant `held`).
 */
export const forwardKernel = defineKernel({
  name: 'rms_norm',
  bindings: { x: 'read', weight: 'read', y: 'write', r: 'write' },
  params: { rows: 'u32', units: 'u32', inverse_columns: 'f32', eps: 'f32' },
  vectors: rowVectors('x', 'weight', 'y'),
  workgroup: rowWorkgroup,
  source: (variant) => {
    const held = Number(variant.constants['held']);
    const weight = (c: string) => (variant.has('weight') ? ` * F(weight[${c}])` : '');
    const ks = heldNumbers(held);
    const gather = held
      ? `${heldLoads(held, 'end', { x: (c) => `F(x[base + ${c}])` })}
  let squares = ${ks.map((k) => `x${k} * x${k}`).join(' + ')};`
      : `
  var squares = F(0);
  for (var c = lane; c < end; c += LANES) {
    let v = F(x[base + c]);
    squares += v * v;
  }`;
    const write = held
      ? ks.map((k) => `  if (c${k} < end) { y[base + c${k}] = y_t(x${k} * scale${weight(`c${k}`)}); }`).join('\n')
      : `  for (var c = lane; c < end; c += LANES) { y[base + c] = y_t(F(x[base + c]) * scale${weight('c')}); }`;
    return (
      vectorHelpers(variant.constants['width']) +
      rowSum(variant) +
      rowLanesMain(
        variant,
        `${gather}
  let scale = 1.0 / sqrt(row_sum(total(squares), lid) * p.inverse_columns + p.eps);
${write}
  if (inside && lane == 0u) { r[row] = scale; }`,
      )
    );
  },
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

/**
 * Both gradients by one workgroup for a block of rows, each read once: what {@link inputGradientKernel} gives, and the
 * sums of {@link weightGradientKernel}. For rows of 256 lanes that are held in registers.
 */
export const bothGradientsKernel = defineKernel({
  name: 'rms_norm_gradients',
  bindings: { g: 'read', x: 'read', weight: 'read', r: 'read', d: 'write', sums: 'write' },
  params: { rows: 'u32', units: 'u32', inverse_columns: 'f32', block: 'u32' },
  vectors: rowVectors('g', 'x', 'weight', 'd', 'sums'),
  workgroup: 256,
  source: (variant) => {
    const held = Number(variant.constants['held']);
    const ks = heldNumbers(held);
    const unit = (k: number) => `lane + ${k}u * LANES`;
    return `${vectorHelpers(variant.constants['width'])}${rowSum(variant)}
const LANES: u32 = 256u;
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let block = wid.x + wid.y * nwg.x;
  let first = block * p.block;
  if (first >= p.rows) { return; }
  let lane = lid;
  let last = min(first + p.block, p.rows);
${ks.map((k) => `  var s${k} = F(0);\n  var w${k} = F(0);`).join('\n')}
${ks.map((k) => `  if (${unit(k)} < p.units) { w${k} = F(weight[${unit(k)}]); }`).join('\n')}
  for (var row = first; row < last; row++) {
    let base = row * p.units;
${heldLoads(held, 'p.units', { g: (c) => `F(g[base + ${c}])`, x: (c) => `F(x[base + ${c}])` })}
    let dots = ${ks.map((k) => `g${k} * w${k} * x${k}`).join(' + ')};
    let scale = r[row];
    let slope = row_sum(total(dots), lid) * p.inverse_columns * scale * scale * scale;
${ks
  .map(
    (k) => `    if (c${k} < p.units) { d[base + c${k}] = d_t(g${k} * w${k} * scale - x${k} * slope); }
    s${k} += g${k} * x${k} * scale;`,
  )
  .join('\n')}
  }
${ks.map((k) => `  if (${unit(k)} < p.units) { sums[block * p.units + ${unit(k)}] = s${k}; }`).join('\n')}
}`;
  },
});

/** Σ g·x·r over the rows of a block, for each column: summands of the gradient of the weight. */
export const weightGradientKernel = defineKernel({
  name: 'rms_norm_gradient_weight',
  bindings: { g: 'read', x: 'read', r: 'read', sums: 'write' },
  params: { count: 'u32', rows: 'u32', units: 'u32', block: 'u32' },
  vectors: rowVectors('g', 'x', 'sums'),
  workgroup: wideWorkgroup,
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
