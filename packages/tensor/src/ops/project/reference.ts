import type { Reference } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';
import type { ProjectAttributes } from './index.js';

const silu = (v: number) => v / (1 + Math.exp(-v));

/** Float64 twin of project. */
export const projectReference: Reference<ProjectAttributes> = {
  forward([x, w0, w1, w2, norm, residual], { start, eps, gated }) {
    const weights = [w0, w1, w2].filter((weight) => weight !== undefined);
    const [size, width] = [w0!.shape[1]!, x!.shape.at(-1)!];
    const rows = x!.data.length / width;
    const made = hostTensor([rows, gated ? w0!.shape[0]! : weights.reduce((sum, w) => sum + w.shape[0]!, 0)]);
    const columns = made.shape[1]!;
    for (let m = 0; m < rows; m++) {
      const row = x!.data.slice(m * width + start, m * width + start + size);
      if (norm) {
        const factor = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / size + eps);
        row.forEach((v, k) => {
          row[k] = v * factor * norm.data[k]!;
        });
      }
      const of = (weight: HostTensor, n: number) => row.reduce((sum, v, k) => sum + v * weight.data[n * size + k]!, 0);
      let at = m * columns;
      for (const weight of gated ? [w0!] : weights) {
        for (let n = 0; n < weight.shape[0]!; n++, at++) {
          const value = gated ? silu(of(w0!, n)) * of(w1!, n) : of(weight, n);
          made.data[at] = value + (residual?.data[at] ?? 0);
        }
      }
    }
    return [hostTensor([...x!.shape.slice(0, -1), columns], made.data)];
  },
};
