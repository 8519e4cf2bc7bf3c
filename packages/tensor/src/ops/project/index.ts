import { allocateTensor, defineOp, type OpInputs } from '../../core/define-op.js';
import { BYTES, type DType } from '../../core/dtype.js';
import { dtypeError, elementCount, sameShape, shapeError, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { BoundRange } from '../../device/device.js';
import { ZebraError } from '../../errors.js';
import { cast } from '../cast/index.js';
import { concat } from '../concat/index.js';
import { matmul } from '../matmul/matmul.js';
import { add } from '../pointwise/index.js';
import { reshape } from '../reshape/index.js';
import { rmsNorm } from '../rms-norm/index.js';
import { assertComputable } from '../row/checks.js';
import { slice } from '../slice/index.js';
import { swiglu } from '../swiglu/index.js';
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
    else compose(inputs, y!, attributes);
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

/** The same from operations of its own each, for adapters, shapes and numbers of rows that the kernel is not for. */
function compose(inputs: OpInputs, y: Tensor, { start, eps, gated, dtype }: ProjectAttributes): void {
  const [x, w0, w1, w2, norm, residual] = inputs;
  const size = w0!.shape[1]!;
  const used = x!.shape.at(-1) === size ? x! : slice(x!, x!.shape.length - 1, start, size);
  const normed = norm ? rmsNorm(used, norm, { eps, dtype: w0!.dtype }) : used;
  const rows = reshape(normed, [elementCount(x!.shape.slice(0, -1)), size]);
  const inner = gated || residual ? (gated && dtype === 'float16' ? dtype : 'float32') : dtype;
  const parts = [w0, w1, w2].flatMap((weight) =>
    weight ? [matmul(rows, weight, { transposeB: true, dtype: inner })] : [],
  );
  const joined = gated ? swiglu(parts[0]!, parts[1]!) : parts.length > 1 ? concat(parts, 1) : parts[0]!;
  const added = residual ? add(joined, reshape(residual, joined.shape)) : joined;
  const made = cast(added, dtype);
  const bytes = elementCount(y.shape) * BYTES[dtype];
  const whole = (range: BoundRange) => ({ ...range, size: Math.ceil(bytes / 4) * 4 });
  y.device.copy(whole(made.range()), whole(y.range()));
}

/**
 * The products that a decoding step is made of, x · [w0; w1; …]ᵀ, with what stands around them in a layer: RMSNorm
 * before, SwiGLU or a residual after. On a GPU, for up to 8 rows of x, it is one kernel that reads every weight once;
 * elsewhere it is composed of other operations. Sums are float32. Not differentiable.
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
