import { defineKernel, linearMain } from '@zebra/tensor';
import { segmentHelpers } from '../../rows.js';

/** Tokens of a chunk. */
export const CHUNK = 64;

/** WGSL of exp(a) − 1, softplus and its derivative, none of which may lose small values or overflow. */
export const GATE_FUNCTIONS = /* wgsl */ `
fn expm1_negative(a: f32) -> f32 {
  return select(exp(a) - 1.0, a * (1.0 + a * (0.5 + a * (0.16666667 + a * (0.041666667 + a * 0.008333333)))), a > -0.15);
}
fn softplus(x: f32) -> f32 {
  let t = exp(-abs(x));
  return max(x, 0.0) + select(log(1.0 + t), t * (1.0 - t * (0.5 - t * (0.33333334 - 0.25 * t))), t < 0.03);
}
fn sigmoid(x: f32) -> f32 {
  let t = exp(-abs(x));
  return select(t, 1.0, x >= 0.0) / (1.0 + t);
}`;

/**
 * What every form of the scan needs of a token and head, as one vec4:
 * x: δ = softplus(dt + dt_bias), 0 for padding;
 * y for the recurrence: the decay e^a, a = −e^A_log·δ, where it is below a half, else e^a − 1 (negative), so that a decay
 *   near 1 keeps its digits and so does one near 0;
 * z and y for the chunked form: the sum of a from the chunk's start or last cut up to the token, as a multiple of 1/8,
 *   which is exact, and what remains, so that the difference of two large sums is exact too;
 * w: the chunk's last cut up to the token (its place in the chunk), −1 for none.
 * The state is cut at a document's start and where e^a rounds to 0 against 1 anyway (a < −17.5).
 */
export const gatesKernel = defineKernel({
  name: 'mamba2_gates',
  bindings: { dt: 'read', dt_bias: 'read', a_log: 'read', segments: 'read', gates: 'write' },
  params: { count: 'u32', length: 'u32', heads: 'u32', chunks: 'u32', offset: 'u32', stride: 'u32' },
  source: (variant) =>
    `${GATE_FUNCTIONS}const KEEP = -1e-30;${segmentHelpers(variant.has('segments'), variant.constants['continued'] === true)}${linearMain(
      'p.count',
      /* wgsl */ `
  let h = i % p.heads;
  let chunk = (i / p.heads) % p.chunks;
  let b = i / (p.heads * p.chunks);
  let rate = -exp(f32(a_log[h]));
  let bias = f32(dt_bias[h]);
  let first = chunk * ${CHUNK}u;
  var coarse = 0.0;
  var fine = 0.0;
  var cut = -1.0;
  for (var t = first; t < min(first + ${CHUNK}u, p.length); t++) {
    var delta = softplus(f32(dt[p.offset + (b * p.length + t) * p.stride + h]) + bias);
    var a = rate * delta;
    var decay = select(exp(a), min(expm1_negative(a), KEEP), a > -0.69);
    if (padded(b, t)) {
      delta = 0.0;
      decay = KEEP;
    } else if (starts(b, t) || a < -17.5) {
      coarse = 0.0;
      fine = 0.0;
      cut = f32(t - first);
      decay = 0.0;
    } else {
      let eighths = round(a * 8.0) * 0.125;
      coarse += eighths;
      fine += a - eighths;
    }
    gates[(b * p.length + t) * p.heads + h] = vec4<f32>(delta, ${variant.constants['chunked'] ? 'fine' : 'decay'}, coarse, cut);
  }`,
    )}`,
  vectors: () => ({ gates: 4 }),
});
