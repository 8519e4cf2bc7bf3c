import type { HybridModel } from '@zebra/runtime';
import { scope } from '@zebra/tensor';
import type { LayerObservation } from '@zebra/tensor/nn';
import type { LayerInputs } from './folding.js';
import type { TokenBatches } from './teacher.js';

/** What the attention of each layer of a model is fed with on some batches, which are freed. */
export async function layerInputs(model: HybridModel, batches: TokenBatches): Promise<LayerInputs[]> {
  const { layerCount, hiddenSize: width, normEpsilon } = model.spec.config;
  const parameters = model.namedParameters();
  const norms = await Promise.all(
    Array.from({ length: layerCount }, (_, i) => parameters.get(`model.layers.${i}.input_layernorm.weight`)!.read()),
  );
  const parts: Float64Array[][] = norms.map(() => []);
  for (const batch of batches) {
    const seen: LayerObservation['input'][] = [];
    const inputs = scope(() => {
      const { positions, segments } = batch;
      model.forward(batch.ids, { positions, segments, observe: (_, { input }) => seen.push(input) });
      return seen;
    });
    for (const [layer, input] of inputs.entries()) {
      parts[layer]!.push(normed((await input.read()) as Float32Array, norms[layer] as Float32Array, normEpsilon));
      input.dispose();
    }
    for (const owned of Object.values(batch)) owned.dispose();
  }
  return parts.map((list, layer) => {
    const data = Float64Array.from(list.flatMap((part) => [...part]));
    return { tokens: data.length / width, width, data, norm: norms[layer] as Float32Array };
  });
}

function normed(values: Float32Array, weight: Float32Array, epsilon: number): Float64Array {
  const width = weight.length;
  const result = new Float64Array(values.length);
  for (let start = 0; start < values.length; start += width) {
    let squares = 0;
    for (let i = 0; i < width; i++) squares += values[start + i]! ** 2;
    const scale = 1 / Math.sqrt(squares / width + epsilon);
    for (let i = 0; i < width; i++) result[start + i] = values[start + i]! * scale * weight[i]!;
  }
  return result;
}
