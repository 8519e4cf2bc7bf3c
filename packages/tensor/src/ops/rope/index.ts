import { allocateTensor, defineOp } from '../../core/define-op.js';
import { sameShape, shapeError, showShape, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Device } from '../../device/device.js';
import { ZebraError } from '../../errors.js';
import { assertComputable, assertInt32 } from '../row/checks.js';
import { ropeReference } from './reference.js';
import { ropeKernel } from './rope.wgsl.js';

/** cos and sin of position times frequency, computed in float64: float32 [P, half], P positions. */
export interface RopeTables {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/**
 * Where the members of a rotated pair stand. `half` (Llama, Qwen): j and j + half, in place. `interleaved` (DeepSeek,
 * MLA): read from 2j and 2j + 1, written to j and j + half.
 */
export type RopeLayout = 'half' | 'interleaved';

/** Options of {@link rope}. */
export interface RopeOptions {
  /** First rotated dimension of each head. Default 0. */
  readonly start?: number;
  /** Default `half`. */
  readonly layout?: RopeLayout;
}

/** Attributes of {@link ropeOp}. */
export interface RopeAttributes {
  readonly start: number;
  readonly layout: RopeLayout;
}

/** {@link rope} as an operation; its inputs are x, cos, sin and, optionally, positions. */
export const ropeOp = defineOp<RopeAttributes>({
  name: 'rope',
  shape([x, cos, sin, positions], { start, layout }) {
    assertComputable('rope', 'x', x!);
    if (x!.shape.length !== 4) shapeError('rope', 'x', '[B, T, H, D]', x!.shape);
    const [batches, tokens, , columns] = x!.shape as [number, number, number, number];
    assertTables(cos!, sin!);
    const [rows, pairs] = cos!.shape as [number, number];
    if (!Number.isInteger(start) || start < 0 || start + 2 * pairs > columns) {
      throw new ZebraError(
        'argument',
        `rope: start must leave room for ${2 * pairs} rotated dimensions in heads of ${columns}, got ${start}`,
      );
    }
    if (layout !== 'half' && layout !== 'interleaved') {
      throw new ZebraError('argument', `rope: layout must be 'half' or 'interleaved', got ${String(layout)}`);
    }
    if (positions) {
      assertInt32('rope', 'positions', positions);
      if (!sameShape(positions.shape, [batches, tokens])) {
        shapeError('rope', 'positions', `[${batches}, ${tokens}] for x ${showShape(x!.shape)}`, positions.shape);
      }
    } else if (tokens > rows) {
      shapeError('rope', 'tables', `of at least ${tokens} positions for x ${showShape(x!.shape)}`, cos!.shape);
    }
    return [x!];
  },
  forward({ inputs: [x, cos, sin, positions], outputs: [y], attributes }) {
    run(x!, y!, { cos: cos!, sin: sin! }, positions, attributes, false);
  },
  saves: { inputs: [1, 2, 3], outputs: [] },
  backward({ device, inputs: [x, cos, sin, positions], gradients: [g], attributes, needs }) {
    if (!needs[0]) return [];
    const d = allocateTensor(device, x!);
    run(g!, d, { cos: cos!, sin: sin! }, positions, attributes, true);
    return [d];
  },
  reference: ropeReference,
});

function assertTables(cos: TensorSpec, sin: TensorSpec): void {
  if (cos.shape.length !== 2) shapeError('rope', 'tables.cos', '[P, half]', cos.shape);
  if (!sameShape(cos.shape, sin.shape)) shapeError('rope', 'tables.sin', `${showShape(cos.shape)} like cos`, sin.shape);
  for (const [name, table] of Object.entries({ cos, sin })) {
    if (table.dtype !== 'float32') {
      throw new ZebraError(
        'dtype',
        `rope: tables.${name} must be float32, got ${table.dtype}. Make them with buildRopeTables().`,
      );
    }
  }
}

function run(
  x: Tensor,
  y: Tensor,
  { cos, sin }: RopeTables,
  positions: Tensor | undefined,
  { start, layout }: RopeAttributes,
  inverse: boolean,
): void {
  const [, tokens, heads, dimensions] = x.shape as [number, number, number, number];
  const [tableRows, half] = cos.shape as [number, number];
  const width = [dimensions, half, start].every((size) => size % 4 === 0) ? 4 : 1;
  const columns = dimensions / width;
  const pairs = half / width;
  const items = pairs + Math.ceil((columns - 2 * pairs) / 2);
  const together = headsTogether(x.device, heads, (x.size / dimensions) * items);
  const count = ((x.size / dimensions) * items) / together;
  const powers = isPower(items) && isPower(heads / together);
  x.device.dispatch(ropeKernel, {
    bindings: {
      x: x.range(),
      cos_table: cos.range(),
      sin_table: sin.range(),
      positions: positions?.range(),
      y: y.range(),
    },
    params: {
      count,
      items,
      heads: heads / together,
      tokens,
      columns,
      start: start / width,
      pairs,
      table_rows: tableRows,
    },
    constants: { width, interleaved: layout === 'interleaved', inverse, together, powers },
    groups: Math.ceil(count / x.device.workgroupOf(ropeKernel)),
  });
}

/** Invocations that keep a GPU's memory busy. */
const ENOUGH_INVOCATIONS = 65_536;

/** Heads that an invocation turns: four on a GPU, where there are enough of them. */
function headsTogether({ info }: Device, heads: number, invocations: number): number {
  const most = info.software ? 1 : 4;
  return [4, 2, 1].find((n) => n <= most && heads % n === 0 && (n === 1 || invocations / n >= ENOUGH_INVOCATIONS))!;
}

const isPower = (n: number): boolean => 2 ** Math.round(Math.log2(n)) === n;

/**
 * Rotary position embedding: rotates 2·half dimensions of each head, from `start`, by the position's angles, and copies
 * the others. Formula: Su et al., "RoFormer" (2021); the interleaved layout is that of DeepSeek-V2's attention.
 *
 * @param x [B, T, H, D], float32 or float16
 * @param tables cos and sin, float32 [P, half]; make them with `buildRopeTables`
 * @param positions int32 [B, T]; undefined means 0 to T − 1 in every row. Outside [0, P) the nearest row is taken.
 * @returns [B, T, H, D], of the dtype of `x`; the caller owns it
 * @throws ZebraError `shape`, `dtype` or `argument` when the inputs do not fit
 */
export function rope(x: Tensor, tables: RopeTables, positions?: Tensor, options: RopeOptions = {}): Tensor {
  const { start = 0, layout = 'half' } = options;
  return ropeOp.apply([x, tables.cos, tables.sin, positions], { start, layout })[0]!;
}
