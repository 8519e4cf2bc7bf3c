import { allocateTensor, defineOp, type Tensor } from '@zebra/tensor';
import { assertActivation, assertLeading, shapeError } from '../../shapes.js';
import { vectorWidth } from '../vectors.js';
import { backward, forward } from './reference.js';
import { joinKernel, splitKernel } from './split-latent.wgsl.js';

/** Attributes of {@link splitLatentOp}. */
export interface SplitLatentAttributes {
  /** Elements of the latent, r_kv; the rest of a row is the rotary key. */
  readonly latentSize: number;
}

/** {@link splitLatent} as an operation. */
export const splitLatentOp = defineOp<SplitLatentAttributes>({
  name: 'splitLatent',
  shape([x], { latentSize }) {
    assertActivation('splitLatent', 'x', x!, ['B', 'T', 'latent + rope']);
    const [batch, tokens, size] = x!.shape as [number, number, number];
    if (!Number.isSafeInteger(latentSize) || latentSize < 1 || latentSize >= size) {
      shapeError('splitLatent', 'latentSize', `an integer from 1 to ${size - 1}`, String(latentSize));
    }
    const dtype = x!.dtype;
    return [
      { shape: [batch, tokens, latentSize], dtype },
      { shape: [batch, tokens, size - latentSize], dtype },
    ];
  },
  forward({ inputs: [x], outputs: [latent, rope], attributes: { latentSize } }) {
    const size = x!.shape[2]!;
    const width = vectorWidth(size, latentSize);
    const count = x!.size / width;
    x!.device.dispatch(splitKernel, {
      bindings: { rows: x!.range(), latent: latent!.range(), rope: rope!.range() },
      params: { count, row: size / width, latent: latentSize / width },
      constants: { width },
      groups: Math.ceil(count / x!.device.workgroupOf(splitKernel)),
    });
  },
  saves: { inputs: [], outputs: [] },
  backward({ device, inputs: [x], gradients: [latent, rope], attributes: { latentSize } }) {
    const gradient = allocateTensor(device, x!);
    joinInto(gradient, latentSize, latent, rope);
    return [gradient];
  },
  reference: { forward, backward },
});

function joinInto(rows: Tensor, latentSize: number, latent: Tensor | undefined, rope: Tensor | undefined): void {
  const size = rows.shape[2]!;
  const width = vectorWidth(size, latentSize);
  const count = rows.size / width;
  rows.device.dispatch(joinKernel, {
    bindings: { latent: latent?.range(), rope: rope?.range(), rows: rows.range() },
    params: { count, row: size / width, latent: latentSize / width },
    constants: { width },
    groups: Math.ceil(count / rows.device.workgroupOf(joinKernel)),
  });
}

/**
 * Splits the rows of `kv_a_proj_with_mqa`'s output (or of a latent cache) into the latent and the shared rotary key.
 *
 * @param x [B, T, latent + rope], float32 or float16
 * @param latentSize elements of the latent
 * @returns [B, T, latent] and [B, T, rope] of x's dtype; gradients flow through both. The caller owns them
 * @throws ZebraError `shape` or `dtype` where the input does not fit
 */
export function splitLatent(x: Tensor, latentSize: number): [latent: Tensor, rope: Tensor] {
  return splitLatentOp.apply([x], { latentSize }) as [Tensor, Tensor];
}

/**
 * The reverse of {@link splitLatent}: the rows of a latent cache. Not differentiable, as no gradient flows through one.
 *
 * @param latent [B, T, latent]
 * @param rope [B, T, rope], of the same dtype
 * @returns [B, T, latent + rope], owned by the caller
 * @throws ZebraError `shape` where the two do not fit
 */
export function joinLatent(latent: Tensor, rope: Tensor): Tensor {
  assertActivation('joinLatent', 'latent', latent, ['B', 'T', 'latent']);
  assertActivation('joinLatent', 'rope', rope, ['B', 'T', 'rope']);
  const lead = latent.shape.slice(0, 2);
  assertLeading('joinLatent', 'rope', rope.shape, lead, ['rope']);
  const latentSize = latent.shape[2]!;
  const rows = allocateTensor(latent.device, { shape: [...lead, latentSize + rope.shape[2]!], dtype: latent.dtype });
  joinInto(rows, latentSize, latent, rope);
  return rows;
}
