import { defineKernel, type KernelVariant } from '../../device/kernel.js';
import {
  heldLoads,
  heldNumbers,
  rowLanesMain,
  rowMax,
  rowSum,
  rowVectors,
  rowWorkgroup,
  vectorHelpers,
} from '../row/row-lanes.wgsl.js';

// Below it lies only −∞. Maxima start here, so that x − maximum is never ∞ − ∞, not even in a row of nothing but −∞.
const LOWEST = '-3.402823e38';

/**
 * exp(x − max)/Σ, or with `logarithm` (x − max) − log Σ, in this order so that large values cancel exactly. Rows of few
 * units a lane stay in registers (constant `held`).
 */
export const forwardKernel = defineKernel({
  name: 'softmax',
  bindings: { x: 'read', y: 'write' },
  params: { rows: 'u32', units: 'u32' },
  vectors: rowVectors('x', 'y'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    rowSum(variant) +
    rowMax(variant) +
    rowLanesMain(variant, forwardBody(variant)),
});

function forwardBody({ constants }: KernelVariant): string {
  const ks = heldNumbers(Number(constants['held']));
  const logarithm = constants['logarithm'] === true;
  // A row of nothing but −∞ has Σ = 0: its probabilities are 0, its logarithms −∞.
  const factor = logarithm
    ? 'let log_sum = select(0.0, log(sum), sum > 0.0);'
    : 'let scale = select(0.0, 1.0 / sum, sum > 0.0);';
  if (ks.length === 0) {
    return /* wgsl */ `
  var highs = F(${LOWEST});
  for (var c = lane; c < end; c += LANES) { highs = max(highs, F(x[base + c])); }
  let high = row_max(highest(highs), lid);
  var sums = F(0);
  for (var c = lane; c < end; c += LANES) { sums += exp(F(x[base + c]) - high); }
  let sum = row_sum(total(sums), lid);
  ${factor}
  for (var c = lane; c < end; c += LANES) {
    let above = F(x[base + c]) - high;
    y[base + c] = y_t(${logarithm ? 'above - log_sum' : 'exp(above) * scale'});
  }`;
  }
  const each = (write: (k: number) => string) => ks.map(write).join('\n');
  return /* wgsl */ `${heldLoads(ks.length, 'end', { x: (c) => `F(x[base + ${c}])` })}
  var highs = F(${LOWEST});
${each((k) => `  if (c${k} < end) { highs = max(highs, x${k}); }`)}
  let high = row_max(highest(highs), lid);
  var sums = F(0);
${each((k) => `  x${k} -= high; let e${k} = exp(x${k}); if (c${k} < end) { sums += e${k}; }`)}
  let sum = row_sum(total(sums), lid);
  ${factor}
${each((k) => `  if (c${k} < end) { y[base + c${k}] = y_t(${logarithm ? `x${k} - log_sum` : `e${k} * scale`}); }`)}`;
}

/** y·(g − Σ g·y), or with `logarithm` g − exp(y)·Σ g. */
export const gradientKernel = defineKernel({
  name: 'softmax_gradient',
  bindings: { g: 'read', y: 'read', d: 'write' },
  params: { rows: 'u32', units: 'u32' },
  vectors: rowVectors('g', 'y', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) + rowSum(variant) + rowLanesMain(variant, gradientBody(variant)),
});

function gradientBody({ constants }: KernelVariant): string {
  const ks = heldNumbers(Number(constants['held']));
  const logarithm = constants['logarithm'] === true;
  const share = (g: string, y: string) => (logarithm ? g : `${g} * ${y}`);
  const result = (g: string, y: string) => (logarithm ? `${g} - exp(${y}) * sum` : `${y} * (${g} - sum)`);
  const load = (name: string) => (c: string) => `F(${name}[base + ${c}])`;
  const [g, y] = [load('g'), load('y')];
  if (ks.length === 0) {
    return /* wgsl */ `
  var sums = F(0);
  for (var c = lane; c < end; c += LANES) { sums += ${share(g('c'), y('c'))}; }
  let sum = row_sum(total(sums), lid);
  for (var c = lane; c < end; c += LANES) {
    let v = ${y('c')};
    d[base + c] = d_t(${result(g('c'), 'v')});
  }`;
  }
  return /* wgsl */ `${heldLoads(ks.length, 'end', { g, y })}
  let sum = row_sum(total(${ks.map((k) => share(`g${k}`, `y${k}`)).join(' + ')}), lid);
${ks.map((k) => `  if (c${k} < end) { d[base + c${k}] = d_t(${result(`g${k}`, `y${k}`)}); }`).join('\n')}`;
}
