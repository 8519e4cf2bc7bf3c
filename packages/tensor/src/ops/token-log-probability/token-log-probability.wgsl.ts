import { defineKernel } from '../../device/kernel.js';
import { rowLanesMain, rowMax, rowSum, rowVectors, rowWorkgroup, vectorHelpers } from '../row/row-lanes.wgsl.js';
import { LOWEST, SELECTED, SELECTION_PARAMS } from '../vocabulary/index.js';

// `first` is the chunk's first row among all rows; x_start and d_start are where its logits begin, in units.
const PARAMS = { rows: 'u32', units: 'u32', first: 'u32', x_start: 'u32', sign: 'f32', ...SELECTION_PARAMS } as const;

/** The row's target, and whether it is one. */
const ROW = /* wgsl */ `
  let n = p.first + min(row, p.rows - 1u);
  let target_id = targets[n];
  let live = inside && selected(target_id);
  let hit = u32(max(target_id, 0));
  let x_at = p.x_start + base;`;

/**
 * y = sign · (x[target] − log Σ exp(x)); and for the gradient the maximum m and log Σ exp(x − m), kept apart because
 * their sum would lose the digits of the second where logits are large. Rows without a target get zeros.
 */
export const forwardKernel = defineKernel({
  name: 'token_log_probability',
  bindings: { x: 'read', targets: 'read', y: 'write', statistics: 'write' },
  params: PARAMS,
  vectors: rowVectors('x'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SELECTED +
    rowSum(variant) +
    rowMax(variant) +
    rowLanesMain(
      variant,
      `${ROW}
  let stop = select(0u, end, live);
  var highs = F(${LOWEST});
  for (var c = lane; c < stop; c += LANES) { highs = max(highs, F(x[x_at + c])); }
  let high = row_max(highest(highs), lid);
  var sums = F(0);
  for (var c = lane; c < stop; c += LANES) { sums += exp(F(x[x_at + c]) - high); }
  let log_sum = log(row_sum(total(sums), lid));
  if (inside && lane == 0u) {
    if (live) {
      y[n] = p.sign * (${variant.constants['width'] === 4 ? 'F(x[x_at + hit / 4u])[hit % 4u]' : 'F(x[x_at + hit])'} - high - log_sum);
      statistics[2u * n] = high;
      statistics[2u * n + 1u] = log_sum;
    } else {
      y[n] = 0.0;
      statistics[2u * n] = 0.0;
      statistics[2u * n + 1u] = 0.0;
    }
  }`,
    ),
});

/** d = sign · g · (1 at the target − softmax(x)), over the logits themselves where no `x` is bound. */
export const gradientKernel = defineKernel({
  name: 'token_log_probability_gradient',
  bindings: { x: 'read', targets: 'read', statistics: 'read', g: 'read', d: 'write' },
  params: { ...PARAMS, d_start: 'u32' },
  vectors: rowVectors('x', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) => {
    const wide = variant.constants['width'] === 4;
    const at = wide ? 'F(vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(hit % 4u))' : '1.0';
    return (
      vectorHelpers(variant.constants['width']) +
      SELECTED +
      rowLanesMain(
        variant,
        `${ROW}
  let d_at = p.d_start + base;
  let slope = select(0.0, p.sign * f32(g[n]), live);
  let high = statistics[2u * n];
  let log_sum = statistics[2u * n + 1u];
  for (var c = lane; c < end; c += LANES) {
    var v = -slope * exp(F(${variant.has('x') ? 'x[x_at + c]' : 'd[x_at + c]'}) - high - log_sum);
    if (c == ${wide ? 'hit / 4u' : 'hit'}) { v += slope * ${at}; }
    d[d_at + c] = d_t(select(F(0), v, live));
  }`,
      )
    );
  },
});
