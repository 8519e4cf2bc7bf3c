import { Mamba2Layer } from '@zebra/mamba2';
import { MlaLayer } from '@zebra/mla';
import { type Device, multiply, scope, sum, type Tensor, tensor, valueAndGradients } from '@zebra/tensor';
import type { Mixer, SequenceContext } from '@zebra/tensor/nn';
import type { ParityDType } from './find-cases.js';
import { Golden } from './golden.js';
import { readLayerConfig } from './layer-config.js';
import { compared, type ParityRow, TOLERANCE, worst } from './row.js';

/** A single MLA or Mamba2 layer: output, gradients, far positions, states and steps. */
export async function checkLayer(
  device: Device,
  name: string,
  folder: string,
  dtype: ParityDType = 'float32',
): Promise<ParityRow[]> {
  const golden = await Golden.read(folder, 'golden.safetensors');
  const stored = await Golden.read(folder, 'weights.safetensors');
  const spec = await readLayerConfig(folder);
  const weights = new Map(stored.names.map((key) => [key, weightOf(device, stored, key, dtype)]));
  const mixer: Mixer & { dispose?(): void } = stored.has('A_log')
    ? new Mamba2Layer(spec.mamba2(), weights)
    : new MlaLayer(spec.mla(0), weights);
  const rows =
    dtype === 'float16'
      ? [await halfPrecision(device, name, golden, mixer)]
      : await forwardAndGradients(device, name, golden, mixer, weights);
  if (golden.has('y_positions_9000')) rows.push(await atFarPositions(device, name, golden, mixer, dtype));
  if (golden.has('y_float64') && dtype === 'float32') {
    using x = golden.tensor(device, 'x');
    using y = scope(() => mixer.forward(x, {}));
    rows.push(
      compared(name, 'y against the float64 recurrence', await y.read(), golden.data('y_float64'), TOLERANCE.output),
    );
  }
  mixer.dispose?.();
  for (const weight of weights.values()) weight.dispose();
  return rows;
}

/** As models load them: matrices in the dtype, everything else float32. */
function weightOf(device: Device, stored: Golden, key: string, dtype: ParityDType): Tensor {
  const shape = stored.shape(key);
  return tensor(device, stored.data(key), shape, { dtype: shape.length === 2 ? dtype : 'float32' });
}

async function halfPrecision(device: Device, name: string, golden: Golden, mixer: Mixer): Promise<ParityRow> {
  using x = tensor(device, golden.data('x'), golden.shape('x'), { dtype: 'float16' });
  using y = scope(() => mixer.forward(x, {}));
  return compared(name, 'y', await y.read(), golden.data('y'), TOLERANCE.float16);
}

async function forwardAndGradients(
  device: Device,
  name: string,
  golden: Golden,
  mixer: Mixer,
  weights: ReadonlyMap<string, Tensor>,
) {
  const x = golden.tensor(device, 'x');
  const upstream = golden.tensor(device, 'grad_y');
  const found = valueAndGradients(() => {
    const y = mixer.forward(x, {});
    return { loss: sum(multiply(y, upstream)), y };
  }, [x, ...weights.values()]);
  const rows = [
    compared(name, 'y', await found.value.y.read(), golden.data('y'), TOLERANCE.output),
    compared(name, 'grad_x', (await found.gradients[0]?.read()) ?? [], golden.data('grad_x'), TOLERANCE.gradient),
  ];
  const keys = [...weights.keys()];
  const each: ParityRow[] = [];
  for (const [key, values] of golden.under('grad.')) {
    // Latent norms are stored without the `.weight` that other parameters end in, or with it: take either.
    const at = keys.findIndex((k) => k === key || k === `${key}.weight`);
    each.push(compared(name, key, (await found.gradients[at + 1]?.read()) ?? [], values, TOLERANCE.gradient));
  }
  for (const item of [x, upstream, found.value.loss, found.value.y, ...found.gradients]) item?.dispose();
  return [...rows, worst(name, 'gradients', each)];
}

async function atFarPositions(
  device: Device,
  name: string,
  golden: Golden,
  mixer: Mixer,
  dtype: ParityDType,
): Promise<ParityRow> {
  const [batch, tokens] = golden.shape('x') as [number, number];
  using x = tensor(device, golden.data('x'), golden.shape('x'), { dtype });
  using positions = tensor(
    device,
    Int32Array.from({ length: batch * tokens }, (_, i) => 9000 + (i % tokens)),
    [batch, tokens],
  );
  const context: SequenceContext = { positions };
  using y = scope(() => mixer.forward(x, context));
  return compared(
    name,
    'y at positions 9000 and on',
    await y.read(),
    golden.data('y_positions_9000'),
    dtype === 'float16' ? TOLERANCE.float16 : TOLERANCE.far,
  );
}
