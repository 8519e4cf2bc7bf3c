import { concat, scope, type Tensor, tensor } from '@zebra/tensor';
import {
  type AttentionTensors,
  copyOf,
  deviceOf,
  disposeLinear,
  linearAttentionTensors,
  toHost,
} from './attention-tensors.js';
import type { HostTensor } from './host-tensor.js';
import type { InitWarning } from './init-error.js';
import {
  asMamba2Takes,
  drawMamba2,
  foldBiases,
  type Mamba2FromAttentionOptions,
  withFolded,
} from './mamba2-from-attention.js';

/**
 * As `mamba2WeightsFromAttention`, to the bit (but for folded norms, to rounding): only what is drawn, and the biases,
 * pass through the host.
 */
export async function mamba2TensorsFromAttention(
  attention: AttentionTensors,
  options: Mamba2FromAttentionOptions,
): Promise<{ readonly weights: Map<string, Tensor>; readonly warnings: readonly InitWarning[] }> {
  const operation = 'initialiseMamba2';
  const device = deviceOf(attention);
  const linear = await linearAttentionTensors(operation, attention, asMamba2Takes(options));
  try {
    const { gate, step, tensors } = drawMamba2(operation, options);
    const biases = new Map([...attention].filter(([name]) => name.endsWith('.bias')));
    const folded = options.biases === 'fold' ? foldBiases(tensors, await toHost(biases), options) : [];
    const upload = ({ data, shape }: HostTensor) => tensor(device, Float32Array.from(data), shape);
    const weights = scope(() => {
      const { query, key, value, output } = linear;
      return new Map([
        ['in_proj.weight', concat([upload(gate), value, key, query, upload(step)], 0)],
        ...Object.entries(tensors).map(([name, fresh]) => [name, upload(fresh)] as const),
        ['out_proj.weight', copyOf(output)],
      ]);
    });
    return { weights, warnings: withFolded(linear.warnings, folded) };
  } finally {
    disposeLinear(linear);
  }
}
