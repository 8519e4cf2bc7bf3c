import { tensor } from '@zebra/tensor';
import { checkOp, testDevice } from '@zebra/tensor/testing';
import { describe, expect, test } from 'vitest';
import { combineRows, combineRowsOp } from './combine-rows.js';

describe('combineRows', async () => {
  const device = await testDevice();

  test.each([
    [1, 1, 1, 1],
    [3, 63, 5, 2],
    [63, 3, 500, 3],
    [500, 1, 3, 7],
  ])('%i × %i, %i rows of %i terms', async (from, columns, count, terms) => {
    const inputs = [
      { shape: [from, columns] },
      {
        shape: [count, terms],
        dtype: 'uint32',
        values: (_: number, random: () => number) => Math.floor(random() * from),
      },
      { shape: [count, terms] },
    ] as const;
    // Sums of at most seven float32 products.
    await checkOp(device, combineRowsOp, { inputs, attributes: {} }, { forward: 5e-7, gradient: 0 });
  });

  test('rows without terms are zeros', async () => {
    const x = tensor(device, [1, 2, 3, 4], [2, 2]);
    const y = combineRows(x, [
      [],
      [{ row: 1, scale: 2 }],
      [
        { row: 0, scale: 1 },
        { row: 1, scale: -1 },
      ],
    ]);
    expect([...(await y.read())]).toEqual([0, 0, 6, 8, -2, -2]);
    for (const t of [x, y]) t.dispose();
  });
});
