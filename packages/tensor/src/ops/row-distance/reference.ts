import type { Reference } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';

function distances(a: HostTensor, b: HostTensor): HostTensor {
  const columns = a.shape[a.shape.length - 1]!;
  const lead = a.shape.slice(0, -1);
  const y = hostTensor(lead.length > 0 ? lead : [1]);
  for (let n = 0; n < y.data.length; n++) {
    let sum = 0;
    for (let c = 0; c < columns; c++) sum += (a.data[n * columns + c]! - b.data[n * columns + c]!) ** 2;
    y.data[n] = Math.sqrt(sum);
  }
  return y;
}

/** Float64 twin of the distance of rows. */
export const rowDistanceReference: Reference<Record<never, never>> = {
  forward: ([a, b]) => [distances(a!, b!)],
  backward([a, b], _attributes, [g]) {
    const y = distances(a!, b!);
    const columns = a!.shape[a!.shape.length - 1]!;
    const da = hostTensor(a!.shape);
    for (let i = 0; i < da.data.length; i++) {
      const n = Math.floor(i / columns);
      if (y.data[n]! > 0) da.data[i] = (g!.data[n]! * (a!.data[i]! - b!.data[i]!)) / y.data[n]!;
    }
    return [
      da,
      hostTensor(
        b!.shape,
        da.data.map((v) => -v),
      ),
    ];
  },
};
