import { broadcastShapes, type Shape } from '../../core/shape.js';

/** Dimensions that a broadcasting kernel can hold once neighbouring ones are merged. */
export const MAX_DIMENSIONS = 4;

/** Sizes and strides of a broadcast, merged to {@link MAX_DIMENSIONS} dimensions, outermost first. */
export interface BroadcastPlan {
  readonly shape: Shape;
  readonly sizes: readonly number[];
  /** Strides of each operand, in elements; 0 where it repeats. */
  readonly strides: readonly (readonly number[])[];
}

/** Plans the broadcast of operands to their common shape, or undefined where they do not fit or need too many dimensions. */
export function planBroadcast(operands: readonly Shape[]): BroadcastPlan | undefined {
  let shape: number[] | undefined = [];
  for (const operand of operands) {
    shape = shape && broadcastShapes(shape, operand);
    if (!shape) return undefined;
  }
  const strides = operands.map((operand) => stridesIn(operand, shape));
  const sizes: number[] = [];
  const merged: number[][] = operands.map(() => []);
  for (let d = shape.length - 1; d >= 0; d--) {
    const size = shape[d]!;
    if (size === 1) continue;
    const last = sizes.length - 1;
    // The next dimension outward merges when each operand steps over it as if the two were one.
    const merges = last >= 0 && strides.every((s, k) => s[d] === merged[k]![last]! * sizes[last]!);
    if (merges) sizes[last]! *= size;
    else {
      sizes.push(size);
      for (const [k, s] of strides.entries()) merged[k]!.push(s[d]!);
    }
  }
  if (sizes.length > MAX_DIMENSIONS) return undefined;
  const pad = (list: number[], value: number) => [
    ...new Array<number>(MAX_DIMENSIONS - list.length).fill(value),
    ...list.reverse(),
  ];
  return { shape, sizes: pad(sizes, 1), strides: merged.map((list) => pad(list, 0)) };
}

function stridesIn(operand: Shape, shape: Shape): number[] {
  const strides = new Array<number>(shape.length).fill(0);
  let step = 1;
  for (let d = operand.length - 1; d >= 0; d--) {
    const size = operand[d]!;
    strides[shape.length - operand.length + d] = size === 1 ? 0 : step;
    step *= size;
  }
  return strides;
}
