import { allocateTensor, defineOp, type Kernel, type Tensor, type TensorSpec } from '@zebra/tensor';
import { assertActivation, assertLeading, shapeError } from '../../shapes.js';
import { vectorWidth } from '../vectors.js';
import { joinKeysKernel, ropeGradientKernel, upGradientKernel } from './join-keys.wgsl.js';
import { backward, forward } from './reference.js';

/** Attributes of {@link joinKeysOp}. */
export interface JoinKeysAttributes {
  /** Elements of a head's key without position; the rest of its row in `kv` is the value. */
  readonly nopeSize: number;
}

/** {@link joinKeys} as an operation; its outputs are k and v. */
export const joinKeysOp = defineOp<JoinKeysAttributes>({
  name: 'joinKeys',
  shape([kv, rope], { nopeSize }) {
    assertActivation('joinKeys', 'kv', kv!, ['B', 'T', 'heads', 'nope + value']);
    assertActivation('joinKeys', 'rope', rope!, ['B', 'T', 'rope']);
    const [batch, tokens, heads, size] = kv!.shape as [number, number, number, number];
    if (!Number.isSafeInteger(nopeSize) || nopeSize < 1 || nopeSize >= size) {
      shapeError('joinKeys', 'nopeSize', `an integer from 1 to ${size - 1}`, String(nopeSize));
    }
    assertLeading('joinKeys', 'rope', rope!.shape, [batch, tokens], ['rope']);
    const dtype = kv!.dtype;
    return [
      { shape: [batch, tokens, heads, nopeSize + rope!.shape[2]!], dtype },
      { shape: [batch, tokens, heads, size - nopeSize], dtype },
    ];
  },
  forward({ inputs: [kv, rope], outputs: [k, v], attributes: { nopeSize } }) {
    launch(joinKeysKernel, kv!, rope!, nopeSize, { kv, rope, k, v }, k!.size + v!.size);
  },
  saves: { inputs: [], outputs: [] },
  backward({ device, inputs: [kv, rope], gradients: [gk, gv], attributes: { nopeSize }, needs }) {
    const dkv = needs[0] ? allocateTensor(device, kv!) : undefined;
    // The rotary key has no part in v.
    const drope = needs[1] && gk ? allocateTensor(device, rope!) : undefined;
    if (dkv) launch(upGradientKernel, kv!, rope!, nopeSize, { gk, gv, d: dkv }, dkv.size);
    if (drope) launch(ropeGradientKernel, kv!, rope!, nopeSize, { gk, d: drope }, drope.size);
    return [dkv, drope];
  },
  reference: { forward, backward },
});

function launch(
  kernel: Kernel,
  kv: TensorSpec,
  rope: TensorSpec,
  nopeSize: number,
  tensors: Readonly<Record<string, Tensor | undefined>>,
  elements: number,
): void {
  const [, , heads, size] = kv.shape as [number, number, number, number];
  const ropeSize = rope.shape[2]!;
  const width = vectorWidth(nopeSize, ropeSize, size - nopeSize);
  const count = elements / width;
  const { device } = (tensors['k'] ?? tensors['d'])!;
  device.dispatch(kernel, {
    bindings: Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tensor?.range()])),
    params: { count, heads, nope: nopeSize / width, rope: ropeSize / width, value: (size - nopeSize) / width },
    constants: { width },
    groups: Math.ceil(count / device.workgroupOf(kernel)),
  });
}

/**
 * Makes whole keys and values from the output of `kv_b_proj` and the rotary key that all heads share (DeepSeek-V2,
 * arXiv 2405.04434, equations 9 to 19): k of a head is its part without position, then the rotary key.
 *
 * @param kv [B, T, n, nope + value], float32 or float16
 * @param rope [B, T, rope], rotated already
 * @param nopeSize elements of the part without position
 * @returns k [B, T, n, nope + rope] and v [B, T, n, value] of kv's dtype, owned by the caller. Gradients reach both
 *   inputs; that of `rope` sums over the heads, in float32 and in order
 * @throws ZebraError `shape` or `dtype` where the inputs do not fit
 */
export function joinKeys(kv: Tensor, rope: Tensor, nopeSize: number): [k: Tensor, v: Tensor] {
  return joinKeysOp.apply([kv, rope], { nopeSize }) as [Tensor, Tensor];
}
