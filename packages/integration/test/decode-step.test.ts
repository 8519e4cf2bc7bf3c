import { relativeError, testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { hiddenStates, randomIds, range } from './support/rows.js';
import { MODEL_KINDS, smallModel } from './support/small-model.js';

const LENGTH = 14;
/** Tokens of the prompt; those after it come one by one. */
const PROMPT = 9;

/** Sums of float32 in another order, three layers deep. */
const FLOAT = 1e-5;
/** float16 rounds to 2⁻¹¹ at each of the dozen activations between two layers, three layers deep. */
const HALF = 5e-3;

const native = await testDevice();
const device = await testDevice('hardware');

// The short way of decoding is for GPUs: here its kernels run on whatever adapter there is.
describe.each(MODEL_KINDS)('%s decoding in few dispatches', (kind) => {
  it.each(device.info.float16 ? (['float32', 'float16'] as const) : (['float32'] as const))(
    'agrees with a pass over all tokens (%s)',
    async (computeDType) => {
      const before = device.statistics().liveBuffers;
      const exact = smallModel(native, kind);
      const model = smallModel(device, kind, 1, { computeDType });
      const rows = [randomIds(LENGTH, 5), randomIds(LENGTH, 6)];
      const whole = await hiddenStates(exact, { ids: rows });
      const cache = model.newCache(rows.length, LENGTH);
      const width = model.hiddenSize;
      const limit = computeDType === 'float32' ? FLOAT : HALF;
      for (let start = 0; start < LENGTH; ) {
        const size = start === 0 ? PROMPT : 1;
        const end = start + size;
        const positions = rows.map(() => range(size, start));
        const part = await hiddenStates(model, { ids: rows.map((ids) => ids.slice(start, end)), positions }, cache);
        const wanted = rows.flatMap((_, row) => [
          ...whole.slice((row * LENGTH + start) * width, (row * LENGTH + end) * width),
        ]);
        expect(relativeError(part, wanted), `tokens ${start} to ${end}`).toBeLessThan(limit);
        start = end;
      }
      cache.dispose();
      exact.dispose();
      model.dispose();
      expect(device.statistics().liveBuffers).toBe(before);
    },
  );
});
