import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import { normalValues, testDevice, uniformSource } from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { advance, advanceAll, cacheWrite } from './index.js';
import { cacheWriteReference } from './reference.js';

describe('cacheWrite', async () => {
  const device = await testDevice();

  it.each([
    { target: [1, 1, 1], tokens: 1, length: 0 },
    { target: [2, 7, 3], tokens: 3, length: 2 },
    { target: [3, 9, 2, 8], tokens: 5, length: 6 },
    { target: [1, 500, 3], tokens: 63, length: 437 },
    { target: [2, 5], tokens: 2, length: 3 },
    { target: [2, 5, 4], tokens: 2, length: 5 },
    { target: [2, 5, 4], tokens: 2, length: -1 },
    { target: [2, 5, 4], tokens: 2, length: -2147483648 },
  ])('writes %o where it fits and nothing else', async ({ target, tokens, length }) => {
    const random = uniformSource(3);
    const before = normalValues(target, random);
    const rows = normalValues([target[0]!, tokens, ...target.slice(2)], random);
    const cache = tensor(device, before.data, target);
    const source = tensor(device, rows.data, rows.shape);
    const at = tensor(device, Int32Array.of(length));
    cacheWrite(cache, source, at);
    // A copy: no rounding. A start of −1 drops the row at −1 and writes the next one at 0.
    expect([...(await cache.read())]).toEqual([...cacheWriteReference(before, rows, length).data]);
    for (const item of [cache, source, at]) item.dispose();
  });

  it('writes int32, and converts between floats where the adapter computes in float16', async () => {
    const cache = tensor(device, new Int32Array(6), [2, 3]);
    const ids = tensor(device, Int32Array.of(-7, 8), [2, 1]);
    const at = tensor(device, Int32Array.of(1));
    cacheWrite(cache, ids, at);
    expect([...(await cache.read())]).toEqual([0, -7, 0, 0, 8, 0]);
    const halves = tensor(device, new Float32Array(6), [1, 2, 3], { dtype: 'float16' });
    const values = tensor(device, [0.5, 1.5, -2], [1, 1, 3]);
    if (device.info.float16) {
      cacheWrite(halves, values, at);
      expect([...(await halves.read())]).toEqual([0, 0, 0, 0.5, 1.5, -2]);
    } else expect(() => cacheWrite(halves, values, at)).toThrow(/float16/);
    for (const item of [cache, ids, at, halves, values]) item.dispose();
  });

  it('decodes on in a recorded program, where only data changes', async () => {
    const cache = tensor(device, new Float32Array(8), [1, 4, 2]);
    const row = tensor(device, [1, 2], [1, 1, 2]);
    const length = tensor(device, Int32Array.of(0));
    const positions = tensor(device, Int32Array.of(5, -1), [2, 1]);
    const program = device.capture(() => {
      cacheWrite(cache, row, length);
      advance(length, 1);
      advanceAll(positions);
    });
    program.run();
    row.write([3, 4]);
    program.run();
    expect([...(await cache.read())]).toEqual([1, 2, 3, 4, 0, 0, 0, 0]);
    expect(await length.item()).toBe(2);
    expect([...(await positions.read())]).toEqual([7, 1]);
    program.dispose();
    for (const item of [cache, row, length, positions]) item.dispose();
  });

  it('refuses what does not fit, and a wanted gradient', () => {
    scope(() => {
      const cache = tensor(device, new Float32Array(8), [1, 4, 2]);
      const row = tensor(device, [1, 2], [1, 1, 2]);
      const length = tensor(device, Int32Array.of(0));
      expect(() => cacheWrite(cache, tensor(device, [1, 2, 3], [1, 1, 3]), length)).toThrow(
        /cacheWrite: source must be \[1, T, 2\]/,
      );
      expect(() => cacheWrite(cache, row, row)).toThrow(/cacheWrite: length must be int32/);
      expect(() => cacheWrite(cache, tensor(device, Int32Array.of(1, 2), [1, 1, 2]), length)).toThrow(
        /cacheWrite: source/,
      );
      expect(() => advance(length, 0.5)).toThrow(/advance: by must be an int32/);
      const differentiate = () =>
        valueAndGradients(() => {
          cacheWrite(cache, row, length);
          return sum(row);
        }, [row]);
      expect(differentiate).toThrow(/no gradient flows through a cache/);
    });
  });
});
