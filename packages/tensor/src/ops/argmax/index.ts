import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import { assertComputable } from '../row/checks.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import { mergeKernel, pieceKernel } from './argmax.wgsl.js';
import { argmaxReference } from './reference.js';

// A few long rows (a step of greedy decoding over a vocabulary) would leave a GPU idle: they are cut into pieces.
const FEW_ROWS = 512;
const PIECE = 2048;

/** Options of {@link argmax}. */
export interface ArgmaxOptions {
  /** Gives −1 for a row that holds NaN or +∞, of which nothing can be said otherwise. Default false. */
  readonly finite?: boolean;
}

/** {@link argmax} as an operation. */
export const argmaxOp = defineOp<ArgmaxOptions>({
  name: 'argmax',
  shape([x]) {
    assertComputable('argmax', 'x', x!);
    return [{ shape: x!.shape.length > 1 ? x!.shape.slice(0, -1) : [1], dtype: 'int32' }];
  },
  forward({ device, inputs: [x], outputs: [y], attributes: { finite = false } }) {
    const columns = x!.shape[x!.shape.length - 1]!;
    const rows = y!.size;
    const pieces = rows < FEW_ROWS ? Math.ceil(columns / PIECE) : 1;
    if (pieces === 1) return findBest(x!, { columns, piece: columns, finite }, y!);
    const partial = allocateTensor(device, { shape: [rows, pieces], dtype: 'int32' });
    const values = allocateTensor(device, { shape: [rows, pieces], dtype: 'float32' });
    findBest(x!, { columns, piece: PIECE, finite }, partial, values);
    device.dispatch(mergeKernel, {
      bindings: { values: values.range(), columns: partial.range(), y: y!.range() },
      params: { rows, pieces },
      groups: Math.ceil(rows / device.workgroupOf(mergeKernel)),
    });
  },
  reference: argmaxReference,
});

interface Search {
  readonly columns: number;
  readonly piece: number;
  readonly finite: boolean;
}

function findBest(x: Tensor, { columns, piece, finite }: Search, best: Tensor, values?: Tensor): void {
  const { device } = x;
  const plan = planRows(device, piece, { rows: best.size, vector: false });
  device.dispatch(pieceKernel, {
    bindings: { x: x.range(), columns: best.range(), values: values?.range() },
    params: { rows: best.size, units: piece, pieces: Math.ceil(columns / piece), columns },
    constants: { ...plan.constants, ...(finite && { finite }) },
    groups: rowGroups(device, pieceKernel, best.size, plan),
  });
}

/**
 * The column of the largest value of each row; the lowest of them on a tie. Not differentiable.
 *
 * @param x [..., V], float32 or float16, without NaN (but see `finite`)
 * @returns int32 [...] ([1] for a single row of shape [V]); the caller owns it
 * @throws ZebraError `dtype`
 */
export function argmax(x: Tensor, options: ArgmaxOptions = {}): Tensor {
  return argmaxOp.apply([x], options)[0]!;
}
