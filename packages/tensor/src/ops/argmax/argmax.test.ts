import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { checkOp, testDevice } from '../../testing/index.js';
import { argmax, argmaxOp } from './index.js';

const EXACT = { forward: 0, gradient: 0 };

describe.each(['native', 'hardware'] as const)('argmax (%s)', async (variant) => {
  const device = await testDevice(variant);

  it('agrees with its reference on every shape of rows', async () => {
    const shapes =
      variant === 'native'
        ? [[1], [63], [2, 3, 5], [500, 7], [100, 2500], [3, 49152], [1, 2049]]
        : [
            [5, 63],
            [70, 3001],
            [2, 9000],
          ];
    for (const shape of shapes) await checkOp(device, argmaxOp, { inputs: [{ shape }], attributes: {} }, EXACT);
  });

  it('takes the lowest column on a tie, in pieces too', async () => {
    for (const shape of [
      [3, 40],
      [2, 7000],
    ]) {
      const columns = shape[1]!;
      const values = (i: number) => (i % 13 === 5 || i % columns === columns - 1 ? 3 : -(i % 3));
      await checkOp(device, argmaxOp, { inputs: [{ shape, values }], attributes: {} }, EXACT);
      await checkOp(device, argmaxOp, { inputs: [{ shape, values: () => -1 }], attributes: {} }, EXACT);
    }
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('tells a row with %d from others where asked', async (bad) => {
    for (const shape of [
      [3, 40],
      [3, 7000],
    ]) {
      const columns = shape[1]!;
      for (const at of [0, 1, columns - 1]) {
        const row = (b: number) => (c: number) =>
          b === 1 && c === at ? bad : c === 3 + b ? 5 : c === 1 ? -Infinity : -1;
        const rows = [0, 1, 2].flatMap((b) => Array.from({ length: columns }, (_, c) => row(b)(c)));
        const x = tensor(device, rows, shape);
        const y = argmax(x, { finite: true });
        expect([...(await y.read())]).toEqual([3, -1, 5]);
        x.dispose();
        y.dispose();
      }
    }
  });

  it('stays inside the row with −∞', async () => {
    const x = tensor(device, [-Infinity, -Infinity, -Infinity, -Infinity, -4, -Infinity], [2, 3]);
    const y = argmax(x);
    expect([...(await y.read())]).toEqual([0, 1]);
    x.dispose();
    y.dispose();
  });
});
