import { multiply, sum, type Tensor, tensor, valueAndGradients } from '@zebra/tensor';
import { relativeError, testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { type GoldenTensor, goldenNames, loadGolden } from '../test/golden.js';
import { MlaLayer } from './index.js';

// Both sides are float32, six matrix products deep; gradients cancel more. At position 9000 the reference's angles are
// float32 themselves, off by up to 9000 · 2⁻²⁴ = 5e-4 radians in the fastest pair.
const OUTPUT = 2e-5;
const GRADIENT = 2e-4;
const FAR = 1e-4;

describe('MlaLayer against the reference implementation', async () => {
  const device = await testDevice();
  const upload = ({ data, shape }: GoldenTensor): Tensor => tensor(device, data, shape);

  it.each(goldenNames)('%s: output, gradients, far positions', async (name) => {
    const before = device.statistics().liveBuffers;
    const golden = await loadGolden(name);
    const weights = new Map([...golden.weights].map(([key, value]) => [key, upload(value)]));
    const given = (key: string) => golden.values.get(key)!;
    using x = upload(given('x'));
    using upstream = upload(given('grad_y'));
    using layer = new MlaLayer(golden.config, weights);

    const { value, gradients } = valueAndGradients(() => {
      const y = layer.forward(x, {});
      return { loss: sum(multiply(y, upstream)), y };
    }, [x, ...weights.values()]);
    const errors: Record<string, number> = { y: relativeError(await value.y.read(), given('y').data) };
    for (const [i, key] of ['grad_x', ...[...weights.keys()].map((weight) => `grad.${weight}`)].entries()) {
      errors[key] = relativeError(await gradients[i]!.read(), given(key).data);
    }
    const [batch, tokens] = x.shape as [number, number];
    const far = Int32Array.from({ length: batch * tokens }, (_, i) => 9000 + (i % tokens));
    using positions = tensor(device, far, [batch, tokens]);
    using y = layer.forward(x, { positions });
    errors['far'] = relativeError(await y.read(), given('y_positions_9000').data);

    for (const [key, error] of Object.entries(errors)) {
      const limit = key === 'y' ? OUTPUT : key === 'far' ? FAR : GRADIENT;
      expect(error, key).toBeLessThanOrEqual(limit);
    }
    for (const item of [value.loss, value.y, ...gradients, ...weights.values(), x, upstream, positions, y])
      item?.dispose();
    layer.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });
});
