import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { hostTensor } from '../../core/host.js';
import { scope } from '../../core/scope.js';
import { normalValues, relativeError, testDevice, uniformSource } from '../../testing/index.js';
import { cacheWriteReference } from '../cache-write/reference.js';
import { ropeOp } from '../rope/index.js';
import { ropeIntoCache } from './index.js';

describe('ropeIntoCache', async () => {
  const device = await testDevice();

  it.each([
    { batch: 1, tokens: 1, heads: 1, keyHeads: 1, size: 2, capacity: 1, length: 0 },
    { batch: 2, tokens: 1, heads: 4, keyHeads: 2, size: 8, capacity: 7, length: 6 },
    { batch: 3, tokens: 3, heads: 6, keyHeads: 3, size: 6, capacity: 9, length: 4 },
    { batch: 1, tokens: 63, heads: 2, keyHeads: 1, size: 64, capacity: 500, length: 437 },
    { batch: 2, tokens: 2, heads: 2, keyHeads: 1, size: 8, capacity: 3, length: 2 },
    { batch: 1, tokens: 1, heads: 2, keyHeads: 1, size: 8, capacity: 3, length: -1 },
  ])('is rope and cacheWrite at once: %o', async ({ batch, tokens, heads, keyHeads, size, capacity, length }) => {
    const random = uniformSource(3);
    const all = heads + 2 * keyHeads;
    const rows = normalValues([batch, tokens, all * size], random);
    const [cos, sin] = [normalValues([70, size / 2], random), normalValues([70, size / 2], random)];
    const before = [0, 1].map(() => normalValues([batch, capacity, keyHeads, size], random));
    const positions = hostTensor(
      [batch, tokens],
      Array.from({ length: batch * tokens }, (_, i) => (7 * i) % 70),
    );
    const part = (first: number, count: number) =>
      hostTensor(
        [batch, tokens, count, size],
        Array.from({ length: batch * tokens }, (_, t) => [
          ...rows.data.slice((t * all + first) * size, (t * all + first + count) * size),
        ]).flat(),
      );
    const rotated = (first: number, count: number) =>
      ropeOp.reference.forward([part(first, count), cos, sin, positions], { start: 0, layout: 'half' })[0]!;
    const expected = [
      rotated(0, heads),
      cacheWriteReference(before[0]!, rotated(heads, keyHeads), length),
      cacheWriteReference(before[1]!, part(heads + keyHeads, keyHeads), length),
    ];
    for (const dtype of device.info.float16 ? (['float32', 'float16'] as const) : (['float32'] as const)) {
      const live = device.statistics().liveBuffers;
      const got = scope(() => {
        const put = (host: typeof rows, type: 'float32' | 'float16' | 'int32' = 'float32') =>
          tensor(device, host.data, host.shape, { dtype: type });
        const [keys, values] = before.map((cache) => put(cache, dtype));
        const tables = { cos: put(cos), sin: put(sin) };
        const at = tensor(device, Int32Array.of(length));
        const q = ropeIntoCache({
          rows: put(rows, dtype),
          tables,
          positions: put(positions, 'int32'),
          keys: keys!,
          values: values!,
          length: at,
        });
        return [q, keys!, values!];
      });
      // Two products and a sum in float32; in float16 inputs and results are rounded.
      const limit = dtype === 'float32' ? 3e-7 : 1e-3;
      for (const [i, want] of expected.entries())
        expect(relativeError(await got[i]!.read(), want.data)).toBeLessThan(limit);
      for (const item of got) item.dispose();
      expect(device.statistics().liveBuffers).toBe(live);
    }
  });

  it('says what does not fit', () => {
    scope(() => {
      const make = (...shape: number[]) => tensor(device, new Float32Array(shape.reduce((a, b) => a * b)), shape);
      const tables = { cos: make(4, 2), sin: make(4, 2) };
      const length = tensor(device, Int32Array.of(0));
      const good = { rows: make(1, 1, 12), tables, keys: make(1, 3, 1, 4), values: make(1, 3, 1, 4), length };
      expect(() => ropeIntoCache({ ...good, rows: make(1, 1, 13) })).toThrow(/rows must be \[1, T/);
      expect(() => ropeIntoCache({ ...good, values: make(1, 2, 1, 4) })).toThrow(/values must be/);
      expect(() => ropeIntoCache({ ...good, tables: { cos: make(4, 3), sin: make(4, 3) } })).toThrow(/tables must be/);
      expect(() => ropeIntoCache({ ...good, length: make(1) })).toThrow(/length must be int32/);
      expect(() => ropeIntoCache({ ...good, positions: make(1, 1) })).toThrow(/positions must be int32/);
    });
  });
});
