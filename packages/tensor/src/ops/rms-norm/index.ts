import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { DType } from '../../core/dtype.js';
import { shapeError, showShape } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { reduceInto } from '../reduce/reduce-kernel.js';
import { assertComputable } from '../row/checks.js';
import { heldUnits, planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import { rmsNormReference } from './reference.js';
import { bothGradientsKernel, forwardKernel, inputGradientKernel, weightGradientKernel } from './rms-norm.wgsl.js';

/** Options of {@link rmsNorm}. */
export interface RmsNormOptions {
  /** Added to the mean square. Default 1e-6 (Qwen; Llama checkpoints say 1e-5). */
  readonly eps?: number;
  /** dtype of the result. Default: that of `x`. */
  readonly dtype?: DType;
}

/** Attributes of {@link rmsNormOp}. */
export interface RmsNormAttributes {
  readonly eps: number;
  readonly dtype?: DType | undefined;
}

// Rows that one invocation adds up for the gradient of the weight, at least, and invocations worth starting.
const LEAST_BLOCK = 32;
const ENOUGH_INVOCATIONS = 131_072;

/** Lanes of a row, and units a lane, for which both gradients come from one kernel; two rows are in registers then. */
const WORKGROUP_LANES = 256;
const MOST_HELD = 4;

/** Workgroups that both gradients are cut into: enough to fill a GPU, few enough for their sums to cost little. */
const BLOCKS = 1024;

/** Root-mean-square normalisation as an operation; its second output is each row's factor, for the gradient. */
export const rmsNormOp = defineOp<RmsNormAttributes>({
  name: 'rmsNorm',
  shape([x, weight], { dtype }) {
    assertComputable('rmsNorm', 'x', x!);
    const columns = x!.shape[x!.shape.length - 1]!;
    if (weight) {
      assertComputable('rmsNorm', 'weight', weight);
      if (weight.shape.length !== 1 || weight.shape[0] !== columns) {
        shapeError('rmsNorm', 'weight', `[${columns}] for x ${showShape(x!.shape)}`, weight.shape);
      }
    }
    const y = { shape: x!.shape, dtype: dtype ?? x!.dtype };
    assertComputable('rmsNorm', 'options.dtype', y);
    return [y, { shape: [x!.shape.slice(0, -1).reduce((a, b) => a * b, 1)], dtype: 'float32' }];
  },
  forward({ device, inputs: [x, weight], outputs: [y, r], attributes: { eps } }) {
    const columns = x!.shape[x!.shape.length - 1]!;
    const plan = planRows(device, columns, { rows: r!.size });
    device.dispatch(forwardKernel, {
      bindings: { x: x!.range(), weight: weight?.range(), y: y!.range(), r: r!.range() },
      params: { rows: r!.size, units: plan.units, inverse_columns: 1 / columns, eps },
      constants: { ...plan.constants, held: heldUnits(device, plan) },
      groups: rowGroups(device, forwardKernel, r!.size, plan),
    });
  },
  saves: { outputs: [1] },
  backward({ device, inputs: [x, weight], outputs: [, r], gradients: [g], needs }) {
    const columns = x!.shape[x!.shape.length - 1]!;
    const rows = r!.size;
    const plan = planRows(device, columns, { rows });
    const held = heldUnits(device, plan);
    if (weight && needs[0] && needs[1] && held > 0 && held <= MOST_HELD && plan.constants.lanes === WORKGROUP_LANES) {
      return bothGradients({ x: x!, weight, r: r!, g: g! }, plan.units, { width: plan.constants.width, held });
    }
    let dx: Tensor | undefined;
    if (needs[0]) {
      dx = allocateTensor(device, x!);
      device.dispatch(inputGradientKernel, {
        bindings: { g: g!.range(), x: x!.range(), weight: weight?.range(), r: r!.range(), d: dx.range() },
        params: { rows, units: plan.units, inverse_columns: 1 / columns },
        constants: plan.constants,
        groups: rowGroups(device, inputGradientKernel, rows, plan),
      });
    }
    return [dx, weight && needs[1] ? weightGradient(x!, weight, r!, g!) : undefined];
  },
  reference: rmsNormReference,
});

interface GradientTensors {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly r: Tensor;
  readonly g: Tensor;
}

/** Both gradients, reading x and g once. */
function bothGradients(
  { x, weight, r, g }: GradientTensors,
  units: number,
  constants: { readonly width: number; readonly held: number },
): [Tensor, Tensor] {
  const { device } = x;
  const rows = r.size;
  const block = Math.ceil(rows / BLOCKS);
  const blocks = Math.ceil(rows / block);
  const dx = allocateTensor(device, x);
  const sums = allocateTensor(device, { shape: [blocks, weight.size], dtype: 'float32' });
  device.dispatch(bothGradientsKernel, {
    bindings: {
      g: g.range(),
      x: x.range(),
      weight: weight.range(),
      r: r.range(),
      d: dx.range(),
      sums: sums.range(),
    },
    params: { rows, units, inverse_columns: 1 / weight.size, block },
    constants: { ...constants, lanes: WORKGROUP_LANES },
    groups: blocks,
  });
  const dWeight = allocateTensor(device, weight);
  reduceInto(sums, dWeight, 1, blocks, weight.size, 'sum');
  return [dx, dWeight];
}

/** Blocks of rows are summed by one kernel and the blocks by another, always in the same order. */
function weightGradient(x: Tensor, weight: Tensor, r: Tensor, g: Tensor): Tensor {
  const { device } = x;
  const rows = r.size;
  const { units, constants } = planRows(device, weight.size);
  const block = Math.max(LEAST_BLOCK, Math.ceil((rows * units) / ENOUGH_INVOCATIONS));
  const blocks = Math.ceil(rows / block);
  const sums = allocateTensor(device, { shape: [blocks, weight.size], dtype: 'float32' });
  const count = blocks * units;
  device.dispatch(weightGradientKernel, {
    bindings: { g: g.range(), x: x.range(), r: r.range(), sums: sums.range() },
    params: { count, rows, units, block },
    constants: { width: constants.width },
    groups: Math.ceil(count / device.workgroupOf(weightGradientKernel)),
  });
  const gradient = allocateTensor(device, weight);
  reduceInto(sums, gradient, 1, blocks, weight.size, 'sum');
  return gradient;
}

/**
 * Root-mean-square normalisation over the last dimension, y = x / sqrt(mean(x²) + eps) · weight, as Llama and Qwen
 * use it. Computed in float32 whatever the dtypes. Formula: Zhang and Sennrich, "Root Mean Square Layer
 * Normalization" (2019).
 *
 * @param x [..., D], float32 or float16
 * @param weight [D], float32 or float16; undefined for none. Gradients reach both; the weight's is deterministic.
 * @returns [..., D], of the dtype of `x` unless `options.dtype` says otherwise; the caller owns it
 * @throws ZebraError `shape` or `dtype` when the inputs do not fit
 */
export function rmsNorm(x: Tensor, weight?: Tensor, options: RmsNormOptions = {}): Tensor {
  const [y, r] = rmsNormOp.apply([x, weight], { eps: options.eps ?? 1e-6, dtype: options.dtype });
  r!.dispose();
  return y!;
}
