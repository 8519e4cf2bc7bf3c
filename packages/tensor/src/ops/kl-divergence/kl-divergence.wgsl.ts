import { defineKernel } from '../../device/kernel.js';
import { rowLanesMain, rowMax, rowSum, rowVectors, rowWorkgroup, vectorHelpers } from '../row/row-lanes.wgsl.js';
import { LOWEST, SELECTED, SELECTION_PARAMS } from '../vocabulary/index.js';

// `first` is the chunk's first row among all rows; the starts say where its logits begin, in units.
const PARAMS = {
  rows: 'u32',
  units: 'u32',
  first: 'u32',
  teacher_start: 'u32',
  student_start: 'u32',
  inverse_temperature: 'f32',
  ...SELECTION_PARAMS,
} as const;

const row = (selection: boolean) => /* wgsl */ `
  let n = p.first + min(row, p.rows - 1u);
  let live = inside${selection ? ' && selected(selection[n])' : ''};
  let t_at = p.teacher_start + base;
  let s_at = p.student_start + base;`;

/**
 * One summand of KL(p‖q) from log p and log q. Since Σp = Σq, Σ p·(log p − log q) is also Σ (q − p − p·d) with
 * d = log q − log p, whose summands are never negative and forgive an error in either log-sum: a student close to its
 * teacher gets an accurate divergence, not the rounding error of a difference. For small d the summand is p times the
 * series of eᵈ − 1 − d, which the expression would lose to cancellation. A token with p = 0 leaves q.
 */
const DIVERGENCE = /* wgsl */ `
fn divergence(log_p: F, log_q: F) -> F {
  let pt = exp(log_p);
  let qs = exp(log_q);
  let d = log_q - log_p;
  let near = pt * d * d * (0.5 + d * (1.0 / 6.0 + d * (1.0 / 24.0 + d * (1.0 / 120.0 + d * (1.0 / 720.0)))));
  let far = qs - pt - pt * d;
  return select(select(far, near, abs(d) < F(0.25)), qs, pt == F(0));
}`;

/**
 * KL of the teacher's distribution from the student's, and for the gradient the maximum m and log Σ exp(x − m) of
 * both (teacher, student), kept apart because their sum would lose the digits of the second where logits are large.
 */
export const forwardKernel = defineKernel({
  name: 'kl_divergence',
  bindings: { teacher: 'read', student: 'read', selection: 'read', y: 'write', statistics: 'write' },
  params: PARAMS,
  vectors: rowVectors('teacher', 'student'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SELECTED +
    DIVERGENCE +
    rowSum(variant) +
    rowMax(variant) +
    rowLanesMain(
      variant,
      `${row(variant.has('selection'))}
  let stop = select(0u, end, live);
  var t_highs = F(${LOWEST});
  var s_highs = F(${LOWEST});
  for (var c = lane; c < stop; c += LANES) {
    t_highs = max(t_highs, F(teacher[t_at + c]) * p.inverse_temperature);
    s_highs = max(s_highs, F(student[s_at + c]) * p.inverse_temperature);
  }
  let t_high = row_max(highest(t_highs), lid);
  let s_high = row_max(highest(s_highs), lid);
  var t_sums = F(0);
  var s_sums = F(0);
  for (var c = lane; c < stop; c += LANES) {
    t_sums += exp(F(teacher[t_at + c]) * p.inverse_temperature - t_high);
    s_sums += exp(F(student[s_at + c]) * p.inverse_temperature - s_high);
  }
  let t_log = log(row_sum(total(t_sums), lid));
  let s_log = log(row_sum(total(s_sums), lid));
  var sums = F(0);
  for (var c = lane; c < stop; c += LANES) {
    sums += divergence(
      F(teacher[t_at + c]) * p.inverse_temperature - t_high - t_log,
      F(student[s_at + c]) * p.inverse_temperature - s_high - s_log);
  }
  let sum = row_sum(total(sums), lid);
  if (inside && lane == 0u) {
    y[n] = select(0.0, sum, live);
    statistics[4u * n] = select(0.0, t_high, live);
    statistics[4u * n + 1u] = select(0.0, t_log, live);
    statistics[4u * n + 2u] = select(0.0, s_high, live);
    statistics[4u * n + 3u] = select(0.0, s_log, live);
  }`,
    ),
});

/** d = g · (q − p) / temperature, over the student's logits themselves where no `student` is bound. */
export const gradientKernel = defineKernel({
  name: 'kl_divergence_gradient',
  bindings: { teacher: 'read', student: 'read', selection: 'read', statistics: 'read', g: 'read', d: 'write' },
  params: { ...PARAMS, d_start: 'u32' },
  vectors: rowVectors('teacher', 'student', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SELECTED +
    rowLanesMain(
      variant,
      `${row(variant.has('selection'))}
  let d_at = p.d_start + base;
  let slope = f32(g[n]) * p.inverse_temperature;
  let t_high = statistics[4u * n];
  let t_log = statistics[4u * n + 1u];
  let s_high = statistics[4u * n + 2u];
  let s_log = statistics[4u * n + 3u];
  for (var c = lane; c < end; c += LANES) {
    let pt = exp(F(teacher[t_at + c]) * p.inverse_temperature - t_high - t_log);
    let qs = exp(F(${variant.has('student') ? 'student' : 'd'}[s_at + c]) * p.inverse_temperature - s_high - s_log);
    d[d_at + c] = d_t(select(F(0), slope * (qs - pt), live));
  }`,
    ),
});
