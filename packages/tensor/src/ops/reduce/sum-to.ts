import { allocateTensor } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';
import { elementCount, type Shape, sameShape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { reduceInto } from './reduce-kernel.js';

/** Dimensions of `from` that were broadcast to make it from `to`, as runs of neighbours. */
function* broadcastRuns(from: Shape, to: Shape): Generator<{ start: number; end: number }> {
  const lead = from.length - to.length;
  const summed = (d: number) => d < lead || (to[d - lead] === 1 && from[d] !== 1);
  for (let d = 0; d < from.length; d++) {
    if (!summed(d)) continue;
    const start = d;
    while (d + 1 < from.length && summed(d + 1)) d++;
    yield { start, end: d + 1 };
  }
}

/** Undoes a broadcast by summing: the gradient of a broadcast operand. Returns `x` itself where nothing was broadcast. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  let current = x;
  const sizes = [...x.shape];
  for (const { start, end } of broadcastRuns(x.shape, shape)) {
    const outer = elementCount(sizes.slice(0, start));
    const n = elementCount(sizes.slice(start, end));
    const inner = elementCount(sizes.slice(end));
    for (let d = start; d < end; d++) sizes[d] = 1;
    const last = elementCount(sizes) === elementCount(shape);
    // Only the last pass rounds to the operand's dtype.
    const reduced = allocateTensor(x.device, { shape: sizes, dtype: last ? x.dtype : 'float32' });
    reduceInto(current, reduced, outer, n, inner, 'sum');
    current = reduced;
  }
  return sameShape(current.shape, shape) ? current : current.view({ shape: [...shape], dtype: x.dtype });
}

/** Float64 twin of {@link sumTo}. */
export function sumToReference(x: HostTensor, shape: Shape): HostTensor {
  const out = hostTensor(shape);
  const lead = x.shape.length - shape.length;
  for (let i = 0; i < x.data.length; i++) {
    let rest = i;
    let at = 0;
    let step = 1;
    for (let d = x.shape.length - 1; d >= 0; d--) {
      const c = rest % x.shape[d]!;
      rest = Math.floor(rest / x.shape[d]!);
      if (d < lead) continue;
      const size = shape[d - lead]!;
      if (size !== 1) at += c * step;
      step *= size;
    }
    out.data[at]! += x.data[i]!;
  }
  return out;
}
