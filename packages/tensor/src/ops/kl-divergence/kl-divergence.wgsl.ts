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

// `first` is the piece's first row among all rows; the starts say where its logits begin, in units.
const PARAMS = {
  rows: 'u32',
  units: 'u32',
  first: 'u32',
  teacher_start: 'u32',
  student_start: 'u32',
  inverse_temperature: 'f32',
  ...SELECTION_PARAMS,
} as const;
const GRADIENT_PARAMS = { ...PARAMS, d_start: 'u32', scale: 'f32' } as const;

const row = ({ has }: KernelVariant) => /* wgsl */ `
  let n = p.first + min(row, p.rows - 1u);
  let live = inside${has('selection') ? ' && selected(selection[n])' : ''};
  let stop = select(0u, end, live);
  let t_at = p.teacher_start + base;
  let s_at = p.student_start + base;`;

// The student's logits may lie where their gradient will overwrite them.
const teacherUnit = (c: string) => `F(teacher[t_at + ${c}]) * p.inverse_temperature`;
const studentUnit = ({ has }: KernelVariant, c: string) =>
  `F(${has('student') ? 'student' : 'd'}[s_at + ${c}]) * p.inverse_temperature`;

const bothLogSums = (variant: KernelVariant) =>
  logSums(variant, { t: teacherUnit, s: (c) => studentUnit(variant, c) }, 'stop');

/** Logarithms of both probabilities of the units of a step, and the probabilities. */
const probabilities = (variant: KernelVariant, ks: readonly number[]) => [
  ...ks.flatMap((k) => [`let t${k} = ${teacherUnit(`c${k}`)};`, `let s${k} = ${studentUnit(variant, `c${k}`)};`]),
  ...ks.flatMap((k) => [
    `let log_p${k} = t${k} - t_high - t_log;`,
    `let log_q${k} = s${k} - s_high - s_log;`,
    `let p${k} = exp(log_p${k});`,
    `let q${k} = exp(log_q${k});`,
  ]),
];

/**
 * One summand of KL(p‖q) from log p and log q. Since Σp = Σq, Σ p·(log p − log q) is also Σ (q − p − p·d) with
 * d = log q − log p, whose summands are never negative and forgive an error in either log-sum: a student close to its
 * teacher gets an accurate divergence, not the rounding error of a difference. For small d the summand is p times the
 * series of eᵈ − 1 − d, which the expression would lose to cancellation. A token with p = 0 leaves q.
 */
const DIVERGENCE = /* wgsl */ `
fn divergence(log_p: F, log_q: F, pt: F, qs: F) -> F {
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
      `${row(variant)}
${bothLogSums(variant)}
  var sums = F(0);
${rowLoop(variant, 'stop', (ks) =>
  [...probabilities(variant, ks), ...ks.map((k) => `sums += divergence(log_p${k}, log_q${k}, p${k}, q${k});`)].join(
    '\n      ',
  ),
)}
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
  bindings: {
    teacher: 'read',
    student: 'read',
    selection: 'read',
    statistics: 'read',
    g: 'read',
    peak: 'read',
    d: 'write',
  },
  params: GRADIENT_PARAMS,
  vectors: rowVectors('teacher', 'student', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SELECTED +
    rowLanesMain(
      variant,
      `${row(variant)}
  let d_at = p.d_start + base;
  let slope = select(0.0, ${upstream(variant.has)}, live) * p.inverse_temperature;
  let t_high = statistics[4u * n];
  let t_log = statistics[4u * n + 1u];
  let s_high = statistics[4u * n + 2u];
  let s_log = statistics[4u * n + 3u];
${rowLoop(variant, 'end', (ks) =>
  [
    ...probabilities(variant, ks),
    ...ks.map((k) => `d[d_at + c${k}] = d_t(select(F(0), slope * (q${k} - p${k}), live));`),
  ].join('\n      '),
)}`,
    ),
});

/**
 * Both at once, for an upstream of `scale` a row: y, and d, without its division by the temperature, over the student's
 * logits themselves where no `student` is bound.
 */
export const onePassKernel = defineKernel({
  name: 'kl_divergence_one_pass',
  bindings: { teacher: 'read', student: 'read', selection: 'read', y: 'write', d: 'write' },
  params: GRADIENT_PARAMS,
  vectors: rowVectors('teacher', 'student', 'd'),
  workgroup: rowWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SELECTED +
    DIVERGENCE +
    rowSum(variant) +
    rowMax(variant) +
    rowLanesMain(
      variant,
      `${row(variant)}
${bothLogSums(variant)}
  let d_at = p.d_start + base;
  var sums = F(0);
${rowLoop(variant, 'end', (ks) =>
  [
    ...probabilities(variant, ks),
    ...ks.flatMap((k) => [
      `sums += divergence(log_p${k}, log_q${k}, p${k}, q${k});`,
      `d[d_at + c${k}] = d_t(select(F(0), p.scale * (q${k} - p${k}), live));`,
    ]),
  ].join('\n      '),
)}
  let sum = row_sum(total(sums), lid);
  if (inside && lane == 0u) { y[n] = select(0.0, sum, live); }`,
    ),
});
