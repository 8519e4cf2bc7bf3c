import { zeros } from '../../core/create.js';
import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { DType } from '../../core/dtype.js';
import { shapeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { assertComputable, assertInt32 } from '../row/checks.js';
import { forwardKernel, gradientKernel, linkKernel, serialLinkKernel } from './embedding.wgsl.js';
import { embeddingReference } from './reference.js';

export { checkTokenIds } from './check-token-ids.js';

/** Options of {@link embedding}. */
export interface EmbeddingOptions {
  /** dtype of the result. Default: that of the table. */
  readonly dtype?: DType;
}

/** Attributes of {@link embeddingOp}. */
export interface EmbeddingAttributes {
  readonly dtype?: DType | undefined;
}

/** {@link embedding} as an operation. */
export const embeddingOp = defineOp<EmbeddingAttributes>({
  name: 'embedding',
  shape([table, ids], { dtype }) {
    assertComputable('embedding', 'table', table!);
    assertInt32('embedding', 'ids', ids!);
    if (table!.shape.length !== 2) shapeError('embedding', 'table', '[V, D]', table!.shape);
    const y = { shape: [...ids!.shape, table!.shape[1]!], dtype: dtype ?? table!.dtype };
    assertComputable('embedding', 'options.dtype', y);
    return [y];
  },
  forward({ device, inputs: [table, ids], outputs: [y] }) {
    const { vocabulary, units, constants } = plan(table!);
    const count = ids!.size * units;
    device.dispatch(forwardKernel, {
      bindings: { rows: table!.range(), ids: ids!.range(), y: y!.range() },
      params: { count, units, vocabulary },
      constants,
      groups: Math.ceil(count / device.workgroupOf(forwardKernel)),
    });
  },
  saves: { inputs: [1], outputs: [] },
  backward({ device, inputs: [table, ids], gradients: [g], needs, sums }) {
    if (!needs[0]) return [];
    const { vocabulary, units, constants } = plan(table!);
    const tokens = ids!.size;
    const links = linkTokens(ids!, vocabulary);
    // A head that is tied to the table has given its gradient already: a second one of that size, mostly zeros, is saved.
    const sum = sums?.[0];
    const d = sum ?? zeros(device, table!.shape, { dtype: table!.dtype });
    const count = tokens * units;
    device.dispatch(gradientKernel, {
      bindings: { g: g!.range(), ids: ids!.range(), links: links.range(), d: d.range() },
      params: { count, units, tokens, vocabulary },
      constants: { ...constants, accumulate: sum !== undefined },
      groups: Math.ceil(count / device.workgroupOf(gradientKernel)),
    });
    return [d];
  },
  reference: embeddingReference,
});

function plan(table: Tensor): { vocabulary: number; units: number; constants: { width: number } } {
  const [vocabulary, columns] = table.shape as [number, number];
  const width = columns % 4 === 0 ? 4 : 1;
  return { vocabulary, units: columns / width, constants: { width } };
}

function linkTokens(ids: Tensor, vocabulary: number): Tensor {
  const { device } = ids;
  const tokens = ids.size;
  const links = allocateTensor(device, { shape: [tokens, 2], dtype: 'uint32' });
  const bindings = { ids: ids.range(), links: links.range() };
  const params = { tokens, vocabulary };
  if (device.info.software) {
    const seen = zeros(device, [vocabulary], { dtype: 'uint32' });
    device.dispatch(serialLinkKernel, { bindings: { ...bindings, seen: seen.range() }, params, groups: 1 });
  } else {
    device.dispatch(linkKernel, { bindings, params, groups: Math.ceil(tokens / device.workgroupOf(linkKernel)) });
  }
  return links;
}

/**
 * Rows of a table by id. The gradient of the table is deterministic: tokens of one id are added in their order, with
 * no atomics.
 *
 * Ids outside [0, V) read the nearest row: the kernel only bounds them. Check ids from outside with
 * {@link checkTokenIds}.
 *
 * @param table [V, D], float32 or float16
 * @param ids int32, any shape; in the gradient every token is compared with all others, so up to some 10⁴ of them
 * @returns [...ids.shape, D], of the dtype of the table unless `options.dtype` says otherwise; the caller owns it
 * @throws ZebraError `shape` or `dtype` when the inputs do not fit
 */
export function embedding(table: Tensor, ids: Tensor, options: EmbeddingOptions = {}): Tensor {
  return embeddingOp.apply([table, ids], { dtype: options.dtype })[0]!;
}
