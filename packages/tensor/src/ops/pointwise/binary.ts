import { allocateTensor, defineOp, type Op } from '../../core/define-op.js';
import { isComputable } from '../../core/dtype.js';
import { type HostTensor, hostTensor } from '../../core/host.js';
import { dtypeError, type Shape, shapeError, showShape, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { blockGroups, defineKernel, type Kernel, linearMain, wideWorkgroup } from '../../device/kernel.js';
import { cast } from '../cast/index.js';
import { sumTo, sumToReference } from '../reduce/sum-to.js';
import { BINARY, type BinaryName, type BinaryRow } from './binary-table.js';
import { type BroadcastPlan, MAX_DIMENSIONS, planBroadcast } from './broadcast.js';
import { LANES, pointwiseMain, takesVectors, vectorsWhere } from './lanes.wgsl.js';
import { scale, shift } from './unary.js';

const INDICES = Array.from({ length: MAX_DIMENSIONS }, (_, d) => d);
const STRIDE_PARAMS = Object.fromEntries(
  INDICES.flatMap((d) => [`n${d}`, `sa${d}`, `sb${d}`].map((name) => [name, 'u32'])),
);

/** WGSL that turns the output index `i` into the operands' indices `ia` and `ib`. */
const OPERAND_INDICES = `
  var rest = i; var ia = 0u; var ib = 0u;
${[...INDICES]
  .reverse()
  .map((d) => `  { let c = rest % p.n${d}; rest /= p.n${d}; ia += c * p.sa${d}; ib += c * p.sb${d}; }`)
  .join('\n')}`;

function kernelOf(name: string, expression: string, withGradient: boolean): Kernel {
  const g: Record<string, 'read'> = withGradient ? { g_in: 'read' } : {};
  const factor = withGradient ? 'g * ' : '';
  const names = ['a_in', 'b_in', ...Object.keys(g), 'y'];
  return defineKernel({
    name: `binary_${name}`,
    bindings: { a_in: 'read', b_in: 'read', ...g, y: 'write' },
    params: { count: 'u32', ...(STRIDE_PARAMS as Record<string, 'u32'>) },
    vectors: vectorsWhere(names),
    itemwise: ({ same }) => (same ? names : []),
    workgroup: wideWorkgroup,
    source: (variant) => {
      const value = `${factor}(${expression})`;
      if (variant.constants['same']) {
        const inputs = { a: 'a_in', b: 'b_in', ...(withGradient && { g: 'g_in' }) };
        return pointwiseMain(variant, inputs, 'y', value);
      }
      const gradient = withGradient ? '\n  let g = f32(g_in[i]);' : '';
      return linearMain(
        'p.count',
        `${OPERAND_INDICES}\n  let a = f32(a_in[ia]);\n  let b = f32(b_in[ib]);${gradient}\n  y[i] = y_t(${value});`,
      );
    },
  });
}

function run(kernel: Kernel, plan: BroadcastPlan, a: Tensor, b: Tensor, y: Tensor, g?: Tensor): void {
  const same = a.size === y.size && b.size === y.size;
  const vector = same && takesVectors(y.size);
  const count = vector ? y.size / LANES : y.size;
  const params: Record<string, number> = { count };
  for (const d of INDICES) {
    params[`n${d}`] = plan.sizes[d]!;
    params[`sa${d}`] = plan.strides[0]![d]!;
    params[`sb${d}`] = plan.strides[1]![d]!;
  }
  y.device.dispatch(kernel, {
    bindings: { a_in: a.range(), b_in: b.range(), y: y.range(), ...(g && { g_in: g.range() }) },
    params,
    constants: { same, vector },
    groups: same ? blockGroups(y.device, kernel, count) : Math.ceil(count / y.device.workgroupOf(kernel)),
  });
}

function plan(name: string, a: Shape, b: Shape): BroadcastPlan {
  return planBroadcast([a, b]) ?? shapeError(name, 'b', `broadcastable with ${showShape(a)}`, b);
}

function defineBinary(name: string, row: BinaryRow): Op<Record<never, never>> {
  const forward = kernelOf(name, row.wgsl, false);
  const gradients = row.derivatives.map((text, k) => kernelOf(`${name}_gradient_${k}`, text, true));
  return defineOp<Record<never, never>>({
    name,
    shape([a, b]) {
      if (!isComputable(a!.dtype)) dtypeError(name, 'a', 'float32 or float16', a!.dtype);
      if (!isComputable(b!.dtype)) dtypeError(name, 'b', 'float32 or float16', b!.dtype);
      // float32 wins: a float16 operand never lowers the precision of the other.
      const dtype = a!.dtype === b!.dtype ? a!.dtype : 'float32';
      return [{ shape: plan(name, a!.shape, b!.shape).shape, dtype }];
    },
    forward({ inputs: [a, b], outputs: [y] }) {
      run(forward, plan(name, a!.shape, b!.shape), a!, b!, y!);
    },
    saves: { inputs: row.derivatives.every(isConstant) ? [] : [0, 1], outputs: [] },
    backward({ device, inputs: [a, b], gradients: [g], needs }) {
      if (row.derivatives.every(isConstant)) {
        return [a!, b!].map((operand, k) =>
          needs[k] ? constantGradient(g!, Number(row.derivatives[k]), operand) : undefined,
        );
      }
      const broadcast = plan(name, a!.shape, b!.shape);
      return [a!, b!].map((operand, k) => {
        if (!needs[k]) return undefined;
        const full = allocateTensor(device, { shape: broadcast.shape, dtype: operand.dtype });
        run(gradients[k]!, broadcast, a!, b!, full, g!);
        return sumTo(full, operand.shape);
      });
    },
    reference: {
      forward: ([a, b]) => [zip(name, a!, b!, row.value)],
      backward: ([a, b], _attributes, [g]) =>
        [a!, b!].map((operand, k) => {
          const slopes = zip(name, a!, b!, row.slopes[k]!);
          const full = hostTensor(
            slopes.shape,
            slopes.data.map((slope, i) => slope * g!.data[i]!),
          );
          return sumToReference(full, operand.shape);
        }),
    },
  });
}

const isConstant = (derivative: string): boolean => Number.isFinite(Number(derivative));

/** The gradient of an operand whose derivative is the same everywhere: no operand is read. */
function constantGradient(g: Tensor, derivative: number, operand: TensorSpec): Tensor {
  const summed = sumTo(derivative === 1 ? g : scale(g, derivative), operand.shape);
  return summed.dtype === operand.dtype ? summed : cast(summed, operand.dtype);
}

function zip(name: string, a: HostTensor, b: HostTensor, f: (a: number, b: number) => number): HostTensor {
  const { shape, sizes, strides } = plan(name, a.shape, b.shape);
  const out = hostTensor(shape);
  for (let i = 0; i < out.data.length; i++) {
    let rest = i;
    const at = [0, 0];
    for (let d = MAX_DIMENSIONS - 1; d >= 0; d--) {
      const c = rest % sizes[d]!;
      rest = Math.floor(rest / sizes[d]!);
      at[0]! += c * strides[0]![d]!;
      at[1]! += c * strides[1]![d]!;
    }
    out.data[i] = f(a.data[at[0]!]!, b.data[at[1]!]!);
  }
  return out;
}

/** The operations of the table, for tests and for those who extend it. */
export const binaryOps = Object.fromEntries(
  Object.entries(BINARY).map(([name, row]) => [name, defineBinary(name, row)]),
) as Record<BinaryName, Op<Record<never, never>>>;

const apply = (name: BinaryName, a: Tensor, b: Tensor): Tensor => binaryOps[name].apply([a, b], {})[0]!;

/** a + b with NumPy's broadcasting; `b` may be a plain number. float16 with float32 gives float32. */
export const add = (a: Tensor, b: Tensor | number): Tensor =>
  typeof b === 'number' ? shift(a, b) : apply('add', a, b);
/** a − b with broadcasting; `b` may be a plain number. */
export const subtract = (a: Tensor, b: Tensor | number): Tensor =>
  typeof b === 'number' ? shift(a, -b) : apply('subtract', a, b);
/** a · b elementwise with broadcasting; `b` may be a plain number. */
export const multiply = (a: Tensor, b: Tensor | number): Tensor =>
  typeof b === 'number' ? scale(a, b) : apply('multiply', a, b);
/** a / b elementwise with broadcasting; `b` may be a plain number. */
export const divide = (a: Tensor, b: Tensor | number): Tensor =>
  typeof b === 'number' ? scale(a, 1 / b) : apply('divide', a, b);
/** max(a, b) elementwise with broadcasting; at a tie the gradient goes to `a`. */
export const maximum = (a: Tensor, b: Tensor): Tensor => apply('maximum', a, b);
/** min(a, b) elementwise with broadcasting; at a tie the gradient goes to `a`. */
export const minimum = (a: Tensor, b: Tensor): Tensor => apply('minimum', a, b);
