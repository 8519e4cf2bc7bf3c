import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { hostTensor } from '../../core/host.js';
import { scope } from '../../core/scope.js';
import type { Device } from '../../device/device.js';
import { type CaseInput, checkOp, relativeError, testDevice } from '../../testing/index.js';
import { sum } from '../reduce/index.js';
import { tokenLogProbabilities, tokenLogProbabilityOp } from './index.js';

// float32 sums of up to 64 products for a logit and 500 exponentials for a row; exp and log are a few ulp off in WGSL.
const TOLERANCE = { forward: 5e-6, gradient: 1e-5, numeric: 1e-5 };

interface Sizes {
  readonly lead: readonly number[];
  readonly columns: number;
  /** D; none for logits in memory. */
  readonly width?: number;
  readonly chunkRows: number;
}

/** Targets of which every fourth is ignored, and some lie outside the vocabulary. */
const targetsOf = (lead: readonly number[], columns: number): CaseInput => ({
  shape: lead,
  dtype: 'int32',
  values: (i, random) =>
    i % 4 === 1 ? -100 : i % 11 === 7 ? [columns, -1, 2 ** 30][i % 3]! : Math.floor(random() * columns),
});

function check(device: Device, { lead, columns, width, chunkRows }: Sizes, sign: 1 | -1 = 1): Promise<void> {
  const inputs = width
    ? [{ shape: [...lead, width] }, { shape: [columns, width] }, targetsOf(lead, columns)]
    : [{ shape: [...lead, columns] }, undefined, targetsOf(lead, columns)];
  return checkOp(
    device,
    tokenLogProbabilityOp,
    { inputs, attributes: { ignoreIndex: -100, chunkRows, sign } },
    TOLERANCE,
  );
}

describe('tokenLogProbabilities', async () => {
  const device = await testDevice();
  const hardware = await testDevice('hardware');

  it('agrees with its reference over awkward sizes and chunks', async () => {
    for (const sizes of [
      { lead: [1], columns: 3, width: 1, chunkRows: 1 },
      { lead: [1], columns: 1, width: 5, chunkRows: 1 },
      { lead: [3], columns: 63, width: 5, chunkRows: 2 },
      { lead: [63], columns: 500, width: 64, chunkRows: 64 },
      { lead: [130], columns: 63, width: 64, chunkRows: 64 },
      { lead: [2, 65], columns: 500, width: 5, chunkRows: 64 },
      { lead: [10], columns: 8, width: 3, chunkRows: 3 },
    ]) {
      await check(device, sizes);
    }
    await check(device, { lead: [7], columns: 20, width: 6, chunkRows: 4 }, -1);
  });

  it('agrees for logits in memory', async () => {
    await check(device, { lead: [3], columns: 63, chunkRows: 1 });
    await check(device, { lead: [2, 65], columns: 500, chunkRows: 64 });
  });

  it('agrees in its hardware variants', async () => {
    // Few of everything: the products then take kernels that a software adapter compiles fast.
    await check(hardware, { lead: [5], columns: 7, width: 3, chunkRows: 3 });
    await check(hardware, { lead: [70], columns: 63, chunkRows: 64 });
    await check(hardware, { lead: [3], columns: 1100, chunkRows: 2 });
  });

  it.each([
    ['native', device],
    ['hardware', hardware],
  ] as const)('keeps its digits where logits are large (%s)', async (_variant, on) => {
    const rows = [
      [1e4, 1e4 + 2, 1e4 - 1, -1e4],
      [-1e4, 1e4, 0, 5],
      [-1e4, -1e4, -1e4, -1e4],
      [-Infinity, 1, 2, -Infinity],
    ];
    const targets = [0, 0, 3, 2];
    const x = tensor(on, rows.flat(), [4, 4]);
    const t = tensor(on, targets, [4], { dtype: 'int32' });
    const { value, gradients } = valueAndGradients(() => {
      const y = tokenLogProbabilities({ logits: x, targets: t });
      return { loss: sum(y), y };
    }, [x]);
    const hosts = [hostTensor([4, 4], rows.flat()), undefined, hostTensor([4], targets)];
    const attributes = { ignoreIndex: -100, chunkRows: 4, sign: 1 } as const;
    const y = tokenLogProbabilityOp.reference.forward(hosts, attributes)[0]!;
    const d = tokenLogProbabilityOp.reference.backward!(hosts, attributes, [hostTensor([4], [1, 1, 1, 1])])[0]!;
    // Element by element: one large value must not hide an error in the others.
    const got = await value.y.read();
    y.data.forEach((v, i) => {
      expect(Math.abs(got[i]! - v)).toBeLessThanOrEqual(3e-6 * Math.abs(v));
    });
    expect(relativeError(await gradients[0]!.read(), d.data)).toBeLessThanOrEqual(1e-6);
    for (const item of [value.loss, value.y, gradients[0], x, t]) item?.dispose();
  });

  it('sums a row over a whole vocabulary', async () => {
    // 128256 exponentials summed in float32 by as few as one lane of 4 columns.
    const inputs = [
      { shape: [2, 128256] },
      undefined,
      { shape: [2], dtype: 'int32' as const, values: (i: number) => i * 128255 },
    ];
    const attributes = { ignoreIndex: -100, chunkRows: 2, sign: 1 } as const;
    await checkOp(
      device,
      tokenLogProbabilityOp,
      { inputs, attributes },
      { forward: 1e-5, gradient: 2e-5, numeric: 1e-4 },
    );
  });

  it('takes float16 hidden states and head, and gives float16 gradients', async () => {
    if (!device.info.float16) return expect(device.info.float16).toBe(false);
    const half = (shape: number[]): CaseInput => ({
      shape,
      dtype: 'float16',
      values: (i) => ((i * 37) % 64) / 64 - 0.5,
    });
    const inputs = [half([10, 7]), half([33, 7]), targetsOf([10], 33)];
    const attributes = { ignoreIndex: -100, chunkRows: 3, sign: 1 } as const;
    // The gradients are rounded to float16 (2⁻¹¹).
    await checkOp(
      device,
      tokenLogProbabilityOp,
      { inputs, attributes },
      { forward: 5e-6, gradient: 1e-3, numeric: 1e-5 },
    );
  });

  it('computes only the gradients that are wanted, and gives the same for any chunk', async () => {
    const hidden = tensor(
      device,
      Array.from({ length: 130 * 8 }, (_, i) => Math.sin(i)),
      [130, 8],
    );
    const head = tensor(
      device,
      Array.from({ length: 20 * 8 }, (_, i) => Math.cos(i)),
      [20, 8],
    );
    const targets = tensor(
      device,
      Array.from({ length: 130 }, (_, i) => (i * 7) % 20),
      [130],
      { dtype: 'int32' },
    );
    const run = async (chunkRows: number | undefined, wanted: typeof hidden) => {
      const options = chunkRows ? { chunkRows } : {};
      const { value, gradients } = valueAndGradients(
        () => sum(tokenLogProbabilities({ hidden, head, targets }, options)),
        [wanted],
      );
      const numbers = await gradients[0]!.read();
      for (const item of [value, ...gradients]) item?.dispose();
      return numbers;
    };
    for (const wanted of [hidden, head]) {
      const whole = await run(undefined, wanted);
      // The head's gradient is summed in another order.
      expect(relativeError(await run(64, wanted), whole)).toBeLessThanOrEqual(1e-6);
      expect(relativeError(await run(7, wanted), whole)).toBeLessThanOrEqual(1e-6);
    }
    for (const item of [hidden, head, targets]) item.dispose();
  });

  it('refuses inputs and options that do not fit', () => {
    scope(() => {
      const t = (...shape: number[]) => tensor(device, new Float32Array(shape.reduce((a, b) => a * b)), shape);
      const ids = (...shape: number[]) => tensor(device, new Int32Array(shape.reduce((a, b) => a * b)), shape);
      const [hidden, head, targets] = [t(3, 4), t(5, 4), ids(3)];
      expect(() => tokenLogProbabilities({ hidden, head: t(5, 3), targets })).toThrow(/head must be \[V, 4\]/);
      expect(() => tokenLogProbabilities({ hidden: t(4), head, targets })).toThrow(/hidden must be \[N, D\]/);
      expect(() => tokenLogProbabilities({ hidden, head, targets: ids(4) })).toThrow(/targets must be \[3\]/);
      expect(() => tokenLogProbabilities({ hidden, head, targets: t(3) })).toThrow(/targets must be int32/);
      expect(() => tokenLogProbabilities({ hidden, head, targets }, { chunkRows: 0 })).toThrow(/chunkRows must be/);
      expect(() => tokenLogProbabilities({ hidden, head, targets }, { ignoreIndex: 0.5 })).toThrow(/ignoreIndex/);
      // @ts-expect-error neither form is complete
      expect(() => tokenLogProbabilities({ hidden, targets })).toThrow(/give either hidden and head, or logits/);
    });
  });
});
