import type { DType } from '../../core/dtype.js';
import { type HostTensor, hostTensor } from '../../core/host.js';

/**
 * Casts in exact arithmetic: float targets keep the value (their rounding is the test's tolerance, so that the
 * gradient of the reference exists), integer targets cut towards zero and clamp to their range; between integers the
 * 32 bits are kept.
 */
export function castReference(x: HostTensor, from: DType, to: DType): HostTensor {
  return hostTensor(
    x.shape,
    x.data.map((value) => castValue(value, from, to)),
  );
}

function castValue(value: number, from: DType, to: DType): number {
  if (to !== 'int32' && to !== 'uint32') return value;
  if (from === 'int32' || from === 'uint32') return to === 'int32' ? value | 0 : value >>> 0;
  const [low, high] = to === 'int32' ? [-(2 ** 31), 2 ** 31 - 1] : [0, 2 ** 32 - 1];
  return Math.min(Math.max(Math.trunc(value), low), high);
}
