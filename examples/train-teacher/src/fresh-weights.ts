import { type Device, keep, Random, type Shape, type Tensor, tensor } from '@zebra/tensor';

/**
 * Fresh weights for a pre-norm Transformer: norms 1, biases 0, embeddings N(0, 0.05²), matrices N(0, 1/in), and those
 * that write to the residual stream smaller by √(2·layers), so that its variance does not grow with depth.
 */
export function freshWeights(
  device: Device,
  specs: ReadonlyMap<string, Shape>,
  layers: number,
  seed: number,
): Map<string, Tensor> {
  const random = new Random(seed);
  return new Map(
    [...specs].map(([name, shape]) => {
      const values = new Float32Array(shape.reduce((product, size) => product * size, 1));
      const scale = scaleOf(name, shape, layers);
      for (let i = 0; i < values.length; i++) values[i] = scale === undefined ? 1 : scale * random.normal();
      return [name, keep(tensor(device, values, shape))];
    }),
  );
}

/** Standard deviation of a parameter, or undefined for one that starts as ones. */
function scaleOf(name: string, shape: Shape, layers: number): number | undefined {
  if (name.endsWith('norm.weight') || name.includes('layernorm')) return undefined;
  if (name.endsWith('.bias')) return 0;
  if (name.includes('embed_tokens') || name.includes('lm_head')) return 0.05;
  const base = 1 / Math.sqrt(shape[1] as number);
  return name.endsWith('o_proj.weight') || name.endsWith('down_proj.weight') ? base / Math.sqrt(2 * layers) : base;
}
