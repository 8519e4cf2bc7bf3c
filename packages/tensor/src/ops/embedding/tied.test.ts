import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { relativeError, testDevice } from '../../testing/index.js';
import { matmul } from '../matmul/index.js';
import { sum } from '../reduce/index.js';
import { embedding } from './index.js';

describe('a table that is the head too', () => {
  it('has its gradients added up in place', async () => {
    for (const variant of ['native', 'hardware'] as const) {
      const device = await testDevice(variant);
      const values = Array.from({ length: 40 * 8 }, (_, i) => Math.sin(i));
      const table = tensor(device, values, [40, 8]);
      const copy = tensor(device, values, [40, 8]);
      const ids = tensor(device, [3, 5, 3, 39, 0, 3, 3, 3, 3, 3, 3, 3, 3], [13], { dtype: 'int32' });
      const loss = (head: typeof table) => sum(matmul(embedding(table, ids), head, { transposeB: true }));
      const tied = valueAndGradients(() => loss(table), [table]);
      const apart = valueAndGradients(() => loss(copy), [table, copy]);
      const [one, other] = [await apart.gradients[0]!.read(), await apart.gradients[1]!.read()];
      expect(
        relativeError(
          await tied.gradients[0]!.read(),
          one.map((v, i) => v + other[i]!),
        ),
      ).toBeLessThan(1e-6);
      const unshared = (heads: readonly (typeof table)[]) => {
        const program = device.capture(() => {
          const { value, gradients } = valueAndGradients(() => loss(heads.at(-1)!), heads);
          for (const item of [value, ...gradients]) item?.dispose();
        });
        program.dispose();
        return program.statistics.unsharedBytes;
      };
      // Apart there are two gradients of a table's size; tied, the embedding's is added to the head's.
      expect(unshared([table, copy]) - unshared([table])).toBeGreaterThanOrEqual(table.byteLength);
      const made = [tied.value, ...tied.gradients, apart.value, ...apart.gradients];
      for (const item of [table, copy, ids, ...made]) item?.dispose();
    }
  });
});
