import { describe, expect, it } from 'vitest';
import { fill, tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { hostTensor } from '../../core/host.js';
import { scope } from '../../core/scope.js';
import type { Device } from '../../device/device.js';
import { openSafetensors } from '../../safetensors/index.js';
import { type CaseInput, checkOp, relativeError, testDevice } from '../../testing/index.js';
import { type KlDivergenceAttributes, klDivergence, klDivergenceOp } from './index.js';

// float32 logits of up to 64 products, in exponents; sums of 500 terms.
const TOLERANCE = { forward: 1e-5, gradient: 1e-5, numeric: 1e-5 };

interface Sizes {
  readonly lead: readonly number[];
  readonly columns: number;
  /** Hidden sizes; none for logits in memory. */
  readonly student?: number;
  readonly teacher?: number;
  readonly chunkRows: number;
  readonly temperature?: number;
  readonly by?: 'mask' | 'targets';
}

function source({ lead, columns }: Sizes, width: number | undefined): (CaseInput | undefined)[] {
  return width
    ? [{ shape: [...lead, width] }, { shape: [columns, width] }]
    : [{ shape: [...lead, columns] }, undefined];
}

function check(device: Device, sizes: Sizes): Promise<void> {
  const { lead: shape, columns, chunkRows, temperature = 1, by } = sizes;
  const values = by === 'mask' ? (i: number) => i % 2 : (i: number) => (i % 3 === 1 ? -100 : i % 5 === 2 ? columns : 0);
  const inputs = [
    ...source(sizes, sizes.student),
    ...source(sizes, sizes.teacher),
    by && { shape, dtype: 'int32' as const, values },
  ];
  const selections = {
    mask: { kind: 'mask' },
    targets: { kind: 'targets', ignoreIndex: -100, vocabulary: columns },
  } as const;
  const attributes: KlDivergenceAttributes = { chunkRows, temperature, selection: by && selections[by] };
  return checkOp(device, klDivergenceOp, { inputs, attributes }, TOLERANCE);
}

describe('klDivergence', async () => {
  const device = await testDevice();
  const hardware = await testDevice('hardware');

  it('agrees with its reference over awkward sizes, chunks and temperatures', async () => {
    for (const sizes of [
      { lead: [1], columns: 1, student: 1, teacher: 3, chunkRows: 1 },
      { lead: [3], columns: 63, student: 5, teacher: 7, chunkRows: 2, temperature: 2 },
      { lead: [63], columns: 500, student: 64, teacher: 5, chunkRows: 64 },
      { lead: [2, 65], columns: 63, student: 5, teacher: 64, chunkRows: 64, by: 'mask', temperature: 0.5 },
      { lead: [10], columns: 8, student: 3, teacher: 3, chunkRows: 3, by: 'targets' },
      { lead: [70], columns: 500, student: 5, chunkRows: 64 },
      { lead: [7], columns: 63, teacher: 5, chunkRows: 3, by: 'mask' },
      { lead: [130], columns: 500, chunkRows: 64, by: 'targets', temperature: 3 },
    ] as const) {
      await check(device, sizes);
    }
  });

  it('agrees in its hardware variants', async () => {
    // Few of everything: the products then take kernels that a software adapter compiles fast.
    await check(hardware, { lead: [5], columns: 7, student: 3, teacher: 4, chunkRows: 3, by: 'mask' });
    await check(hardware, { lead: [70], columns: 63, chunkRows: 64 });
    await check(hardware, { lead: [3], columns: 1100, chunkRows: 2, temperature: 2 });
  });

  it.each([
    ['native', device],
    ['hardware', hardware],
  ] as const)('takes large logits and students close to their teacher (%s)', async (_variant, on) => {
    const teacher = [
      [1e4, -1e4, 0, 1e4],
      [5, 1, -1e4, 2],
      [1, 2, 3, 4],
      [101, 102, 103, 104],
      [1, -Infinity, 3, 4],
    ];
    const student = [
      [1e4, 1e4, 0, -1e4],
      [1, 5, 1e4, 2],
      [1, 2, 3, 4],
      [101.001, 102, 103, 103.998],
      [2, -Infinity, 3, 4],
    ].map((row) => row.map(Math.fround));
    const hosts = [
      hostTensor([5, 4], student.flat()),
      undefined,
      hostTensor([5, 4], teacher.flat()),
      undefined,
      undefined,
    ];
    const attributes = { temperature: 1, chunkRows: 5 };
    // The reference's p·(log p − log q) is 0·(−∞ + ∞) for a token that both exclude: leave it out there.
    for (const row of [0, 2]) hosts[row]!.data[17] = -1e5;
    const want = klDivergenceOp.reference.forward(hosts, attributes)[0]!.data;
    const s = tensor(on, student.flat(), [5, 4]);
    const t = tensor(on, teacher.flat(), [5, 4]);
    const y = klDivergence({ student: { logits: s }, teacher: { logits: t } }, { reduction: 'none' });
    const got = await y.read();
    // Relative to each row's own divergence: from 2e4 down to 8e-7 and 0. Logits near 100 are exact to 4e-6, and the
    // differences between them, 1e-3, are given exactly: what counts is the rounding of x − max − log Σ, 1e-7 of 1e-3.
    want.forEach((v, i) => {
      expect(Math.abs(got[i]! - v)).toBeLessThanOrEqual(i === 3 ? 1e-3 * v : 2e-6 * v);
    });
    expect(got[2]).toBe(0);
    const { value, gradients } = valueAndGradients(
      () => klDivergence({ student: { logits: s }, teacher: { logits: t } }),
      [s],
    );
    const d = klDivergenceOp.reference.backward!(hosts, attributes, [hostTensor([5], new Array(5).fill(0.2))])[0]!.data;
    expect(relativeError(await gradients[0]!.read(), d)).toBeLessThanOrEqual(1e-6);
    for (const item of [s, t, y, value, ...gradients]) item?.dispose();
  });

  it('agrees with PyTorch in value and gradient', async () => {
    await using file = await openSafetensors(
      new URL('../../../test/goldens/losses/golden.safetensors', import.meta.url),
    );
    const read = async (name: string) => [...(await file.readFloat32(name))];
    const student = tensor(device, await read('student_logits'), [3, 19, 512]);
    const teacher = tensor(device, await read('teacher_logits'), [3, 19, 512]);
    const identity = tensor(
      device,
      Array.from({ length: 512 * 512 }, (_, i) => (i % 513 === 0 ? 1 : 0)),
      [512, 512],
    );
    const perToken = await read('kl_per_token');
    // kl_batchmean divides by the 3 sequences, not by the 57 tokens.
    expect(
      relativeError(
        perToken.map((v) => v * 19),
        await read('kl_batchmean'),
      ),
    ).toBeLessThanOrEqual(1e-6);
    const want = (await read('grad_student_logits')).map((v) => v / 19);
    for (const source of [{ logits: student }, { hidden: student, head: identity }]) {
      const { value, gradients } = valueAndGradients(
        () => klDivergence({ student: source, teacher: { logits: teacher } }),
        [student],
      );
      // Both sides compute in float32.
      expect(relativeError(await value.read(), perToken)).toBeLessThanOrEqual(2e-5);
      expect(relativeError(await gradients[0]!.read(), want)).toBeLessThanOrEqual(2e-4);
      for (const item of [value, ...gradients]) item?.dispose();
    }
    for (const item of [student, teacher, identity]) item.dispose();
  });

  it('is 0 with gradients of 0 where nothing counts, and a recorded program follows the mask', async () => {
    const before = device.statistics().liveBuffers;
    const student = tensor(
      device,
      Array.from({ length: 15 }, (_, i) => Math.sin(i)),
      [5, 3],
    );
    const head = tensor(
      device,
      Array.from({ length: 21 }, (_, i) => Math.cos(i)),
      [7, 3],
    );
    const teacher = tensor(
      device,
      Array.from({ length: 35 }, (_, i) => Math.sin(3 * i)),
      [5, 7],
    );
    const mask = fill(device, [5], 0, { dtype: 'int32' });
    const program = device.capture(() =>
      valueAndGradients(
        () =>
          klDivergence({ student: { hidden: student, head }, teacher: { logits: teacher }, mask }, { chunkRows: 2 }),
        [student, head],
      ),
    );
    const { value, gradients } = program.result;
    program.run();
    expect(await value.item()).toBe(0);
    for (const gradient of gradients) expect((await gradient!.read()).every((v) => v === 0)).toBe(true);
    mask.write([0, 1, 1, 0, 1]);
    program.run();
    const rows = klDivergence(
      { student: { hidden: student, head }, teacher: { logits: teacher } },
      { reduction: 'none' },
    );
    const each = await rows.read();
    expect(Math.abs((await value.item()) - (each[1]! + each[2]! + each[4]!) / 3)).toBeLessThanOrEqual(1e-6);
    for (const item of [rows, student, head, teacher, mask, value, ...gradients]) item?.dispose();
    program.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('refuses inputs and options that do not fit', () => {
    scope(() => {
      const t = (...shape: number[]) => fill(device, shape, 1);
      const given = { student: { hidden: t(3, 4), head: t(5, 4) }, teacher: { logits: t(3, 5) } };
      const mask = fill(device, [3], 1, { dtype: 'int32' });
      expect(() => klDivergence({ ...given, teacher: { logits: t(3, 6) } })).toThrow(/vocabulary of 5, got 6/);
      expect(() => klDivergence({ ...given, teacher: { logits: t(2, 5) } })).toThrow(
        /the student's rows, \[3\], got \[2\]/,
      );
      expect(() => klDivergence({ ...given, mask: t(3) })).toThrow(/must be int32/);
      expect(() => klDivergence({ ...given, mask, targets: mask })).toThrow(/not both/);
      expect(() => klDivergence(given, { temperature: 0 })).toThrow(/temperature must be a positive number/);
      expect(() => klDivergence(given, { chunkRows: 1.5 })).toThrow(/chunkRows must be/);
    });
  });
});
