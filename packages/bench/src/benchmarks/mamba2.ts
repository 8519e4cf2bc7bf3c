import { createMamba2Weights, type Mamba2Config, Mamba2Layer, mamba2Sizes } from '@zebra/mamba2';
import { type Device, keep, Random, sum, valueAndGradients } from '@zebra/tensor';
import type { Benchmark, Case, Work } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { randomTensor } from './inputs.js';

interface Sizes {
  readonly batch: number;
  readonly length: number;
  readonly config: Mamba2Config;
}

/**
 * Two projections, the convolution, and the recurrence in its plainest form, which needs least: five operations an
 * entry of the state and token (decay, outer product and their sum; product with C and its sum).
 */
function workOf({ batch, length, config }: Sizes, backward: boolean): Work {
  const { hiddenSize, innerSize, projectionSize, convSize, convKernel, headCount, headDim } = mamba2Sizes(config);
  const weights = hiddenSize * (projectionSize + innerSize);
  const perToken = 2 * weights + 2 * convSize * convKernel + 5 * headCount * headDim * headDim;
  const bytes = 4 * (weights + 2 * batch * length * hiddenSize);
  // Every product has two gradients of its own cost; inputs and outputs, and the gradients of both.
  return {
    flops: batch * length * perToken * (backward ? 3 : 1),
    bytes: bytes * (backward ? 2 : 1),
    tokens: batch * length,
  };
}

function prepare(device: Device, { batch, length, config }: Sizes, backward: boolean) {
  const random = new Random(1);
  const weights = createMamba2Weights(device, config, () => random.uniform());
  for (const weight of weights.values()) keep(weight);
  const layer = new Mamba2Layer(config, weights);
  const x = randomTensor(device, [batch, length, config.hiddenSize]);
  const inputs = [x, ...weights.values()];
  return recorded(device, inputs, () => {
    if (!backward) return [layer.forward(x)];
    const { value, gradients } = valueAndGradients(() => sum(layer.forward(x)), inputs);
    return [value, ...gradients];
  });
}

export const mamba2Benchmark: Benchmark = {
  name: 'mamba2',
  cases({ large }) {
    const sizes: Sizes = large
      ? {
          batch: 8,
          length: 2048,
          config: { hiddenSize: 2048, headCount: 32, keyValueHeadCount: 8, headDim: 64 },
        }
      : { batch: 4, length: 256, config: { hiddenSize: 64, headCount: 4, keyValueHeadCount: 2, headDim: 16 } };
    const { batch, length, config } = sizes;
    const shape = `B${batch} T${length} D${config.hiddenSize} H${config.headCount}/${config.keyValueHeadCount} d${config.headDim} float32`;
    return [false, true].map(
      (backward): Case => ({
        shape: `${backward ? '+backward' : 'forward'} ${shape}`,
        work: workOf(sizes, backward),
        prepare: (device) => prepare(device, sizes, backward),
      }),
    );
  },
};
