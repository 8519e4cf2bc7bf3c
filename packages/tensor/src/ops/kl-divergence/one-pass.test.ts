import { describe, it } from 'vitest';
import type { DType } from '../../core/dtype.js';
import type { Device } from '../../device/device.js';
import { type CaseInput, checkOp, testDevice } from '../../testing/index.js';
import { klDivergenceOp } from './index.js';
import { meanKlDivergenceOp } from './one-pass.js';

interface Sizes {
  readonly lead: readonly number[];
  readonly columns: number;
  readonly student: number;
  readonly teacher: number;
  readonly chunkRows: number;
  readonly temperature?: number;
  readonly by?: 'mask' | 'targets';
}

const CASES: readonly Sizes[] = [
  { lead: [1], columns: 2, student: 1, teacher: 3, chunkRows: 1 },
  { lead: [3], columns: 63, student: 5, teacher: 7, chunkRows: 2, temperature: 2 },
  { lead: [63], columns: 500, student: 64, teacher: 5, chunkRows: 64 },
  { lead: [2, 65], columns: 63, student: 5, teacher: 64, chunkRows: 64, by: 'mask', temperature: 0.5 },
  { lead: [10], columns: 8, student: 3, teacher: 3, chunkRows: 3, by: 'targets' },
];

// As in kl-divergence.test.ts: float32 sums of up to 64 products and 500 exponentials.
const FLOAT32 = { forward: 1e-5, gradient: 2e-5, numeric: 1e-5 };
// q − p is rounded to float16 (2⁻¹¹), and so is the result where it is float16.
const FLOAT16 = { forward: 2e-5, gradient: 1e-3, numeric: 1e-5 };

function check(device: Device, sizes: Sizes, dtypes: readonly DType[], rowwise = false): Promise<void> {
  const { lead: shape, columns, student, teacher, chunkRows, temperature = 1, by } = sizes;
  const half = dtypes[0] === 'float16';
  const input = (at: readonly number[], index: number): CaseInput => ({
    shape: at,
    dtype: dtypes[index]!,
    // What float16 holds exactly; another pattern for each input, of a prime period so that rows differ.
    ...(dtypes.includes('float16') && { values: (i: number) => ((i * (37 + 2 * index)) % 61) / 32 - 1 }),
  });
  const inputs = [
    input([...shape, student], 0),
    input([columns, student], 1),
    input([...shape, teacher], 2),
    input([columns, teacher], 3),
    by && {
      shape,
      dtype: 'int32' as const,
      values: (i: number) => (by === 'mask' ? i % 2 : i % 3 === 1 ? -100 : i % 5 === 2 ? columns : 0),
    },
  ];
  const selections = {
    mask: { kind: 'mask' },
    targets: { kind: 'targets', ignoreIndex: -100, vocabulary: columns },
  } as const;
  const attributes = { chunkRows, temperature, selection: by && selections[by], needs: [true, true] as const };
  const tolerance = half ? FLOAT16 : FLOAT32;
  if (rowwise) return checkOp(device, klDivergenceOp, { inputs, attributes }, tolerance);
  return checkOp(device, meanKlDivergenceOp, { inputs, attributes }, tolerance);
}

const FULL: readonly DType[] = ['float32', 'float32', 'float32', 'float32'];
const MIXED: readonly (readonly DType[])[] = [
  ['float16', 'float32', 'float16', 'float16'],
  ['float16', 'float16', 'float32', 'float32'],
  ['float32', 'float32', 'float16', 'float32'],
];

describe('the mean KL divergence in one pass', async () => {
  const device = await testDevice();
  const hardware = await testDevice('hardware');

  it('agrees with its reference', async () => {
    for (const sizes of CASES) await check(device, sizes, FULL);
    await check(hardware, { lead: [5], columns: 7, student: 3, teacher: 4, chunkRows: 3, by: 'mask' }, FULL);
    await check(hardware, { lead: [3], columns: 1100, student: 4, teacher: 4, chunkRows: 2, temperature: 2 }, FULL);
  });

  it.runIf(device.info.float16)('agrees with its reference in float16, also row by row', async () => {
    for (const dtypes of MIXED) {
      for (const sizes of CASES) {
        await check(device, sizes, dtypes);
        await check(device, sizes, dtypes, true);
      }
    }
    await check(hardware, { lead: [70], columns: 63, student: 5, teacher: 7, chunkRows: 64 }, MIXED[0]!);
    await check(hardware, { lead: [9], columns: 1100, student: 4, teacher: 4, chunkRows: 8 }, MIXED[0]!, true);
  });
});
