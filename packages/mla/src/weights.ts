import { type Device, elementCount, fill, scope, type Tensor, tensor } from '@zebra/tensor';
import { type MlaConfig, mlaWeightSpecs } from './config.js';

/**
 * Fresh float32 weights of a layer that is to be trained from scratch: projections uniform in ±1/√(inputs), as
 * PyTorch's linear layers begin, norms 1.
 *
 * @param random numbers uniform in [0, 1), as `() => generator.uniform()` of a seeded `Random`
 * @returns the weights by name, [out, in] each; the caller owns them, before, during and after a layer uses them
 * @throws ZebraError `argument` on a wrong config
 */
export function createMlaWeights(device: Device, config: MlaConfig, random: () => number): Map<string, Tensor> {
  const specs = mlaWeightSpecs(config);
  return scope(() => {
    const weights = new Map<string, Tensor>();
    for (const [name, shape] of specs) {
      const inputs = shape[1];
      if (inputs === undefined) {
        weights.set(name, fill(device, shape, 1));
        continue;
      }
      const bound = 1 / Math.sqrt(inputs);
      const values = new Float32Array(elementCount(shape));
      for (let i = 0; i < values.length; i++) values[i] = (2 * random() - 1) * bound;
      weights.set(name, tensor(device, values, shape));
    }
    return weights;
  });
}
