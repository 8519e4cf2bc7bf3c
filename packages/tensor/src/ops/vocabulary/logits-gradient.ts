import { allocateTensor } from '../../core/define-op.js';
import type { TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { blockGroups } from '../../device/kernel.js';
import { matmulInto } from '../matmul/index.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import { type Chunk, type ChunkLogits, isHalf, type Rows, rowsOf } from './chunks.js';
import { peakKernel, scaledKernel } from './logits-gradient.wgsl.js';

/**
 * Where float16 gradients of logits are brought to: (p − y)·2¹⁵ with |p − y| ≤ 1 stays below float16's 65504, and keeps
 * full precision for p down to 1.9e-9 and something down to 1.8e-12, whatever the loss scale and the number of rows.
 */
const HALF_SCALE = 2 ** 15;

/** Factor that gradients of logits are computed with; to be divided out of what comes of them. */
export function logitsScale(x: TensorSpec, head: TensorSpec | undefined): number {
  return isHalf(x, head) ? HALF_SCALE : 1;
}

/** Sums that a {@link LogitsGradient} collects in. */
export interface GradientSums {
  /** Like the hidden states, but float32 where they are float16. */
  readonly dx?: Tensor | undefined;
  /** float32, like the head. */
  readonly dHead?: Tensor | undefined;
}

/** Shapes of {@link GradientSums}. Both sum in float32: float16 would round at every chunk. */
export function gradientSumSpecs(
  x: TensorSpec,
  head: TensorSpec | undefined,
  needs: readonly [boolean, boolean],
): { readonly dx?: TensorSpec; readonly dHead?: TensorSpec } {
  return {
    ...(needs[0] && { dx: { shape: x.shape, dtype: head ? ('float32' as const) : x.dtype } }),
    ...(needs[1] && head && { dHead: { shape: head.shape, dtype: 'float32' as const } }),
  };
}

/** Gathers the gradients of hidden states and head, or of logits in memory, from those of chunks of logits. */
export class LogitsGradient {
  private readonly logits: ChunkLogits;
  private readonly sums: GradientSums;
  /** The float16 gradient of a chunk; without one it overwrites the logits. */
  private readonly half: Tensor | undefined;
  /** Whether the head's gradient already holds a chunk. */
  private begun = false;

  /** @param sums where the sums go; {@link gradientSumSpecs} gives their shapes */
  constructor(logits: ChunkLogits, sums: GradientSums, chunkRows: number) {
    const { x, head } = logits;
    this.logits = logits;
    this.sums = sums;
    if (head && isHalf(x, head)) {
      this.half = allocateTensor(x.device, { shape: [chunkRows, head.shape[0]!], dtype: 'float16' });
    }
  }

  /** Where the gradient of a piece's logits goes: the float16 chunk, over the logits, or the result itself. */
  target(chunk: Chunk, piece: Chunk, logits: Rows): Rows {
    if (this.half) return { tensor: this.half, start: piece.first - chunk.first };
    return this.logits.head ? logits : { tensor: this.sums.dx!, start: logits.start };
  }

  /** Takes the gradient of a chunk's logits, all of whose pieces are where {@link target} said. */
  add(chunk: Chunk, target: Rows): void {
    const { x, factor } = this.logits;
    if (!factor) return;
    const dLogits = rowsOf(this.half ?? target.tensor, { first: 0, count: chunk.count });
    const { dx, dHead } = this.sums;
    if (dx) matmulInto(rowsOf(dx, chunk), dLogits, factor);
    if (dHead) {
      matmulInto(dHead, dLogits, rowsOf(x, chunk), { transposeA: true, accumulate: this.begun });
      this.begun = true;
    }
  }
}

/** A factor on gradients: a constant times numbers on the device. */
export interface DeviceFactor {
  readonly constant: number;
  readonly factors: readonly Tensor[];
}

/**
 * A sum times a factor as a gradient of the dtype that it must have: in the sum's own memory where that is the dtype,
 * so the sum must be nobody else's.
 */
export function finishGradient(
  sum: Tensor | undefined,
  like: TensorSpec | undefined,
  factor: DeviceFactor,
): Tensor | undefined {
  if (!sum || !like) return undefined;
  const same = sum.dtype === like.dtype;
  if (same && factor.constant === 1 && factor.factors.length === 0) return sum.alias();
  const y = same ? sum.alias() : allocateTensor(sum.device, like);
  const [a, b] = factor.factors;
  const width = sum.size % 4 === 0 ? 4 : 1;
  const count = sum.size / width;
  sum.device.dispatch(scaledKernel, {
    bindings: { x: same ? undefined : sum.range(), a: a?.range(), b: b?.range(), y: y.range() },
    params: { count, constant: factor.constant },
    constants: { width },
    groups: blockGroups(sum.device, scaledKernel, count),
  });
  return y;
}

/** The largest magnitude of upstream gradients, [1] on the device: what float16 gradients are measured against. */
export function peakOf(g: Tensor): Tensor {
  const { device } = g;
  const peak = allocateTensor(device, { shape: [1], dtype: 'float32' });
  const plan = planRows(device, g.size, { vector: false });
  device.dispatch(peakKernel, {
    bindings: { g: g.range(), peak: peak.range() },
    params: { rows: 1, units: plan.units },
    constants: plan.constants,
    groups: rowGroups(device, peakKernel, 1, plan),
  });
  return peak;
}
