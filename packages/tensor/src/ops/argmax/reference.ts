import type { Reference } from '../../core/define-op.js';
import { hostTensor } from '../../core/host.js';

/** Host twin of argmax. */
export const argmaxReference: Reference<Record<never, never>> = {
  forward([x]) {
    const columns = x!.shape[x!.shape.length - 1]!;
    const y = hostTensor(x!.shape.length > 1 ? x!.shape.slice(0, -1) : [1]);
    for (let row = 0; row < y.data.length; row++) {
      let best = 0;
      for (let c = 1; c < columns; c++) if (x!.data[row * columns + c]! > x!.data[row * columns + best]!) best = c;
      y.data[row] = best;
    }
    return [y];
  },
};
