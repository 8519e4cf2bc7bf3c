import { allocateTensor, defineOp } from '../../core/define-op.js';
import { assertDType, type DType, isComputable, isFloat } from '../../core/dtype.js';
import type { Tensor } from '../../core/tensor.js';
import { blockGroups } from '../../device/kernel.js';
import { CAST_LANES, CAST_QUADS, castKernel, elementsOfWord, nativeCastKernel } from './cast.wgsl.js';
import { castReference } from './reference.js';

/** Attributes of `cast`. */
export interface CastAttributes {
  readonly dtype: DType;
  /** dtype of the input, for the reference, whose tensors have none. */
  readonly from: DType;
}

/** Conversion between dtypes as an operation. */
export const castOp = defineOp<CastAttributes>({
  name: 'cast',
  shape: ([x], { dtype }) => [{ shape: x!.shape, dtype }],
  forward: ({ inputs: [x], outputs: [y] }) => castInto(x!, y!),
  saves: { inputs: [], outputs: [] },
  backward({ device, inputs: [x], gradients: [g] }) {
    if (!g || !isFloat(x!.dtype)) return [undefined];
    const d = allocateTensor(device, x!);
    castInto(g, d);
    return [d];
  },
  reference: {
    forward: ([x], { from, dtype }) => [castReference(x!, from, dtype)],
    backward: (_inputs, { from, dtype }, [g]) => [isFloat(from) && isFloat(dtype) ? g : undefined],
  },
});

function castInto(x: Tensor, y: Tensor): void {
  const { software, float16 } = y.device.info;
  if (!software && float16 && isComputable(x.dtype) && isComputable(y.dtype)) {
    castNatively(x, y);
    return;
  }
  const vector = y.size % CAST_LANES === 0;
  const words = Math.ceil(y.size / elementsOfWord(y.dtype));
  const constants = { from: x.dtype, to: y.dtype, vector };
  const items = vector ? y.size / CAST_LANES : words;
  const ofGroup = y.device.workgroupOf(castKernel, { constants }) * (vector ? CAST_QUADS : 1);
  y.device.dispatch(castKernel, {
    bindings: { x: { ...x.range(), dtype: 'uint32' }, y: { ...y.range(), dtype: 'uint32' } },
    params: { count: vector ? items : y.size, words },
    constants,
    groups: Math.ceil(items / ofGroup),
  });
}

function castNatively(x: Tensor, y: Tensor): void {
  const width = y.size % 4 === 0 ? 4 : 1;
  const count = y.size / width;
  y.device.dispatch(nativeCastKernel, {
    bindings: { x: x.range(), y: y.range() },
    params: { count },
    constants: { width },
    groups: blockGroups(y.device, nativeCastKernel, count),
  });
}

/**
 * Converts a tensor to another dtype. Works for every dtype on every adapter, also float16 where it can only be
 * stored, and bfloat16.
 *
 * Narrower floats round to nearest even and overflow to infinity; NaN stays NaN. Floats become integers by cutting
 * towards zero and clamping to the range; between `int32` and `uint32` the bits are kept. The gradient is cast back;
 * integers have none.
 *
 * @param x any shape and dtype
 * @returns a new tensor of x's shape; another handle on `x` itself where it has the dtype already
 * @throws ZebraError `dtype` for something that is no dtype
 */
export function cast(x: Tensor, dtype: DType): Tensor {
  assertDType('cast', dtype);
  if (x.dtype === dtype) return x.alias();
  return castOp.apply([x], { dtype, from: x.dtype })[0]!;
}
