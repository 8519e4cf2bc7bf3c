import { type DType, defineOp, type Kernel, type Tensor, type TensorSpec } from '@zebra/tensor';
import { assertActivation, shapeError } from '../../shapes.js';
import { vectorWidth } from '../vectors.js';
import { absorbQueriesKernel, expandValuesKernel } from './absorb.wgsl.js';
import { absorbReference, expandReference } from './reference.js';

/** How the rows of `kv_b_proj` divide: each head has `nopeSize` rows of keys (W_UK), then `valueSize` of values (W_UV). */
export interface AbsorbAttributes {
  readonly nopeSize: number;
  readonly valueSize: number;
  /** dtype of the result. Default: float32 for absorbQueries, that of its input for expandValues. */
  readonly dtype?: DType;
}

// Neither has a gradient: they belong to decoding, and cached rows carry none.

/** {@link absorbQueries} as an operation. */
export const absorbQueriesOp = defineOp<AbsorbAttributes>({
  name: 'absorbQueries',
  shape([q, weight], attributes) {
    assertActivation('absorbQueries', 'q', q!, ['B', 'T', 'heads', 'nope + rope']);
    checkWeight('absorbQueries', q!, weight!, attributes);
    const [batch, tokens, heads, size] = q!.shape as [number, number, number, number];
    if (size <= attributes.nopeSize)
      shapeError('absorbQueries', 'q', `wider than nopeSize ${attributes.nopeSize}`, q!.shape);
    const row = weight!.shape[1]! + size - attributes.nopeSize;
    return [{ shape: [batch, tokens, heads, row], dtype: attributes.dtype ?? 'float32' }];
  },
  forward({ inputs: [q, weight], outputs: [y], attributes }) {
    const latent = weight!.shape[1]!;
    const width = vectorWidth(latent, y!.shape[3]! - latent);
    const sizes = { units: y!.shape[3]! / width, latent: latent / width, query: q!.shape[3]! };
    launch(absorbQueriesKernel, { q: q!, weight: weight!, y: y! }, q!, attributes, sizes, width);
  },
  reference: absorbReference,
});

/** {@link expandValues} as an operation. */
export const expandValuesOp = defineOp<AbsorbAttributes>({
  name: 'expandValues',
  shape([x, weight], attributes) {
    assertActivation('expandValues', 'x', x!, ['B', 'T', 'heads', 'latent']);
    checkWeight('expandValues', x!, weight!, attributes);
    const [batch, tokens, heads, latent] = x!.shape as [number, number, number, number];
    if (latent !== weight!.shape[1]) {
      shapeError('expandValues', 'x', `[B, T, heads, ${weight!.shape[1]}] to fit the weight`, x!.shape);
    }
    return [{ shape: [batch, tokens, heads * attributes.valueSize], dtype: attributes.dtype ?? x!.dtype }];
  },
  forward({ inputs: [x, weight], outputs: [y], attributes }) {
    const width = vectorWidth(x!.shape[3]!);
    const sizes = { units: attributes.valueSize, latent: x!.shape[3]! / width, query: 0 };
    launch(expandValuesKernel, { x: x!, weight: weight!, y: y! }, x!, attributes, sizes, width);
  },
  reference: expandReference,
});

function checkWeight(
  operation: string,
  x: TensorSpec,
  weight: TensorSpec,
  { nopeSize, valueSize }: AbsorbAttributes,
): void {
  assertActivation(operation, 'weight', weight, ['n·(nope + value)', 'latent']);
  const keyHeads = weight.shape[0]! / (nopeSize + valueSize);
  if (!Number.isSafeInteger(keyHeads) || x.shape[2]! % keyHeads !== 0) {
    const expected = `of n·${nopeSize + valueSize} rows, n a divisor of ${x.shape[2]} heads`;
    shapeError(operation, 'weight', expected, weight.shape);
  }
}

function launch(
  kernel: Kernel,
  tensors: Readonly<Record<string, Tensor>>,
  x: Tensor,
  { nopeSize, valueSize }: AbsorbAttributes,
  sizes: { readonly units: number; readonly latent: number; readonly query: number },
  width: 1 | 4,
): void {
  const [batch, length, heads] = x.shape as [number, number, number];
  const rows = batch * length;
  const up = nopeSize + valueSize;
  // Tokens that share a load of the weight; a single token is the rule in decoding.
  const tokens = rows >= 3 ? 4 : rows;
  const count = Math.ceil(rows / tokens) * heads * sizes.units;
  x.device.dispatch(kernel, {
    bindings: Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor.range()])),
    params: {
      count,
      rows,
      heads,
      group: heads / (tensors['weight']!.shape[0]! / up),
      up,
      nope: nopeSize,
      ...sizes,
    },
    constants: { tokens, width },
    groups: Math.ceil(count / x.device.workgroupOf(kernel)),
  });
}

/**
 * Takes queries into the latent space, where they meet cached latents without decompressing them: q_nope · W_UK of each
 * head, then the rotary part as it is (DeepSeek-V2, arXiv 2405.04434, section 2.1.2: W_UK is absorbed into the query).
 *
 * @param q [B, T, H, nope + rope], rotated already
 * @param weight `kv_b_proj.weight`, [n·(nope + value), latent]; n divides H
 * @returns [B, T, H, latent + rope], float32 unless `dtype` says otherwise, owned by the caller; no gradient
 * @throws ZebraError `shape` or `dtype` where the inputs do not fit
 */
export function absorbQueries(q: Tensor, weight: Tensor, attributes: AbsorbAttributes): Tensor {
  return absorbQueriesOp.apply([q, weight], attributes)[0]!;
}

/**
 * Takes attention's context out of the latent space: W_UV · x of each head, heads side by side.
 *
 * @param x [B, T, H, latent]
 * @param weight `kv_b_proj.weight`, [n·(nope + value), latent]; n divides H
 * @returns [B, T, H·value], owned by the caller; no gradient
 * @throws ZebraError `shape` or `dtype` where the inputs do not fit
 */
export function expandValues(x: Tensor, weight: Tensor, attributes: AbsorbAttributes): Tensor {
  return expandValuesOp.apply([x, weight], attributes)[0]!;
}
