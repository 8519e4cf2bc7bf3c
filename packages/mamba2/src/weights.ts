import { type Device, elementCount, fill, scope, type Tensor, tensor } from '@zebra/tensor';
import { type Mamba2Config, type Mamba2WeightName, mamba2Sizes, mamba2WeightSpecs } from './config.js';

const DT_MIN = 1e-3;
const DT_MAX = 0.1;
const DT_FLOOR = 1e-4;

/**
 * Fresh float32 weights of a layer that is to be trained from scratch, as the Mamba-2 authors begin (arXiv 2405.21060):
 * projections uniform in ±1/√(inputs), convolution in ±1/2, A uniform in [1, 16], D and the norm 1, and dt_bias such
 * that δ starts log-uniform in [0.001, 0.1].
 *
 * @param random uniform in [0, 1), for instance a seeded generator's
 * @returns the weights by name; the caller owns them, before, during and after a layer uses them
 * @throws ZebraError `argument` on a wrong config
 */
export function createMamba2Weights(
  device: Device,
  config: Mamba2Config,
  random: () => number,
): Map<Mamba2WeightName, Tensor> {
  const sizes = mamba2Sizes(config);
  const uniform = (bound: number) => () => (2 * random() - 1) * bound;
  const rules: Record<Mamba2WeightName, number | (() => number)> = {
    'in_proj.weight': uniform(1 / Math.sqrt(sizes.hiddenSize)),
    'conv1d.weight': uniform(1 / Math.sqrt(sizes.convKernel)),
    'conv1d.bias': uniform(1 / Math.sqrt(sizes.convKernel)),
    dt_bias: () => freshDtBias(random()),
    A_log: () => Math.log(1 + 15 * random()),
    D: 1,
    'norm.weight': 1,
    'out_proj.weight': uniform(1 / Math.sqrt(sizes.innerSize)),
  };
  return scope(() => {
    const weights = new Map<Mamba2WeightName, Tensor>();
    for (const [name, shape] of mamba2WeightSpecs(config)) {
      const rule = rules[name];
      if (typeof rule === 'number') weights.set(name, fill(device, shape, rule));
      else weights.set(name, tensor(device, Float32Array.from({ length: elementCount(shape) }, rule), shape));
    }
    return weights;
  });
}

/** softplus⁻¹ of a step size that is log-uniform in [0.001, 0.1], from a uniform number. */
function freshDtBias(u: number): number {
  const dt = Math.max(Math.exp(Math.log(DT_MIN) + u * (Math.log(DT_MAX) - Math.log(DT_MIN))), DT_FLOOR);
  return dt + Math.log(-Math.expm1(-dt));
}
