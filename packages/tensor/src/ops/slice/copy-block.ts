import type { Shape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { defineKernel, linearMain } from '../../device/kernel.js';
import { aroundAxis } from './axis.js';

/** What {@link copyBlock} copies, in positions along the axis. */
export interface Block {
  readonly axis: number;
  /** Positions of `y` to be written. */
  readonly start: number;
  readonly length: number;
  /** Position of `x` that goes to `start`; may be negative. */
  readonly from: number;
}

/**
 * Fills the positions [start, start + length) of `y` along an axis from those of `x` that begin at `from`; positions
 * outside of `x` give zeros. The two have equal sizes along all other dimensions.
 */
export function copyBlock(x: Tensor, y: Tensor, block: Block): void {
  fillBlock(x, x.shape, y, block);
}

/** Fills the positions [start, start + length) of `y` along an axis with zeros; `any` is some other tensor of the dtype. */
export function clearBlock(any: Tensor, y: Tensor, block: Omit<Block, 'from'>): void {
  const nothing = y.shape.map((size, d) => (d === block.axis ? 0 : size));
  fillBlock(any, nothing, y, { ...block, from: 0 });
}

function fillBlock(x: Tensor, shapeX: Shape, y: Tensor, { axis, start, length, from }: Block): void {
  const { outer, inner } = aroundAxis(y.shape, axis);
  const row = { length, x_row: shapeX[axis]!, y_row: y.shape[axis]!, start, shift: from };
  const inElements = Object.entries(row).map(([name, positions]) => [name, positions * inner] as const);
  const width = inElements.every(([, elements]) => elements % 4 === 0) ? 4 : 1;
  const params = Object.fromEntries(inElements.map(([name, elements]) => [name, elements / width]));
  const count = (outer * length * inner) / width;
  y.device.dispatch(blockKernel, {
    bindings: { x: x.range(), y: y.range() },
    params: { count, ...params },
    constants: { vector: width === 4 },
    groups: Math.ceil(count / y.device.workgroupOf(blockKernel)),
  });
}

// The axis and all dimensions after it are one row of elements here. `shift` wraps around where it is negative, so that
// one comparison finds what lies outside on either side.
const blockKernel = defineKernel({
  name: 'block',
  bindings: { x: 'read', y: 'write' },
  params: { count: 'u32', length: 'u32', x_row: 'u32', y_row: 'u32', start: 'u32', shift: 'u32' },
  vectors: ({ constants }) => (constants['vector'] === true ? { x: 4, y: 4 } : ({} as Record<string, never>)),
  source: () =>
    linearMain(
      'p.count',
      /* wgsl */ `
  let row = i / p.length;
  let at = i % p.length;
  let source = at + p.shift;
  var value = y_t();
  if (source < p.x_row) { value = x[row * p.x_row + source]; }
  y[row * p.y_row + p.start + at] = value;`,
    ),
});
