import type { Reference } from '../../core/define-op.js';
import { hostTensor } from '../../core/host.js';
import { logitsGradientReference, logitsReference, logSoftmaxRow, selectedRows } from '../vocabulary/reference.js';
import type { KlDivergenceAttributes } from './index.js';

/** Float64 twin of {@link klDivergenceOp}. */
export const klDivergenceReference: Reference<KlDivergenceAttributes> = {
  forward([student, studentHead, teacher, teacherHead, by], { selection, temperature }) {
    const s = logitsReference(student!, studentHead);
    const t = logitsReference(teacher!, teacherHead);
    const y = hostTensor(student!.shape.slice(0, -1));
    for (const n of selectedRows(s.shape[0]!, selection, by)) {
      const logQ = logSoftmaxRow(s, n, temperature);
      logSoftmaxRow(t, n, temperature).forEach((logP, column) => {
        y.data[n]! += Math.exp(logP) * (logP - logQ[column]!);
      });
    }
    return [y];
  },
  backward([student, studentHead, teacher, teacherHead, by], { selection, temperature }, [g]) {
    const s = logitsReference(student!, studentHead);
    const t = logitsReference(teacher!, teacherHead);
    const d = hostTensor(s.shape);
    const columns = s.shape[1]!;
    for (const n of selectedRows(s.shape[0]!, selection, by)) {
      const logP = logSoftmaxRow(t, n, temperature);
      logSoftmaxRow(s, n, temperature).forEach((logQ, column) => {
        d.data[n * columns + column] = (g!.data[n]! * (Math.exp(logQ) - Math.exp(logP[column]!))) / temperature;
      });
    }
    return [...logitsGradientReference(student!, studentHead, d), undefined, undefined, undefined];
  },
};
