import type { Reference } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';

const bounded = (id: number, table: HostTensor) => Math.min(Math.max(id, 0), table.shape[0]! - 1);

/** Float64 twin of embedding. */
export const embeddingReference: Reference<unknown> = {
  forward([table, ids]) {
    const columns = table!.shape[1]!;
    const y = hostTensor([...ids!.shape, columns]);
    ids!.data.forEach((id, i) => {
      for (let c = 0; c < columns; c++) y.data[i * columns + c] = table!.data[bounded(id, table!) * columns + c]!;
    });
    return [y];
  },
  backward([table, ids], _attributes, [g]) {
    const columns = table!.shape[1]!;
    const d = hostTensor(table!.shape);
    ids!.data.forEach((id, i) => {
      for (let c = 0; c < columns; c++) d.data[bounded(id, table!) * columns + c]! += g!.data[i * columns + c]!;
    });
    return [d, undefined];
  },
};
