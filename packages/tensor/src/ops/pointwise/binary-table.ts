/** One row an operation: WGSL in terms of `a`, `b` and of both derivatives, with their float64 twins. */
export interface BinaryRow {
  readonly wgsl: string;
  readonly derivatives: readonly [string, string];
  readonly value: (a: number, b: number) => number;
  readonly slopes: readonly [(a: number, b: number) => number, (a: number, b: number) => number];
}

/** All binary pointwise operations. */
export const BINARY = {
  add: { wgsl: 'a + b', derivatives: ['1.0', '1.0'], value: (a, b) => a + b, slopes: [() => 1, () => 1] },
  subtract: { wgsl: 'a - b', derivatives: ['1.0', '-1.0'], value: (a, b) => a - b, slopes: [() => 1, () => -1] },
  multiply: { wgsl: 'a * b', derivatives: ['b', 'a'], value: (a, b) => a * b, slopes: [(_a, b) => b, (a) => a] },
  divide: {
    wgsl: 'a / b',
    derivatives: ['1.0 / b', '-a / (b * b)'],
    value: (a, b) => a / b,
    slopes: [(_a, b) => 1 / b, (a, b) => -a / (b * b)],
  },
  // At a tie the whole gradient goes to the first operand.
  maximum: {
    wgsl: 'max(a, b)',
    derivatives: ['select(0.0, 1.0, a >= b)', 'select(1.0, 0.0, a >= b)'],
    value: Math.max,
    slopes: [(a, b) => (a >= b ? 1 : 0), (a, b) => (a >= b ? 0 : 1)],
  },
  minimum: {
    wgsl: 'min(a, b)',
    derivatives: ['select(0.0, 1.0, a <= b)', 'select(1.0, 0.0, a <= b)'],
    value: Math.min,
    slopes: [(a, b) => (a <= b ? 1 : 0), (a, b) => (a <= b ? 0 : 1)],
  },
} satisfies Record<string, BinaryRow>;

/** Name of a binary pointwise operation. */
export type BinaryName = keyof typeof BINARY;
