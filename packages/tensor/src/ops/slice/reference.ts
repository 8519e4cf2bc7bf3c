import { type HostTensor, hostTensor } from '../../core/host.js';
import { aroundAxis, withSize } from './axis.js';

/** Positions [start, start + length) of `x` along an axis; positions outside of `x` are zero. */
export function sliceReference(x: HostTensor, axis: number, start: number, length: number): HostTensor {
  const out = hostTensor(withSize(x.shape, axis, length));
  const { outer, inner } = aroundAxis(x.shape, axis);
  const size = x.shape[axis]!;
  for (let o = 0; o < outer; o++) {
    for (let l = 0; l < length; l++) {
      const from = start + l;
      if (from < 0 || from >= size) continue;
      for (let r = 0; r < inner; r++) out.data[(o * length + l) * inner + r] = x.data[(o * size + from) * inner + r]!;
    }
  }
  return out;
}

/** Tensors one after the other along an axis. */
export function concatReference(parts: readonly HostTensor[], axis: number): HostTensor {
  const size = parts.reduce((sum, part) => sum + part.shape[axis]!, 0);
  const out = hostTensor(withSize(parts[0]!.shape, axis, size));
  const { outer, inner } = aroundAxis(out.shape, axis);
  let start = 0;
  for (const part of parts) {
    const length = part.shape[axis]!;
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < length * inner; i++) {
        out.data[(o * size + start) * inner + i] = part.data[o * length * inner + i]!;
      }
    }
    start += length;
  }
  return out;
}
