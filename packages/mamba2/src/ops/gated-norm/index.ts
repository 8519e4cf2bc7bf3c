import { allocateTensor, defineOp, type Tensor, ZebraError } from '@zebra/tensor';
import { columns, expectArgument } from '../../rows.js';
import { launchGatedNorm, launchGatedNormGradient } from './launch.js';
import { gatedNormReference, gatedNormReferenceBackward } from './reference.js';

const NAME = 'gatedNorm';

/** Attributes of {@link gatedNormOp}. */
export interface GatedNormAttributes {
  /** Channels that are normalised together. */
  readonly groupSize: number;
  /** Added to the mean square. */
  readonly epsilon: number;
}

/** The operation; inputs: y, z, weight. */
export const gatedNormOp = defineOp<GatedNormAttributes>({
  name: NAME,
  shape([y, z, weight], { groupSize }) {
    if (y!.shape.length !== 3)
      throw new ZebraError('shape', `${NAME}: y must be [B, T, C], got [${y!.shape.join(', ')}]`);
    expectArgument(NAME, 'y', y, y!.shape);
    expectArgument(NAME, 'z', z, y!.shape);
    expectArgument(NAME, 'weight', weight, [y!.shape[2]!]);
    if (!(Number.isSafeInteger(groupSize) && groupSize > 0 && y!.shape[2]! % groupSize === 0)) {
      throw new ZebraError('argument', `${NAME}: groupSize must divide the ${y!.shape[2]} channels, got ${groupSize}`);
    }
    return [y!];
  },
  forward: ({ device, inputs: [y, z, weight], outputs: [out], attributes }) =>
    launchGatedNorm(device, { y: y!, z: columns(z!), weight: weight!, ...attributes }, out!),
  backward({ device, inputs: [y, z, weight], gradients: [g], attributes }) {
    const dy = allocateTensor(device, y!);
    const dz = allocateTensor(device, z!);
    const operands = { y: y!, z: columns(z!), weight: weight!, ...attributes };
    return [dy, dz, launchGatedNormGradient(device, operands, g!, dy, columns(dz))];
  },
  reference: {
    forward: ([y, z, weight], { groupSize, epsilon }) => [gatedNormReference(y!, z!, weight!, groupSize, epsilon)],
    backward: ([y, z, weight], { groupSize, epsilon }, [g]) =>
      gatedNormReferenceBackward(y!, z!, weight!, g!, groupSize, epsilon),
  },
});

/** Options of {@link gatedNorm}. */
export interface GatedNormOptions {
  /** Channels that are normalised together: the head size. */
  readonly groupSize: number;
  /** Added to the mean square. Default 1e-5. */
  readonly epsilon?: number;
}

/**
 * RMSNorm of y·silu(z) over each group of channels, times weight (the gate comes before the norm). Differentiable in
 * all three.
 *
 * @param y [B, T, C] float
 * @param z [B, T, C], the gate
 * @param weight [C]
 * @throws ZebraError `shape`, `dtype` or `argument` that names the argument
 */
export function gatedNorm(y: Tensor, z: Tensor, weight: Tensor, options: GatedNormOptions): Tensor {
  return gatedNormOp.apply([y, z, weight], { groupSize: options.groupSize, epsilon: options.epsilon ?? 1e-5 })[0]!;
}
