import { describe, expect, it } from 'vitest';
import { fill, tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import type { Device } from '../../device/device.js';
import { type CaseInput, checkOp, relativeError, testDevice } from '../../testing/index.js';
import { tokenLogProbabilityOp } from '../token-log-probability/index.js';
import { crossEntropy } from './index.js';
import { meanCrossEntropyOp } from './one-pass.js';

interface Sizes {
  readonly lead: readonly number[];
  readonly columns: number;
  readonly width: number;
  readonly chunkRows: number;
  readonly needs?: readonly [boolean, boolean];
}

const targetsOf = (lead: readonly number[], columns: number): CaseInput => ({
  shape: lead,
  dtype: 'int32',
  values: (i, random) => (i % 4 === 1 ? -100 : i % 11 === 7 ? columns : Math.floor(random() * columns)),
});

/** Values that float16 holds exactly, so that reference and device start from the same; of a prime period, so that rows differ. */
const halves = (i: number) => ((i * 37) % 61) / 64 - 0.5;

// float32 sums of up to 64 products for a logit and 500 exponentials for a row, then of 130 rows.
const FLOAT32 = { forward: 5e-6, gradient: 1e-5, numeric: 1e-5 };
// Gradients of logits are rounded to float16, 2⁻¹¹ each; sums of them, and the result where it is float16, once more.
const FLOAT16 = { forward: 5e-6, gradient: 1e-3, numeric: 1e-5 };

function check(device: Device, sizes: Sizes, hidden: CaseInput['dtype'] = 'float32', head = hidden): Promise<void> {
  const { lead, columns, width, chunkRows, needs = [true, true] } = sizes;
  const half = hidden === 'float16';
  const values = half ? { values: halves } : {};
  const inputs = [
    { shape: [...lead, width], dtype: hidden!, ...values },
    { shape: [columns, width], dtype: head!, ...values },
    targetsOf(lead, columns),
  ];
  const attributes = { ignoreIndex: -100, chunkRows, sign: -1, needs } as const;
  return checkOp(device, meanCrossEntropyOp, { inputs, attributes }, half ? FLOAT16 : FLOAT32);
}

const CASES: readonly Sizes[] = [
  { lead: [1], columns: 3, width: 1, chunkRows: 1 },
  { lead: [3], columns: 63, width: 5, chunkRows: 2 },
  { lead: [63], columns: 500, width: 64, chunkRows: 64 },
  { lead: [2, 65], columns: 500, width: 5, chunkRows: 64 },
  { lead: [10], columns: 8, width: 3, chunkRows: 3 },
];

describe('the mean cross-entropy in one pass', async () => {
  const device = await testDevice();
  const hardware = await testDevice('hardware');

  it('agrees with its reference', async () => {
    for (const sizes of CASES) await check(device, sizes);
    await check(hardware, { lead: [5], columns: 7, width: 3, chunkRows: 3 });
    await check(hardware, { lead: [5], columns: 1100, width: 4, chunkRows: 3 });
  });

  it.runIf(device.info.float16)('agrees with its reference in float16, with a float32 head too', async () => {
    for (const sizes of CASES) {
      await check(device, sizes, 'float16');
      await check(device, sizes, 'float16', 'float32');
    }
    await check(hardware, { lead: [5], columns: 7, width: 3, chunkRows: 3 }, 'float16', 'float32');
    await check(hardware, { lead: [70], columns: 1100, width: 40, chunkRows: 64 }, 'float16', 'float32');
  });

  it.runIf(device.info.float16)('loses no gradient to float16, whatever the upstream', async () => {
    // The probabilities of the other tokens are near 1e-6, and a mean over 64 rows with an upstream of 1e-3 makes that
    // 1e-11: far below float16. An upstream of 2²⁴ would be far above it. Rows with an upstream of their own too.
    const [rows, width, columns] = [64, 8, 500];
    const hidden = Array.from({ length: rows * width }, (_, i) => (i % width === 0 ? 4 : halves(i)));
    const head = Array.from({ length: columns * width }, (_, i) => (i < width ? 3 : 0) + halves(i * 3));
    const targets = new Array<number>(rows).fill(0);
    for (const upstream of [1e-3, 1, 2 ** 24]) {
      for (const reduction of ['mean', 'none'] as const) {
        const given = {
          hidden: tensor(device, hidden, [rows, width], { dtype: 'float16' }),
          head: tensor(device, head, [columns, width]),
          targets: tensor(device, targets, [rows], { dtype: 'int32' }),
        };
        const seed = tensor(device, [upstream]);
        const [dHead] = scope(() => {
          if (reduction === 'mean') {
            return valueAndGradients(() => crossEntropy(given, { chunkRows: 32 }), [given.head], { seed }).gradients;
          }
          const attributes = { ignoreIndex: -100, chunkRows: 32, sign: -1 } as const;
          const inputs = [given.hidden, given.head, given.targets];
          const outputs = tokenLogProbabilityOp.apply(inputs, attributes);
          const gradients = [fill(device, [rows], upstream / rows)];
          const needs = [false, true, false];
          return [tokenLogProbabilityOp.backward!({ device, inputs, outputs, gradients, attributes, needs })[1]];
        });
        const hosts = [
          { shape: [rows, width], data: Float64Array.from(hidden) },
          { shape: [columns, width], data: Float64Array.from(head) },
          { shape: [rows], data: Float64Array.from(targets) },
        ];
        const each = { shape: [rows], data: new Float64Array(rows).fill(upstream / rows) };
        const attributes = { ignoreIndex: -100, chunkRows: 32, sign: -1 } as const;
        const want = tokenLogProbabilityOp.reference.backward!(hosts, attributes, [each])[1]!.data;
        const got = await dHead!.read();
        // All but the target's row, whose gradient is a thousand times larger and would hide the others'.
        expect(relativeError(got.slice(width), want.slice(width))).toBeLessThanOrEqual(1e-3);
        for (const item of [...Object.values(given), seed, dHead]) item?.dispose();
      }
    }
  });

  it('computes only the gradients that are wanted', async () => {
    const sizes = { lead: [10], columns: 8, width: 3, chunkRows: 3 };
    const inputs = [{ shape: [10, 3] }, { shape: [8, 3] }, targetsOf([10], 8)];
    for (const needs of [
      [true, false],
      [false, true],
    ] as const) {
      const attributes = { ignoreIndex: -100, chunkRows: sizes.chunkRows, sign: -1, needs } as const;
      const outputs = meanCrossEntropyOp.shape(
        inputs
          .map(({ shape }) => ({ shape, dtype: 'int32' as const }))
          .map((spec, i) => (i === 2 ? spec : { ...spec, dtype: 'float32' as const })),
        attributes,
      );
      expect(outputs.map(({ shape }) => shape)).toEqual([[1], [1], needs[0] ? [10, 3] : [8, 3]]);
    }
    const before = device.statistics().liveBuffers;
    const hidden = tensor(
      device,
      Array.from({ length: 30 }, (_, i) => Math.sin(i)),
      [10, 3],
    );
    const head = tensor(
      device,
      Array.from({ length: 24 }, (_, i) => Math.cos(i)),
      [8, 3],
    );
    const targets = tensor(
      device,
      Array.from({ length: 10 }, (_, i) => i % 8),
      [10],
      { dtype: 'int32' },
    );
    const loss = () => crossEntropy({ hidden, head, targets }, { chunkRows: 4 });
    const both = valueAndGradients(loss, [hidden, head]);
    for (const [index, wanted] of [hidden, head].entries()) {
      const one = valueAndGradients(loss, [wanted]);
      expect([...(await one.gradients[0]!.read())]).toEqual([...(await both.gradients[index]!.read())]);
      for (const item of [one.value, ...one.gradients]) item?.dispose();
    }
    const plain = loss();
    expect(await plain.item()).toBeCloseTo(await both.value.item(), 6);
    for (const item of [plain, both.value, ...both.gradients, hidden, head, targets]) item?.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });
});

describe('the mean cross-entropy on matrix units', async () => {
  const matrix = await testDevice('matrix');

  it.runIf(matrix.info.subgroupMatrix.length > 0)('agrees with its reference', async () => {
    // One chunk in two pieces of 32 rows, the shortest side that the matrix units are taken for; each of the three
    // products is a kernel whose emulation takes a software adapter long to compile.
    await check(matrix, { lead: [64], columns: 72, width: 32, chunkRows: 64 }, 'float16', 'float32');
  });
});
