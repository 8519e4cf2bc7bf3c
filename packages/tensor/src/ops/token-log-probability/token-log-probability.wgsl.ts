import { defineKernel, type KernelVariant } from '../../device/kernel.js';
import {
  rowLanesMain,
  rowLoop,
  rowMax,
  rowSum,
  rowVectors,
  rowWorkgroup,
  vectorHelpers,
} from '../row/row-lanes.wgsl.js';
import { logSums, SELECTED, SELECTION_PARAMS, upstream } from '../vocabulary/index.js';

// `first` is the piece's first row among all rows; x_start and d_start are where its logits begin, in units.
const PARAMS = { rows: 'u32', units: 'u32', first: 'u32', x_start: 'u32', sign: 'f32', ...SELECTION_PARAMS } as const;
const GRADIENT_PARAMS = { ...PARAMS, d_start: 'u32', scale: 'f32' } as const;

/** The row's target, whether it is one, and the unit that it stands in. */
const row = ({ constants }: KernelVariant) => /* wgsl */ `
  let n = p.first + min(row, p.rows - 1u);
  let target_id = targets[n];
  let live = inside && selected(target_id);
  let hit = u32(max(target_id, 0));
  let hit_unit = ${constants['width'] === 4 ? 'hit / 4u' : 'hit'};
  let x_at = p.x_start + base;`;

/** The logits: in a tensor of their own, or where their gradient will overwrite them. */
const logit = ({ has }: KernelVariant, c: string) => `F(${has('x') ? 'x' : 'd'}[x_at + ${c}])`;

/** y of the row. Written by the lane of the target, which alone may read that logit where others overwrite theirs. */
const value = (variant: KernelVariant) => /* wgsl */ `
  if (live && lane == hit_unit % LANES) {
    y[n] = p.sign * (${logit(variant, 'hit_unit')}${variant.constants['width'] === 4 ? '[hit % 4u]' : ''} - x_high - x_log);
  }
  if (inside && !live && lane == 0u) { y[n] = 0.0; }`;

const gradient = (variant: KernelVariant, high: string, log: string) => {
  const at = variant.constants['width'] === 4 ? 'F(vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(hit % 4u))' : '1.0';
  return `
  let d_at = p.d_start + base;
  let slope = select(0.0, p.sign * ${upstream(variant.has)}, live);
${rowLoop(variant, 'end', (ks) =>
  [
    ...ks.map((k) => `let x${k} = ${logit(variant, `c${k}`)};`),
    ...ks.flatMap((k) => [
      `var d${k} = -slope * exp(x${k} - ${high} - ${log});`,
      `if (c${k} == hit_unit) { d${k} += slope * ${at}; }`,
      `d[d_at + c${k}] = d_t(select(F(0), d${k}, live));`,
    ]),
  ].join('\n      '),
)}`;
};

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
      `${row(variant)}
  let stop = select(0u, end, live);
${logSums(variant, { x: (c) => logit(variant, c) }, 'stop')}
${value(variant)}
  if (inside && lane == 0u) {
    statistics[2u * n] = select(0.0, x_high, live);
    statistics[2u * n + 1u] = select(0.0, x_log, live);
  }`,
    ),
});

/** d = sign · g · (1 at the target − softmax(x)), over the logits themselves where no `x` is bound. */
export const gradientKernel = defineKernel({
  name: 'token_log_probability_gradient',
  bindings: { x: 'read', targets: 'read', statistics: 'read', g: 'read', peak: 'read', d: 'write' },
  params: GRADIENT_PARAMS,
  vectors: rowVectors('x', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SELECTED +
    rowLanesMain(
      variant,
      `${row(variant)}
  let high = statistics[2u * n];
  let log_sum = statistics[2u * n + 1u];
${gradient(variant, 'high', 'log_sum')}`,
    ),
});

/** Both at once, for an upstream of `scale` a row: y, and d over the logits themselves where no `x` is bound. */
export const onePassKernel = defineKernel({
  name: 'token_log_probability_one_pass',
  bindings: { x: 'read', targets: 'read', y: 'write', d: 'write' },
  params: GRADIENT_PARAMS,
  vectors: rowVectors('x', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SELECTED +
    rowSum(variant) +
    rowMax(variant) +
    rowLanesMain(
      variant,
      `${row(variant)}
  let stop = select(0u, end, live);
${logSums(variant, { x: (c) => logit(variant, c) }, 'stop')}
${value(variant)}
${gradient(variant, 'x_high', 'x_log')}`,
    ),
});
