import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { DType } from '../../core/dtype.js';
import { dtypeError, elementCount, sameShape, shapeError, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import { matmul } from '../matmul/matmul.js';
import { runGatedMatmul, runMatmul, runMatmulColumns } from '../matmul/run.js';
import { binaryOps } from '../pointwise/binary.js';
import { reshape } from '../reshape/index.js';
import { rmsNorm } from '../rms-norm/index.js';
import { assertComputable } from '../row/checks.js';
import { slice } from '../slice/index.js';
import { swigluOp } from '../swiglu/index.js';
import { launchProject, type ProjectCall, projects } from './launch.js';
import { projectReference } from './reference.js';

/** Attributes of {@link projectOp}. */
export interface ProjectAttributes {
  readonly start: number;
  readonly eps: number;
  readonly gated: boolean;
  readonly dtype: DType;
}

/** Options of {@link project}. */
export interface ProjectOptions {
  /** RMSNorm of x before the product: its weight [K], and ε. */
  readonly norm?: { readonly weight: Tensor; readonly eps: number };
  /** Added to the product, [..., N]. */
  readonly residual?: Tensor;
  /** The two weights are gate and up of a gated MLP: y = silu(x · gateᵀ) · (x · upᵀ). Default false. */
  readonly gated?: boolean;
  /** First of the K columns of x to use. Default 0. */
  readonly start?: number;
  /** dtype of the result. Default: float32 if x or the weights are, else float16. */
  readonly dtype?: DType;
}

/** {@link project} as an operation; inputs: x, up to three weights, the norm's weight, the residual. No gradient. */
export const projectOp = defineOp<ProjectAttributes>({
  name: 'project',
  shape: (inputs, attributes) => [outputOf(inputs, attributes)],
  forward({ inputs, outputs: [y], attributes }) {
    const [x, w0, w1, w2, norm, residual] = inputs;
    const weights = [w0, w1, w2].filter((weight) => weight !== undefined);
    const call: ProjectCall = {
      x: x!,
      weights,
      counts: weights.map((weight) => weight.shape[0]!),
      norm,
      residual,
      y: y!,
      rows: elementCount(x!.shape.slice(0, -1)),
      width: x!.shape.at(-1)!,
      size: w0!.shape[1]!,
      ...attributes,
    };
    if (projects(call)) launchProject(call);
    else compose(call);
  },
  reference: projectReference,
});

function outputOf(inputs: readonly (TensorSpec | undefined)[], attributes: ProjectAttributes): TensorSpec {
  const [x, w0, w1, w2, norm, residual] = inputs;
  const { start, gated, dtype } = attributes;
  for (const [name, input] of Object.entries({
    x,
    'weights[0]': w0,
    'weights[1]': w1,
    'weights[2]': w2,
    norm,
    residual,
  }))
    if (input) assertComputable('project', name, input);
  if (dtype !== 'float32' && dtype !== 'float16') dtypeError('project', 'dtype', 'float32 or float16', dtype);
  const size = w0!.shape[1] ?? 0;
  const width = x!.shape.at(-1) ?? 0;
  if (!Number.isSafeInteger(start) || start < 0 || start + size > width)
    shapeError('project', 'x', `[..., at least ${start} + ${size}] for weights of [N, ${size}]`, x!.shape);
  for (const [index, weight] of [w0, w1, w2].entries()) {
    if (weight && (weight.shape.length !== 2 || weight.shape[1] !== size))
      shapeError('project', `weights[${index}]`, `[N, ${size}]`, weight.shape);
    if (weight && weight.dtype !== w0!.dtype) dtypeError('project', `weights[${index}]`, w0!.dtype, weight.dtype);
  }
  if (gated && (!w1 || w2 || !sameShape(w0!.shape, w1.shape)))
    throw new ZebraError('argument', 'project: gated takes two weights of one shape, gate and up');
  if (norm && !sameShape(norm.shape, [size])) shapeError('project', 'norm.weight', `[${size}]`, norm.shape);
  const columns = gated ? w0!.shape[0]! : [w0, w1, w2].reduce((sum, weight) => sum + (weight?.shape[0] ?? 0), 0);
  const shape = [...x!.shape.slice(0, -1), columns];
  if (residual && !sameShape(residual.shape, shape)) shapeError('project', 'residual', `[${shape}]`, residual.shape);
  return { shape, dtype };
}

/**
 * The same from operations of their own, for adapters, shapes and numbers of rows that the kernel is not for. What comes
 * last writes into `y` itself.
 */
function compose({ x, weights, norm, residual, y, rows, width, start, size, eps, gated }: ProjectCall): void {
  const used = width === size ? x : slice(x, x.shape.length - 1, start, size);
  const first = weights[0]!;
  const normed = reshape(norm ? rmsNorm(used, norm, { eps, dtype: first.dtype }) : used, [rows, size]);
  if (weights.length === 1) {
    runMatmul('project', y, normed, first, { transposeB: true, residual });
    return;
  }
  const dtype = residual ? 'float32' : y.dtype;
  const target = residual ? allocateTensor(y.device, { shape: [rows, y.size / rows], dtype }) : y;
  const flat = target.view({ shape: [rows, y.size / rows], dtype });
  const call = { device: y.device, outputs: [flat] };
  if (gated) {
    if (!residual && runGatedMatmul(flat, normed, first, weights[1]!)) return;
    const parts = weights.map((weight) => matmul(normed, weight, { transposeB: true, dtype }));
    swigluOp.forward!({ ...call, inputs: parts, attributes: {} });
  } else {
    let start = 0;
    for (const weight of weights) {
      runMatmulColumns(flat, start, normed, weight);
      start += weight.shape[0]!;
    }
  }
  if (!residual) return;
  const whole = { inputs: [flat, reshape(residual, flat.shape)], outputs: [y], attributes: {} };
  binaryOps.add.forward!({ device: y.device, ...whole });
}

/**
 * The products that a decoding step is made of, x · [w0; w1; …]ᵀ, with what stands around them in a layer: RMSNorm
 * before, SwiGLU or a residual after. On a GPU, for up to 8 rows of x, it is one kernel that reads every weight once (but
 * for 5 to 8 rows of large float16 weights where there are matrix units); elsewhere it is composed of other operations.
 * Sums are float32. Not differentiable.
 *
 * @param x [..., ≥ start + K], float32 or float16
 * @param weights one to three, [N, K] each, of one dtype
 * @returns [..., ΣN] ([..., N] where gated), owned by the caller
 * @throws ZebraError `shape`, `dtype` or `argument` for what does not fit
 */
export function project(x: Tensor, weights: readonly Tensor[], options: ProjectOptions = {}): Tensor {
  const { norm, residual, gated = false, start = 0 } = options;
  const [w0, w1, w2] = weights;
  if (!w0 || weights.length > 3) throw new ZebraError('argument', 'project: takes one to three weights');
  const dtype = options.dtype ?? (x.dtype === 'float16' && w0.dtype === 'float16' ? 'float16' : 'float32');
  const attributes = { start, eps: norm?.eps ?? 0, gated, dtype };
  return projectOp.apply([x, w0, w1, w2, norm?.weight, residual], attributes)[0]!;
}
