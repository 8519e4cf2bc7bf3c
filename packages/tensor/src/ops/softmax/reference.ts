import type { Reference } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';

/** Calls `f` with the first index and the length of each row. */
function eachRow(x: HostTensor, f: (start: number, columns: number) => void): void {
  const columns = x.shape[x.shape.length - 1]!;
  for (let start = 0; start < x.data.length; start += columns) f(start, columns);
}

function forward(x: HostTensor, logarithm: boolean): HostTensor {
  const y = hostTensor(x.shape);
  eachRow(x, (start, columns) => {
    let high = -Infinity;
    for (let c = 0; c < columns; c++) high = Math.max(high, x.data[start + c]!);
    let sum = 0;
    if (high > -Infinity) for (let c = 0; c < columns; c++) sum += Math.exp(x.data[start + c]! - high);
    for (let c = 0; c < columns; c++) {
      const v = x.data[start + c]!;
      if (sum === 0) y.data[start + c] = logarithm ? -Infinity : 0;
      else y.data[start + c] = logarithm ? v - high - Math.log(sum) : Math.exp(v - high) / sum;
    }
  });
  return y;
}

/** Float64 twin of softmax, or of logSoftmax. */
export function softmaxReference(logarithm: boolean): Reference<Record<never, never>> {
  return {
    forward: ([x]) => [forward(x!, logarithm)],
    backward([x], _attributes, [g]) {
      const y = forward(x!, logarithm);
      const d = hostTensor(x!.shape);
      eachRow(x!, (start, columns) => {
        let sum = 0;
        for (let c = 0; c < columns; c++) sum += g!.data[start + c]! * (logarithm ? 1 : y.data[start + c]!);
        for (let c = 0; c < columns; c++) {
          const v = y.data[start + c]!;
          const upstream = g!.data[start + c]!;
          d.data[start + c] = logarithm ? upstream - Math.exp(v) * sum : v * (upstream - sum);
        }
      });
      return [d];
    },
  };
}
