import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { hostTensor } from '../../core/host.js';
import { checkOp, relativeError, testDevice } from '../../testing/index.js';
import { logSoftmax, logSoftmaxOp, softmax, softmaxOp } from './index.js';

// exp and log are allowed a few ulp by WGSL (exp 3 + 2|x| of them); sums of at most 3001 terms over several lanes.
const TOLERANCE = { forward: 3e-6, gradient: 5e-6, numeric: 1e-5 };
const spread = (_: number, random: () => number) => 30 * (random() - 0.5);

describe.each([
  ['softmax', softmaxOp, softmax],
  ['logSoftmax', logSoftmaxOp, logSoftmax],
] as const)('%s', async (name, op, run) => {
  const device = await testDevice();
  const hardware = await testDevice('hardware');

  it('agrees with its reference', async () => {
    for (const shape of [[1], [3, 63], [2, 5, 7, 4], [40, 500]]) {
      await checkOp(device, op, { inputs: [{ shape }], attributes: {} }, TOLERANCE);
      await checkOp(device, op, { inputs: [{ shape, values: spread }], attributes: {} }, TOLERANCE);
    }
  });

  it('agrees in its hardware variants', async () => {
    for (const shape of [
      [5, 63],
      [3, 3001],
      [3, 2044],
      [2, 9000],
      [18, 100],
    ]) {
      await checkOp(hardware, op, { inputs: [{ shape, values: spread }], attributes: {} }, TOLERANCE);
    }
  });

  it.each([
    ['native', device],
    ['hardware', hardware],
  ] as const)('takes −∞ and large values (%s)', async (_variant, on) => {
    const rows = [
      [-Infinity, 0, 1, -Infinity],
      [-Infinity, -Infinity, -Infinity, -Infinity],
      [1e4, 1e4 + 2, -1e4, -Infinity],
      [-1e38, 1e38, 0, 1],
    ];
    const x = tensor(on, rows.flat(), [4, 4]);
    const y = run(x);
    const got = [...(await y.read())];
    const expected = op.reference.forward([hostTensor([4, 4], rows.flat())], {})[0]!.data;
    // −∞ has no relative error: it must come out where it is expected, and the rest to the tolerance.
    expected.forEach((value, i) => {
      if (Number.isFinite(value))
        expect(Math.abs(got[i]! - value)).toBeLessThanOrEqual(3e-6 * Math.max(1e-2, Math.abs(value)));
      else expect(got[i]).toBe(value);
    });
    const g = tensor(on, [1, 2, 3, 4, 0, 0, 0, 0, 1, 2, 3, 4, 1, 2, 3, 4], [4, 4]);
    const [d] = op.backward!({ device: on, inputs: [x], outputs: [y], gradients: [g], attributes: {}, needs: [true] });
    const wanted = op.reference.backward!([hostTensor([4, 4], rows.flat())], {}, [
      hostTensor([4, 4], await g.read()),
    ])[0]!;
    expect(relativeError(await d!.read(), wanted.data)).toBeLessThanOrEqual(5e-6);
    for (const item of [x, y, g, d]) item?.dispose();
  });

  it('reads and writes a row of a whole vocabulary', async () => {
    // Summed in float32 by as few as one lane of 4: 32064 additions of like size, so a few 1e-6.
    await checkOp(
      device,
      op,
      { inputs: [{ shape: [2, 128256] }], attributes: {} },
      { forward: 2e-5, gradient: 2e-5, numeric: 1e-4 },
    );
  });

  it('computes float16 in float32', async () => {
    if (!device.info.float16) return expect(device.info.float16).toBe(false);
    const inputs = [{ shape: [7, 64], dtype: 'float16' as const, values: (i: number) => ((i * 7) % 32) / 4 }];
    await checkOp(device, op, { inputs, attributes: {} }, { forward: 5e-4, gradient: 2e-3, numeric: 1e-5 });
  });

  it('refuses another axis', () => {
    const x = tensor(device, [1, 2, 3, 4], [2, 2]);
    expect(() => run(x, { axis: 0 })).toThrow(`${name}: axis must be the last one`);
    x.dispose();
  });
});
