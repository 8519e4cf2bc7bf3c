import { allocateTensor, defineOp, type Op } from '../../core/define-op.js';
import { isComputable } from '../../core/dtype.js';
import { hostTensor } from '../../core/host.js';
import { dtypeError } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { defineKernel, type Kernel, linearMain } from '../../device/kernel.js';
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
    source: () => UNARY_HELPERS + linearMain('p.count', `  let x = f32(x_in[i]);\n  y_out[i] = y_out_t(${row.wgsl});`),
  });
}

function backwardKernel(name: string, row: UnaryRow): Kernel {
  return defineKernel({
    name: `unary_${name}_gradient`,
    bindings: { x_in: 'read', y_in: 'read', g: 'read', d: 'write' },
    params: { count: 'u32', a: 'f32' },
    // x and y are both bound for every row, so that one layout serves the table; unused loads are dropped by the compiler.
    source: () =>
      UNARY_HELPERS +
      linearMain(
        'p.count',
        `  let x = f32(x_in[i]);\n  let y = f32(y_in[i]);\n  d[i] = d_t(f32(g[i]) * (${row.derivative}));`,
      ),
  });
}

function defineUnary(name: string, row: UnaryRow): Op<UnaryAttributes> {
  const forward = forwardKernel(name, row);
  const backward = backwardKernel(name, row);
  return defineOp<UnaryAttributes>({
    name,
    shape([x]) {
      if (!x || !isComputable(x.dtype)) dtypeError(name, 'x', 'float32 or float16', x?.dtype ?? 'int32');
      return [x];
    },
    forward({ device, inputs: [x], outputs: [y], attributes }) {
      device.dispatch(forward, {
        bindings: { x_in: x!.range(), y_out: y!.range() },
        params: { count: x!.size, a: attributes.a },
        groups: Math.ceil(x!.size / device.workgroupOf(forward)),
      });
    },
    backward({ device, inputs: [x], outputs: [y], gradients: [g], attributes }) {
      const d = allocateTensor(device, x!);
      device.dispatch(backward, {
        bindings: { x_in: x!.range(), y_in: y!.range(), g: g!.range(), d: d.range() },
        params: { count: x!.size, a: attributes.a },
        groups: Math.ceil(x!.size / device.workgroupOf(backward)),
      });
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
