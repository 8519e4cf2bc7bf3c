import { defineKernel } from '../../device/kernel.js';
import { rowLanesMain, rowMax, rowSum, rowVectors, rowWorkgroup, vectorHelpers } from '../row/row-lanes.wgsl.js';

// Below it lies only −∞. Maxima start here, so that x − maximum is never ∞ − ∞, not even in a row of nothing but −∞.
const LOWEST = '-3.402823e38';

/** exp(x − max)/Σ, or with `logarithm` (x − max) − log Σ, in this order so that large values cancel exactly. */
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
    rowLanesMain(
      variant,
      `
  var highs = F(${LOWEST});
  for (var c = lane; c < end; c += LANES) { highs = max(highs, F(x[base + c])); }
  let high = row_max(highest(highs), lid);
  var sums = F(0);
  for (var c = lane; c < end; c += LANES) { sums += exp(F(x[base + c]) - high); }
  let sum = row_sum(total(sums), lid);
${variant.constants['logarithm'] ? LOG_OUTPUT : OUTPUT}`,
    ),
});

// A row of nothing but −∞ has Σ = 0: its probabilities are 0, its logarithms −∞.
const OUTPUT = `
  let scale = select(0.0, 1.0 / sum, sum > 0.0);
  for (var c = lane; c < end; c += LANES) { y[base + c] = y_t(exp(F(x[base + c]) - high) * scale); }`;
const LOG_OUTPUT = `
  let log_sum = select(0.0, log(sum), sum > 0.0);
  for (var c = lane; c < end; c += LANES) { y[base + c] = y_t((F(x[base + c]) - high) - log_sum); }`;

/** y·(g − Σ g·y), or with `logarithm` g − exp(y)·Σ g. */
export const gradientKernel = defineKernel({
  name: 'softmax_gradient',
  bindings: { g: 'read', y: 'read', d: 'write' },
  params: { rows: 'u32', units: 'u32' },
  vectors: rowVectors('g', 'y', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) => {
    const logarithm = variant.constants['logarithm'];
    return (
      vectorHelpers(variant.constants['width']) +
      rowSum(variant) +
      rowLanesMain(
        variant,
        `
  var sums = F(0);
  for (var c = lane; c < end; c += LANES) { sums += F(g[base + c])${logarithm ? '' : ' * F(y[base + c])'}; }
  let sum = row_sum(total(sums), lid);
  for (var c = lane; c < end; c += LANES) {
    let v = F(y[base + c]);
    d[base + c] = d_t(${logarithm ? 'F(g[base + c]) - exp(v) * sum' : 'v * (F(g[base + c]) - sum)'});
  }`,
      )
    );
  },
});
