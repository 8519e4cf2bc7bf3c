import { type HostTensor, hostTensor } from '../../core/host.js';

/** Host twin of cacheWrite, as a new tensor: what `target` [B, C, R...] holds after `source` [B, T, R...] is written. */
export function cacheWriteReference(target: HostTensor, source: HostTensor, length: number): HostTensor {
  const [batches, capacity] = target.shape as [number, number];
  const tokens = source.shape[1]!;
  const row = target.data.length / (batches * capacity);
  const out = hostTensor(target.shape, target.data);
  for (let b = 0; b < batches; b++) {
    for (let t = 0; t < tokens; t++) {
      const position = length + t;
      if (position < 0 || position >= capacity) continue;
      for (let r = 0; r < row; r++) {
        out.data[(b * capacity + position) * row + r] = source.data[(b * tokens + t) * row + r]!;
      }
    }
  }
  return out;
}
