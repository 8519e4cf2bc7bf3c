import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { openSafetensors } from '../../safetensors/index.js';
import { checkOp, relativeError, testDevice } from '../../testing/index.js';
import { scale } from '../pointwise/index.js';
import { sum } from '../reduce/index.js';
import { rowDistance, rowDistanceOp } from './index.js';

// float32 sums of up to 1100 squares.
const TOLERANCE = { forward: 2e-6, gradient: 3e-6, numeric: 1e-5 };

describe('rowDistance', async () => {
  const device = await testDevice();
  const hardware = await testDevice('hardware');

  it('agrees with its reference', async () => {
    for (const shape of [[1, 1], [5], [3, 63], [2, 65, 64], [1, 500]]) {
      await checkOp(device, rowDistanceOp, { inputs: [{ shape }, { shape }], attributes: {} }, TOLERANCE);
    }
  });

  it('agrees in its hardware variants', async () => {
    for (const shape of [
      [5, 63],
      [130, 64],
      [3, 1100],
    ]) {
      await checkOp(hardware, rowDistanceOp, { inputs: [{ shape }, { shape }], attributes: {} }, TOLERANCE);
    }
  });

  it('takes operands of different dtypes', async () => {
    if (!device.info.float16) return expect(device.info.float16).toBe(false);
    const half = { shape: [5, 12], dtype: 'float16' as const, values: (i: number) => ((i * 37) % 64) / 64 };
    // The second gradient is rounded to float16 (2⁻¹¹).
    await checkOp(
      device,
      rowDistanceOp,
      { inputs: [{ shape: [5, 12] }, half], attributes: {} },
      { ...TOLERANCE, gradient: 1e-3 },
    );
  });

  it('has a gradient of 0 where the rows are equal, and shows what is not a number', async () => {
    const a = tensor(device, [1, 2, 3, 4, 5, 6, Number.NaN, 1], [4, 2]);
    const b = tensor(device, [1, 2, 0, 0, 5, 6, 0, 0], [4, 2]);
    const { value, gradients } = valueAndGradients(() => {
      const y = rowDistance(a, b);
      return { loss: sum(y), y };
    }, [a, b]);
    const distances = await value.y.read();
    expect([...distances.slice(0, 3)]).toEqual([0, 5, 0]);
    expect(distances[3]).toBeNaN();
    const [da, db] = [await gradients[0]!.read(), await gradients[1]!.read()];
    expect(relativeError(da.slice(0, 6), [0, 0, 0.6, 0.8, 0, 0])).toBeLessThanOrEqual(1e-6);
    expect(relativeError(db.slice(0, 6), [0, 0, -0.6, -0.8, 0, 0])).toBeLessThanOrEqual(1e-6);
    expect(da[6]).toBeNaN();
    for (const item of [a, b, value.loss, value.y, ...gradients]) item?.dispose();
  });

  it('makes the loss of intermediate-layer distillation as PyTorch does', async () => {
    await using file = await openSafetensors(
      new URL('../../../test/goldens/losses/golden.safetensors', import.meta.url),
    );
    const read = async (name: string) => [...(await file.readFloat32(name))];
    const student = tensor(device, await read('ild_student'), [4, 3, 19, 64]);
    const teacher = tensor(device, await read('ild_teacher'), [4, 3, 19, 64]);
    // The sum over 4 layers of the mean over 57 tokens.
    const { value, gradients } = valueAndGradients(() => scale(sum(rowDistance(student, teacher)), 1 / 57), [student]);
    // Both sides compute in float32.
    expect(relativeError(await value.read(), await read('ild_loss'))).toBeLessThanOrEqual(2e-6);
    expect(relativeError(await gradients[0]!.read(), await read('ild_grad_student'))).toBeLessThanOrEqual(2e-6);
    for (const item of [student, teacher, value, ...gradients]) item?.dispose();
  });

  it('refuses rows of different shapes', () => {
    const a = tensor(device, [1, 2], [1, 2]);
    const b = tensor(device, [1, 2], [2, 1]);
    expect(() => rowDistance(a, b)).toThrow(/rowDistance: b must be \[1, 2\], got \[2, 1\]/);
    a.dispose();
    b.dispose();
  });
});
