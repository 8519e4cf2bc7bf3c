import { defineKernel, linearMain } from '../device/kernel.js';
import { vectorsWhere } from '../ops/pointwise/lanes.wgsl.js';

/** Elements that one invocation of the norm kernel sums. */
export const NORM_PIECE = 256;

/** Writes the sums of squares of pieces of `x` to `partial` from `first` on. */
export const squaredNormKernel = defineKernel({
  name: 'squared_norm',
  bindings: { x: 'read', partial: 'write' },
  params: { pieces: 'u32', count: 'u32', first: 'u32' },
  source: () =>
    linearMain(
      'p.pieces',
      `
  let last = min((i + 1u) * ${NORM_PIECE}u, p.count);
  var total = 0.0;
  for (var k = i * ${NORM_PIECE}u; k < last; k++) { let value = f32(x[k]); total += value * value; }
  partial[p.first + i] = total;`,
    ),
});

/**
 * From the summed squares to what the update needs: result = [norm, factor on the gradients]. The factor is PyTorch's
 * min(1, max/(norm + 1e-6)), and 0 where the norm is not finite (the update is skipped then).
 */
export const clipKernel = defineKernel({
  name: 'clip_factor',
  bindings: { squares: 'read', result: 'write' },
  params: { count: 'u32', most: 'f32' },
  source: () =>
    linearMain(
      'p.count',
      `
  let norm = sqrt(squares[0]);
  let finite = norm < 3.0e38;
  result[0] = norm;
  result[1] = select(0.0, min(1.0, p.most / (norm + 1.0e-6)), finite);`,
    ),
});

/**
 * AdamW (Loshchilov and Hutter; PyTorch's form): decoupled decay, then the bias-corrected step. What changes from step
 * to step is read from `h` = [rate, 1 − β1ᵗ, √(1 − β2ᵗ)] and from `clip`, so that a recorded program stays right.
 */
export const adamWKernel = defineKernel({
  name: 'adamw',
  bindings: { weight: 'write', gradient: 'read', m: 'write', v: 'write', h: 'read', clip: 'read' },
  params: { count: 'u32', beta1: 'f32', beta2: 'f32', epsilon: 'f32', decay: 'f32' },
  vectors: vectorsWhere(['weight', 'gradient', 'm', 'v']),
  source: ({ constants }) =>
    `alias real = ${constants['vector'] ? 'vec4<f32>' : 'f32'};\n` +
    linearMain(
      'p.count',
      `
  // A norm that is not finite skips the step: the moments must not take it in either.
  if (clip[1] == 0.0 && !(clip[0] == 0.0)) { return; }
  let g = real(gradient[i]) * clip[1];
  let rate = h[0];
  let mi = p.beta1 * m[i] + (1.0 - p.beta1) * g;
  let vi = p.beta2 * v[i] + (1.0 - p.beta2) * g * g;
  m[i] = mi;
  v[i] = vi;
  let kept = real(weight[i]) * (1.0 - rate * p.decay);
  weight[i] = weight_t(kept - rate / h[1] * mi / (sqrt(vi) / h[2] + p.epsilon));`,
    ),
});
