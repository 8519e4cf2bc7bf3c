import { wgslBytes } from '../core/dtype.js';
import type { DispatchOptions } from './device.js';
import type { Kernel, KernelVariant } from './kernel.js';
import type { StorageRange } from './storage.js';

/** Bindings begin at multiples of so many bytes on every adapter. */
const ALIGNMENT = 256;

/** Bytes of each piece, but the last, of a range that is larger than `limit`, the bytes that an adapter binds at once. */
export function pieceBytes(limit: number): number {
  return Math.floor(limit / ALIGNMENT) * ALIGNMENT;
}

/** In how many pieces so many bytes are bound: one, where they fit. */
export function pieceCount(bytes: number, limit: number): number {
  return bytes <= limit ? 1 : Math.ceil(bytes / pieceBytes(limit));
}

/** The pieces in which a range is bound. */
export function piecesOf<R extends StorageRange>(range: R, limit: number): readonly R[] {
  const count = pieceCount(range.size, limit);
  if (count === 1) return [range];
  const step = pieceBytes(limit);
  return Array.from({ length: count }, (_, k) => {
    const at = k * step;
    return { ...range, offset: range.offset + at, size: Math.min(step, range.size - at) };
  });
}

/**
 * Cuts a dispatch of an itemwise kernel into several over fewer items, so that each tensor fits one binding. Tensors that
 * fit as they are stay whole.
 */
export function cutByItems(
  kernel: Kernel,
  variant: KernelVariant,
  options: DispatchOptions,
  limit: number,
): readonly DispatchOptions[] {
  const { bindings, params, groups } = options;
  const names = (kernel.itemwise?.(variant.constants) ?? []).filter(variant.has);
  if (!names.some((name) => bindings[name]!.size > limit)) return [options];
  const count = params?.['count'];
  if (count === undefined || typeof groups !== 'number') {
    throw new TypeError(`kernel ${kernel.name}: itemwise kernels have a parameter count, and a number of workgroups`);
  }
  const vectors = kernel.vectors?.(variant) ?? {};
  const itemBytes = (name: string) => wgslBytes(variant.dtype(name)) * (vectors[name] ?? 1);
  const largest = Math.max(...names.map(itemBytes));
  // So many items are a multiple of the alignment whatever their size is.
  const step = Math.max(1, Math.floor(limit / largest / ALIGNMENT)) * ALIGNMENT;
  return Array.from({ length: Math.ceil(count / step) }, (_, k) => {
    const items = Math.min(step, count - k * step);
    const cut = { ...bindings };
    for (const name of names) {
      const range = bindings[name]!;
      const at = k * step * itemBytes(name);
      const size = k * step + items === count ? range.size - at : items * itemBytes(name);
      cut[name] = { ...range, offset: range.offset + at, size };
    }
    const share = Math.ceil((groups * items) / count);
    return { ...options, bindings: cut, params: { ...params, count: items }, groups: share };
  });
}
