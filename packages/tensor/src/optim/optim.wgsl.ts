import { defineKernel, linearMain, wideWorkgroup } from '../device/kernel.js';
import { vectorsWhere } from '../ops/pointwise/lanes.wgsl.js';
import { rowLanesMain, rowLoop, rowSum, rowVectors, rowWorkgroup, vectorHelpers } from '../ops/row/row-lanes.wgsl.js';

/** Elements of a block of the norm kernel: one invocation's on a CPU, a workgroup's on a GPU. */
export const NORM_BLOCK = { software: 256, hardware: 16384 };

/** Writes the sums of squares of blocks of `x` to `partial` from `first` on. Neighbouring lanes read neighbours. */
export const squaredNormKernel = defineKernel({
  name: 'squared_norm',
  bindings: { x: 'read', partial: 'write' },
  params: { rows: 'u32', units: 'u32', total: 'u32', first: 'u32' },
  vectors: rowVectors('x'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    rowSum(variant) +
    rowLanesMain(
      variant,
      `
  let stop = select(0u, min(end, p.total - base), inside);
  var squares = F(0);
${rowLoop(variant, 'stop', (ks) =>
  [...ks.map((k) => `let x${k} = F(x[base + c${k}]);`), ...ks.map((k) => `squares += x${k} * x${k};`)].join('\n      '),
)}
  let sum = row_sum(total(squares), lid);
  if (inside && lane == 0u) { partial[p.first + row] = sum; }`,
    ),
});

/** What the kernels of a step leave for the update and for those who look: float32, in this order. */
const STATUS = {
  /** Global norm of the gradients, unscaled, before clipping. */
  norm: 0,
  /** Loss scale that the gradients came with. */
  scale: 1,
  /** Steps skipped so far. */
  skipped: 2,
  /** Factor on the gradients: clipping, and 1 / scale. 0 where the step is skipped. */
  factor: 3,
  /** 1 − β1ᵗ. */
  correction1: 4,
  /** √(1 − β2ᵗ). */
  correction2: 5,
} as const;

/** Elements of the status. */
export const STATUS_SIZE = 6;

/**
 * From the summed squares to the status. The factor is PyTorch's min(1, max/(norm + 1e-6)), and 0 where the norm is not
 * finite (the update is skipped then). `h` is [rate, 1 − β1ᵗ, √(1 − β2ᵗ), t].
 */
export const clipKernel = defineKernel({
  name: 'clip_factor',
  bindings: { squares: 'read', h: 'read', status: 'write' },
  params: { count: 'u32', most: 'f32' },
  source: () =>
    linearMain(
      'p.count',
      `
  let norm = sqrt(squares[0]);
  let finite = norm < 3.0e38;
  status[${STATUS.norm}] = norm;
  status[${STATUS.scale}] = 1.0;
  status[${STATUS.skipped}] = 0.0;
  status[${STATUS.factor}] = select(0.0, min(1.0, p.most / (norm + 1.0e-6)), finite);
  status[${STATUS.correction1}] = h[1];
  status[${STATUS.correction2}] = h[2];`,
    ),
});

/**
 * The same where gradients come with a loss scale, and the scale's own step. `scaler` is [scale, steps since the scale
 * last changed, steps skipped]. Skipped steps do not count in the bias corrections, so these are computed here, with
 * 1 − exp(t·ln β) in its accurate form for small t.
 */
export const scaledClipKernel = defineKernel({
  name: 'clip_factor_scaled',
  bindings: { squares: 'read', h: 'read', scaler: 'write', status: 'write' },
  params: {
    count: 'u32',
    most: 'f32',
    growth: 'f32',
    backoff: 'f32',
    interval: 'f32',
    minimum: 'f32',
    maximum: 'f32',
    log_beta1: 'f32',
    log_beta2: 'f32',
  },
  source: () =>
    `
// 1 − exp(x) for x ≤ 0: five terms of the series leave x⁵/720 of it near 0, 1e-8 at −0.1.
fn fallen(x: f32) -> f32 {
  let near = -x * (1.0 + x / 2.0 * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0))));
  return select(1.0 - exp(x), near, x > -0.1);
}
` +
    linearMain(
      'p.count',
      `
  let scale = scaler[0];
  let norm = sqrt(squares[0]) / scale;
  let finite = norm < 3.0e38;
  let step = max(1.0, h[3] - scaler[2]);
  status[${STATUS.norm}] = norm;
  status[${STATUS.scale}] = scale;
  status[${STATUS.factor}] = select(0.0, min(1.0, p.most / (norm + 1.0e-6)) / scale, finite);
  status[${STATUS.correction1}] = fallen(step * p.log_beta1);
  status[${STATUS.correction2}] = sqrt(fallen(step * p.log_beta2));
  if (finite) {
    let good = scaler[1] + 1.0;
    let grows = good >= p.interval;
    scaler[0] = select(scale, min(scale * p.growth, p.maximum), grows);
    scaler[1] = select(good, 0.0, grows);
  } else {
    scaler[0] = max(scale * p.backoff, p.minimum);
    scaler[1] = 0.0;
    scaler[2] += 1.0;
  }
  status[${STATUS.skipped}] = scaler[2];`,
    ),
});

/**
 * AdamW (Loshchilov and Hutter; PyTorch's form): decoupled decay, then the bias-corrected step. What changes from step
 * to step is read from `h` and from the status, so that a recorded program stays right.
 */
export const adamWKernel = defineKernel({
  name: 'adamw',
  bindings: { weight: 'write', gradient: 'read', m: 'write', v: 'write', h: 'read', status: 'read' },
  params: { count: 'u32', beta1: 'f32', beta2: 'f32', epsilon: 'f32', decay: 'f32' },
  vectors: vectorsWhere(['weight', 'gradient', 'm', 'v']),
  itemwise: () => ['weight', 'gradient', 'm', 'v'],
  workgroup: wideWorkgroup,
  source: ({ constants }) =>
    `alias real = ${constants['vector'] ? 'vec4<f32>' : 'f32'};\n` +
    linearMain(
      'p.count',
      `
  // A norm that is not finite skips the step: the moments must not take it in either.
  let factor = status[${STATUS.factor}];
  if (factor == 0.0 && !(status[${STATUS.norm}] == 0.0)) { return; }
  let g = real(gradient[i]) * factor;
  let m_old = m[i];
  let v_old = v[i];
  let w = real(weight[i]);
  let rate = h[0];
  let mi = p.beta1 * m_old + (1.0 - p.beta1) * g;
  let vi = p.beta2 * v_old + (1.0 - p.beta2) * g * g;
  let kept = w * (1.0 - rate * p.decay);
  let correction2 = status[${STATUS.correction2}];
  m[i] = mi;
  v[i] = vi;
  weight[i] = weight_t(kept - rate / status[${STATUS.correction1}] * mi / (sqrt(vi) / correction2 + p.epsilon));`,
    ),
});
