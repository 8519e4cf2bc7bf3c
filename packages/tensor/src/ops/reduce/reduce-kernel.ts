import { allocateTensor } from '../../core/define-op.js';
import { scope } from '../../core/scope.js';
import type { Tensor } from '../../core/tensor.js';
import { defineKernel, linearMain } from '../../device/kernel.js';

/** How a reduction combines. */
export type Combine = 'sum' | 'max';

// A long sum over few outputs leaves a GPU idle and grows rounding error: it is cut into pieces first, of this length,
// and on GPUs with few outputs of about its root (256 rows of 2048 took 60 µs on an H100, alone with its latency).
const PIECE = 256;
const SHORT_PIECE = 16;
const ENOUGH_OUTPUTS = 65_536;

function pieceOf({ device }: Tensor, outputs: number, n: number): number {
  if (device.info.software || outputs >= ENOUGH_OUTPUTS || n <= 2 * SHORT_PIECE) return PIECE;
  return Math.min(PIECE, Math.max(SHORT_PIECE, Math.ceil(Math.sqrt(n))));
}

/** Reduces the middle of [outer, n, inner] into `y` of [outer, inner], scaled by `factor`. Deterministic. */
export function reduceInto(
  x: Tensor,
  y: Tensor,
  outer: number,
  n: number,
  inner: number,
  combine: Combine,
  factor = 1,
): void {
  const piece = pieceOf(x, outer * inner, n);
  if (n <= piece) {
    launch(x, y, outer, n, inner, combine, factor, n);
    return;
  }
  scope(() => {
    const pieces = Math.ceil(n / piece);
    const partial = allocateTensor(x.device, { shape: [outer, pieces, inner], dtype: 'float32' });
    launch(x, partial, outer, n, inner, combine, 1, piece);
    reduceInto(partial, y, outer, pieces, inner, combine, factor);
  });
}

function launch(
  x: Tensor,
  y: Tensor,
  outer: number,
  n: number,
  inner: number,
  combine: Combine,
  factor: number,
  piece: number,
): void {
  const pieces = Math.ceil(n / piece);
  const count = outer * pieces * inner;
  x.device.dispatch(reduceKernel, {
    bindings: { x: x.range(), y: y.range() },
    params: { count, n, inner, piece, pieces, factor },
    constants: { combine },
    groups: Math.ceil(count / x.device.workgroupOf(reduceKernel)),
  });
}

const reduceKernel = defineKernel({
  name: 'reduce',
  bindings: { x: 'read', y: 'write' },
  params: { count: 'u32', n: 'u32', inner: 'u32', piece: 'u32', pieces: 'u32', factor: 'f32' },
  source: ({ constants }) =>
    linearMain(
      'p.count',
      `
  let column = i % p.inner;
  let part = (i / p.inner) % p.pieces;
  let block = i / (p.inner * p.pieces);
  let first = part * p.piece;
  let last = min(first + p.piece, p.n);
  var at = (block * p.n + first) * p.inner + column;
  var total = f32(x[at]);
  for (var k = first + 1u; k < last; k++) {
    at += p.inner;
    total = ${constants['combine'] === 'max' ? 'max(total, f32(x[at]))' : 'total + f32(x[at])'};
  }
  y[i] = y_t(total * p.factor);`,
    ),
});
