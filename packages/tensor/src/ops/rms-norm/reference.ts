import type { Reference } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';
import type { RmsNormAttributes } from './index.js';

function rowScale(x: HostTensor, row: number, eps: number): number {
  const columns = x.shape[x.shape.length - 1]!;
  let squares = 0;
  for (let c = 0; c < columns; c++) squares += x.data[row * columns + c]! ** 2;
  return 1 / Math.sqrt(squares / columns + eps);
}

/** Float64 twin of rmsNorm: the normalised rows, and the factor of each row that the gradient uses. */
export const rmsNormReference: Reference<RmsNormAttributes> = {
  forward([x, weight], { eps }) {
    const columns = x!.shape[x!.shape.length - 1]!;
    const y = hostTensor(x!.shape);
    const factors = hostTensor([x!.data.length / columns]);
    for (let row = 0; row < factors.data.length; row++) {
      const factor = rowScale(x!, row, eps);
      factors.data[row] = factor;
      for (let c = 0; c < columns; c++) {
        y.data[row * columns + c] = x!.data[row * columns + c]! * factor * (weight ? weight.data[c]! : 1);
      }
    }
    return [y, factors];
  },
  backward([x, weight], { eps }, [g]) {
    const columns = x!.shape[x!.shape.length - 1]!;
    const dx = hostTensor(x!.shape);
    const dWeight = weight && hostTensor(weight.shape);
    for (let row = 0; row < x!.data.length / columns; row++) {
      const factor = rowScale(x!, row, eps);
      let dot = 0;
      for (let c = 0; c < columns; c++) {
        const at = row * columns + c;
        dot += g!.data[at]! * (weight ? weight.data[c]! : 1) * x!.data[at]!;
        if (dWeight) dWeight.data[c]! += g!.data[at]! * x!.data[at]! * factor;
      }
      for (let c = 0; c < columns; c++) {
        const at = row * columns + c;
        const w = weight ? weight.data[c]! : 1;
        dx.data[at] = factor * g!.data[at]! * w - (x!.data[at]! * factor ** 3 * dot) / columns;
      }
    }
    return [dx, dWeight];
  },
};
