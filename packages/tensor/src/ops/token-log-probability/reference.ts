import type { Reference } from '../../core/define-op.js';
import { hostTensor } from '../../core/host.js';
import { logitsGradientReference, logitsReference, logSoftmaxRow, selectedRows } from '../vocabulary/reference.js';
import type { TokenLogProbabilityAttributes } from './index.js';

/** Float64 twin of {@link tokenLogProbabilityOp}. */
export const tokenLogProbabilityReference: Reference<TokenLogProbabilityAttributes> = {
  forward([x, head, targets], { sign, ignoreIndex }) {
    const logits = logitsReference(x!, head);
    const [rows, vocabulary] = logits.shape as [number, number];
    const y = hostTensor(targets!.shape);
    for (const n of selectedRows(rows, { kind: 'targets', ignoreIndex, vocabulary }, targets)) {
      y.data[n] = sign * logSoftmaxRow(logits, n)[targets!.data[n]!]!;
    }
    return [y];
  },
  backward([x, head, targets], { sign, ignoreIndex }, [g]) {
    const logits = logitsReference(x!, head);
    const [rows, vocabulary] = logits.shape as [number, number];
    const d = hostTensor(logits.shape);
    for (const n of selectedRows(rows, { kind: 'targets', ignoreIndex, vocabulary }, targets)) {
      logSoftmaxRow(logits, n).forEach((v, column) => {
        const hit = column === targets!.data[n] ? 1 : 0;
        d.data[n * vocabulary + column] = sign * g!.data[n]! * (hit - Math.exp(v));
      });
    }
    return [...logitsGradientReference(x!, head, d), undefined];
  },
};
