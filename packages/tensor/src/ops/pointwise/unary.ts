import { allocateTensor, defineOp, type Op } from '../../core/define-op.js';
import { isComputable } from '../../core/dtype.js';
import { hostTensor } from '../../core/host.js';
import { dtypeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Device } from '../../device/device.js';
import { blockGroups, defineKernel, type Kernel, wideWorkgroup } from '../../device/kernel.js';
import { LANES, pointwiseMain, takesVectors, vectorsWhere } from './lanes.wgsl.js';
import { UNARY, UNARY_HELPERS, type UnaryName, type UnaryRow } from './unary-table.js';

/** Attributes of a unary pointwise operation. */
export interface UnaryAttributes {
  /** The scalar of `scale` and `shift`; unused by the others. */
  readonly a: number;
}

function forwardKernel(name: string, row: UnaryRow): Kernel {
  return defineKernel({
    name: `unary_${name}`,
    bindings: { x_in: 'read', y_out: 'write' },
    params: { count: 'u32', a: 'f32' },
    vectors: vectorsWhere(['x_in', 'y_out']),
    itemwise: () => ['x_in', 'y_out'],
    workgroup: wideWorkgroup,
    source: (variant) => UNARY_HELPERS + pointwiseMain(variant, { x: 'x_in' }, 'y_out', row.wgsl),
  });
}

function backwardKernel(name: string, row: UnaryRow): Kernel {
  return defineKernel({
    name: `unary_${name}_gradient`,
    bindings: { x_in: 'read', y_in: 'read', g_in: 'read', d: 'write' },
    params: { count: 'u32', a: 'f32' },
    vectors: vectorsWhere(['x_in', 'y_in', 'g_in', 'd']),
    itemwise: () => ['x_in', 'y_in', 'g_in', 'd'],
    workgroup: wideWorkgroup,
    // Loads that a row does not use are dropped by the compiler.
    source: (variant) =>
      UNARY_HELPERS + pointwiseMain(variant, { x: 'x_in', y: 'y_in', g: 'g_in' }, 'd', `g * (${row.derivative})`),
  });
}

/** Dispatches a kernel over all elements of same-shaped tensors. */
function overAll(device: Device, kernel: Kernel, bindings: Record<string, Tensor>, size: number, a: number): void {
  const vector = takesVectors(size);
  const count = vector ? size / LANES : size;
  device.dispatch(kernel, {
    bindings: Object.fromEntries(Object.entries(bindings).map(([name, tensor]) => [name, tensor.range()])),
    params: { count, a },
    constants: { vector },
    groups: blockGroups(device, kernel, count),
  });
}

function defineUnary(name: string, row: UnaryRow): Op<UnaryAttributes> {
  const forward = forwardKernel(name, row);
  const backward = backwardKernel(name, row);
  const uses = (letter: 'x' | 'y'): boolean => new RegExp(`\\b${letter}\\b`).test(row.derivative);
  return defineOp<UnaryAttributes>({
    name,
    shape([x]) {
      if (!x || !isComputable(x.dtype)) dtypeError(name, 'x', 'float32 or float16', x?.dtype ?? 'int32');
      return [x];
    },
    forward({ device, inputs: [x], outputs: [y], attributes }) {
      overAll(device, forward, { x_in: x!, y_out: y! }, x!.size, attributes.a);
    },
    saves: { inputs: uses('x') ? [0] : [], outputs: uses('y') ? [0] : [] },
    backward({ device, inputs: [x], outputs: [y], gradients: [g], attributes }) {
      const d = allocateTensor(device, x!);
      // One layout serves the table: what a row does not use is bound all the same, as the gradient.
      const bound = { x_in: uses('x') ? x! : g!, y_in: uses('y') ? y! : g! };
      overAll(device, backward, { ...bound, g_in: g!, d }, x!.size, attributes.a);
      return [d];
    },
    reference: {
      forward: ([x], { a }) => [
        hostTensor(
          x!.shape,
          x!.data.map((v) => row.value(v, a)),
        ),
      ],
      backward: ([x], { a }, [g]) => [
        hostTensor(
          x!.shape,
          x!.data.map((v, i) => g!.data[i]! * row.slope(v, row.value(v, a), a)),
        ),
      ],
    },
  });
}

/** The operations of the table, for tests and for those who extend it. */
export const unaryOps = Object.fromEntries(
  Object.entries(UNARY).map(([name, row]) => [name, defineUnary(name, row)]),
) as Record<UnaryName, Op<UnaryAttributes>>;

const run =
  (name: UnaryName) =>
  (x: Tensor): Tensor =>
    unaryOps[name].apply([x], { a: 0 })[0]!;

/** −x, elementwise; any float dtype, any shape. */
export const negate = run('negate');
/** eˣ, elementwise. */
export const exponential = run('exponential');
/** ln x, elementwise. */
export const logarithm = run('logarithm');
/** √x, elementwise. */
export const squareRoot = run('squareRoot');
/** x², elementwise. */
export const square = run('square');
/** |x|, elementwise; the gradient at 0 is 0. */
export const absolute = run('absolute');
/** 1/(1+e⁻ˣ), elementwise. */
export const sigmoid = run('sigmoid');
/** tanh x, elementwise. */
export const tanh = run('tanh');
/** max(x, 0), elementwise; the gradient at 0 is 0. */
export const relu = run('relu');
/** x·sigmoid(x), elementwise. */
export const silu = run('silu');
/** ln(1+eˣ), elementwise, in its stable form. */
export const softplus = run('softplus');
/** x·factor, elementwise, `factor` a plain number. */
export const scale = (x: Tensor, factor: number): Tensor => unaryOps.scale.apply([x], { a: factor })[0]!;
/** x + offset, elementwise, `offset` a plain number. */
export const shift = (x: Tensor, offset: number): Tensor => unaryOps.shift.apply([x], { a: offset })[0]!;
