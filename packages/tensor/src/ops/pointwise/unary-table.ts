/**
 * One row an operation: WGSL of the value `f` in terms of `x`, and of its derivative in terms of `x` and the value `y`,
 * with their float64 twins. `a` is the operation's one optional scalar.
 */
export interface UnaryRow {
  readonly wgsl: string;
  readonly derivative: string;
  readonly value: (x: number, a: number) => number;
  readonly slope: (x: number, y: number, a: number) => number;
}

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
// exp overflows float32 past 88: both halves are written with a negative exponent.
const SIGMOID = 'select(exp(x) / (1.0 + exp(x)), 1.0 / (1.0 + exp(-x)), x >= 0.0)';

/** All unary pointwise operations. */
export const UNARY = {
  negate: { wgsl: '-x', derivative: '-1.0', value: (x) => -x, slope: () => -1 },
  exponential: { wgsl: 'exp(x)', derivative: 'y', value: Math.exp, slope: (_x, y) => y },
  logarithm: { wgsl: 'log(x)', derivative: '1.0 / x', value: Math.log, slope: (x) => 1 / x },
  squareRoot: { wgsl: 'sqrt(x)', derivative: '0.5 / y', value: Math.sqrt, slope: (_x, y) => 0.5 / y },
  square: { wgsl: 'x * x', derivative: '2.0 * x', value: (x) => x * x, slope: (x) => 2 * x },
  absolute: { wgsl: 'abs(x)', derivative: 'sign(x)', value: Math.abs, slope: (x) => Math.sign(x) },
  sigmoid: { wgsl: SIGMOID, derivative: 'y * (1.0 - y)', value: sigmoid, slope: (_x, y) => y * (1 - y) },
  // Drivers' tanh overflows for large x and loses small x to cancellation.
  tanh: {
    wgsl: 'select(tanh(clamp(x, -15.0, 15.0)), x * (1.0 - x * x * (0.33333334 - 0.13333334 * x * x)), abs(x) < 0.05)',
    derivative: '1.0 - y * y',
    value: Math.tanh,
    slope: (_x, y) => 1 - y * y,
  },
  relu: {
    wgsl: 'max(x, 0.0)',
    derivative: 'select(0.0, 1.0, x > 0.0)',
    value: (x) => Math.max(x, 0),
    slope: (x) => (x > 0 ? 1 : 0),
  },
  silu: {
    wgsl: `x * ${SIGMOID}`,
    derivative: `(${SIGMOID}) * (1.0 + x - y)`,
    value: (x) => x * sigmoid(x),
    slope: (x, y) => sigmoid(x) * (1 + x - y),
  },
  // log(1 + e^x) loses everything at x = -15 in float32; for small t = e^-|x| the series t - t²/2 + t³/3 is exact enough.
  softplus: {
    wgsl: 'max(x, 0.0) + log1p_small(exp(-abs(x)))',
    derivative: SIGMOID,
    value: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))),
    slope: (x) => sigmoid(x),
  },
  scale: { wgsl: 'x * p.a', derivative: 'p.a', value: (x, a) => x * a, slope: (_x, _y, a) => a },
  shift: { wgsl: 'x + p.a', derivative: '1.0', value: (x, a) => x + a, slope: () => 1 },
} satisfies Record<string, UnaryRow>;

/** Name of a unary pointwise operation. */
export type UnaryName = keyof typeof UNARY;

/** WGSL helpers that rows may call. */
export const UNARY_HELPERS = /* wgsl */ `
fn log1p_small(t: f32) -> f32 {
  return select(log(1.0 + t), t * (1.0 - t * (0.5 - t * (0.33333334 - 0.25 * t))), t < 0.03);
}
`;
