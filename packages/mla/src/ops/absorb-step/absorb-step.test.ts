import { hostTensor, reshape, rmsNorm, rope, scope, tensor } from '@zebra/tensor';
import { normalValues, relativeError, testDevice, uniformSource } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { absorbQueriesOp } from '../absorb/index.js';
import { absorbStep } from './index.js';

describe('absorbStep', async () => {
  const device = await testDevice();

  it.each([
    { batch: 1, heads: 1, keyHeads: 1, nope: 1, ropeSize: 2, latent: 1, value: 1, extra: 0, capacity: 1, length: 0 },
    { batch: 3, heads: 4, keyHeads: 2, nope: 8, ropeSize: 4, latent: 12, value: 8, extra: 5, capacity: 7, length: 6 },
    { batch: 2, heads: 6, keyHeads: 1, nope: 3, ropeSize: 6, latent: 7, value: 5, extra: 0, capacity: 9, length: 4 },
    { batch: 1, heads: 3, keyHeads: 3, nope: 63, ropeSize: 8, latent: 500, value: 3, extra: 3, capacity: 3, length: 1 },
    { batch: 2, heads: 2, keyHeads: 1, nope: 4, ropeSize: 4, latent: 4, value: 4, extra: 0, capacity: 2, length: 2 },
  ])('is rope, norm, absorption and cache write at once: %o', async (c) => {
    const { batch, heads, keyHeads, nope, ropeSize, latent, value, extra, capacity, length } = c;
    const random = uniformSource(5);
    const size = latent + ropeSize;
    const host = {
      q: normalValues([batch, 1, heads * (nope + ropeSize)], random),
      down: normalValues([batch, 1, extra + size], random),
      weight: normalValues([keyHeads * (nope + value), latent], random),
      norm: normalValues([latent], random),
      cos: normalValues([20, ropeSize / 2], random),
      sin: normalValues([20, ropeSize / 2], random),
      rows: normalValues([batch, capacity, size], random),
    };
    for (const normed of [false, true]) {
      for (const dtype of device.info.float16 ? (['float32', 'float16'] as const) : (['float32'] as const)) {
        const live = device.statistics().liveBuffers;
        const made = scope(() => {
          const put = (name: keyof typeof host, type: 'float32' | 'float16' = dtype) =>
            tensor(device, host[name].data, host[name].shape, { dtype: type });
          const positions = tensor(
            device,
            Int32Array.from({ length: batch }, (_, row) => 3 + 5 * row),
            [batch, 1],
          );
          const tables = { cos: put('cos', 'float32'), sin: put('sin', 'float32') };
          const at = tensor(device, Int32Array.of(length));
          const rows = put('rows');
          const norm = normed ? { weight: put('norm', 'float32'), eps: 1e-3 } : undefined;
          const sizes = { headCount: heads, nopeSize: nope, valueSize: value };
          const y = absorbStep({
            q: put('q'),
            down: put('down'),
            weight: put('weight'),
            norm,
            tables,
            positions,
            length: at,
            rows,
            ...sizes,
          });
          // The parts that it stands for, in float32.
          const options = { start: nope, layout: 'interleaved' } as const;
          const turned = rope(
            reshape(put('q', 'float32'), [batch, 1, heads, nope + ropeSize]),
            tables,
            positions,
            options,
          );
          const lines = Array.from({ length: batch }, (_, row) =>
            host.down.data.slice(row * (extra + size) + extra, (row + 1) * (extra + size)),
          );
          const lineOf = (from: number, to: number) =>
            tensor(
              device,
              lines.flatMap((line) => [...line.slice(from, to)]),
              [batch, 1, 1, to - from],
            );
          const plain = lineOf(0, latent);
          const latents = normed ? rmsNorm(plain, norm!.weight, { eps: 1e-3 }) : plain;
          const keys = rope(lineOf(latent, size), tables, positions, { layout: 'interleaved' });
          return { y, rows, turned, latents, keys };
        });
        const [y, rows, turned, latents, keys] = await Promise.all(Object.values(made).map((item) => item.read()));
        const expected = absorbQueriesOp.reference.forward(
          [hostTensor([batch, 1, heads, nope + ropeSize], turned!), host.weight],
          { nopeSize: nope, valueSize: value },
        )[0]!;
        const wanted = [...host.rows.data];
        for (let row = 0; row < batch && length < capacity; row++) {
          const line = [
            ...latents!.slice(row * latent, (row + 1) * latent),
            ...keys!.slice(row * ropeSize, (row + 1) * ropeSize),
          ];
          line.forEach((v, j) => {
            wanted[(row * capacity + length) * size + j] = v;
          });
        }
        // Sums of up to 63 float32 products; in float16 inputs and results are rounded.
        const limit = dtype === 'float32' ? 2e-6 : 1.5e-3;
        expect(relativeError(y!, expected.data)).toBeLessThan(limit);
        expect(relativeError(rows!, wanted)).toBeLessThan(limit);
        for (const item of Object.values(made)) item.dispose();
        expect(device.statistics().liveBuffers).toBe(live);
      }
    }
  });
});
