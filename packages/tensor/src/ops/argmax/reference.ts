import type { Reference } from '../../core/define-op.js';
import { hostTensor } from '../../core/host.js';
import type { ArgmaxOptions } from './index.js';

/** Host twin of argmax. */
export const argmaxReference: Reference<ArgmaxOptions> = {
  forward([x], { finite }) {
    const columns = x!.shape[x!.shape.length - 1]!;
    const y = hostTensor(x!.shape.length > 1 ? x!.shape.slice(0, -1) : [1]);
    for (let row = 0; row < y.data.length; row++) {
      let best = 0;
      for (let c = 1; c < columns; c++) if (x!.data[row * columns + c]! > x!.data[row * columns + best]!) best = c;
      const values = x!.data.subarray(row * columns, (row + 1) * columns);
      const bad = finite && values.some((value) => Number.isNaN(value) || value === Number.POSITIVE_INFINITY);
      y.data[row] = bad ? -1 : best;
    }
    return [y];
  },
};
