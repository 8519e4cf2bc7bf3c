import { type HostTensor, hostTensor } from '../../core/host.js';
import { isSelected, type Selection } from './selection.js';

/** [N, V] logits in float64: hidden · headᵀ, or the logits given, with all leading dimensions as one. */
export function logitsReference(x: HostTensor, head: HostTensor | undefined): HostTensor {
  const width = x.shape[x.shape.length - 1]!;
  const rows = x.data.length / width;
  if (!head) return { shape: [rows, width], data: x.data };
  const columns = head.shape[0]!;
  const logits = hostTensor([rows, columns]);
  for (let n = 0; n < rows; n++) {
    for (let v = 0; v < columns; v++) {
      let sum = 0;
      for (let d = 0; d < width; d++) sum += x.data[n * width + d]! * head.data[v * width + d]!;
      logits.data[n * columns + v] = sum;
    }
  }
  return logits;
}

/** Gradients of hidden states and head (or of the logits given) from that of the logits. */
export function logitsGradientReference(
  x: HostTensor,
  head: HostTensor | undefined,
  gradient: HostTensor,
): [HostTensor, HostTensor | undefined] {
  if (!head) return [{ shape: x.shape, data: gradient.data }, undefined];
  const [columns, width] = head.shape as [number, number];
  const dx = hostTensor(x.shape);
  const dHead = hostTensor(head.shape);
  for (let n = 0; n < x.data.length / width; n++) {
    for (let v = 0; v < columns; v++) {
      const g = gradient.data[n * columns + v]!;
      for (let d = 0; d < width; d++) {
        dx.data[n * width + d]! += g * head.data[v * width + d]!;
        dHead.data[v * width + d]! += g * x.data[n * width + d]!;
      }
    }
  }
  return [dx, dHead];
}

/** Logarithms of the softmax of one row, after division by the temperature. */
export function logSoftmaxRow(logits: HostTensor, row: number, temperature = 1): Float64Array {
  const columns = logits.shape[1]!;
  const scaled = logits.data.slice(row * columns, (row + 1) * columns).map((v) => v / temperature);
  let high = -Infinity;
  for (const v of scaled) high = Math.max(high, v);
  let sum = 0;
  for (const v of scaled) sum += Math.exp(v - high);
  const shift = high + Math.log(sum);
  return scaled.map((v) => v - shift);
}

/** Indices of the rows that count. */
export function selectedRows(count: number, selection: Selection | undefined, by: HostTensor | undefined): number[] {
  const all = Array.from({ length: count }, (_, n) => n);
  return by ? all.filter((n) => isSelected(selection, by.data[n]!)) : all;
}
