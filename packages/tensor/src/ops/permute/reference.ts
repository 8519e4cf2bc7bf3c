import { type HostTensor, hostTensor } from '../../core/host.js';

/** Reorders dimensions: dimension d of the result is dimension order[d] of `x`. */
export function permuteReference(x: HostTensor, order: readonly number[]): HostTensor {
  const out = hostTensor(order.map((d) => x.shape[d]!));
  for (let i = 0; i < out.data.length; i++) {
    let rest = i;
    const at = new Array<number>(order.length).fill(0);
    for (let d = order.length - 1; d >= 0; d--) {
      at[order[d]!] = rest % out.shape[d]!;
      rest = Math.floor(rest / out.shape[d]!);
    }
    out.data[i] = x.data[at.reduce((index, c, d) => index * x.shape[d]! + c, 0)]!;
  }
  return out;
}
