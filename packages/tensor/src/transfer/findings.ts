import { allocateTensor } from '../core/define-op.js';
import { keep } from '../core/scope.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';

/** What a conversion met on its way. */
export interface ConversionFindings {
  /** An infinity or a NaN was among the elements. */
  readonly notFinite: boolean;
  /** A finite element is too large for the new type, and became an infinity. */
  readonly overflow: boolean;
}

/** Words of flags on the device, two an item, all zero. */
export function newFlags(device: Device, items: number): Tensor {
  const flags = keep(allocateTensor(device, { shape: [2 * Math.max(1, items)], dtype: 'uint32' }));
  device.clear({ storage: flags.storage, offset: 0, size: flags.storage.byteLength });
  return flags;
}

/** Reads the flags back once everything before has run. */
export async function readFlags(flags: Tensor, items: number): Promise<ConversionFindings[]> {
  const words = await flags.read();
  return Array.from({ length: items }, (_, i) => ({
    notFinite: words[2 * i] !== 0,
    overflow: words[2 * i + 1] !== 0,
  }));
}
