import { describeOrigin, type StorageOrigin } from './storage.js';

interface Item {
  readonly byteLength: number;
  readonly origin?: StorageOrigin | undefined;
}

/** Items that a message names, of what is wanted and of what is taken. */
const NAMED = 5;

const UNITS = ['bytes', 'KiB', 'MiB', 'GiB'] as const;

/** A number of bytes for people. */
function showBytes(bytes: number): string {
  const unit = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  const value = bytes / 1024 ** unit;
  return `${unit === 0 ? value : value.toFixed(value < 10 ? 2 : 1)} ${UNITS[unit]}`;
}

/** The largest items, those of one name and size as one: `24 × linear float16 [8192, 2048] of 32.0 MiB`. */
function showLargest(items: Iterable<Item>): string {
  const groups = new Map<string, { name: string; byteLength: number; count: number }>();
  for (const { byteLength, origin } of items) {
    const name = describeOrigin(origin);
    const key = `${name} ${byteLength}`;
    const group = groups.get(key) ?? { name, byteLength, count: 0 };
    group.count++;
    groups.set(key, group);
  }
  const largest = [...groups.values()].sort((a, b) => b.byteLength * b.count - a.byteLength * a.count).slice(0, NAMED);
  return largest
    .map(({ name, byteLength, count }) => `${count > 1 ? `${count} × ` : ''}${name} of ${showBytes(byteLength)}`)
    .join('; ');
}

/** Says what does not fit, and what takes the memory. */
export function outOfMemoryMessage(
  { wanted, taken, memoryLimit }: { readonly wanted: number; readonly taken: number; readonly memoryLimit?: number },
  items: readonly Item[],
  live: Iterable<Item>,
): string {
  const limit = memoryLimit === undefined ? 'the GPU has no memory left' : `memoryLimit is ${showBytes(memoryLimit)}`;
  const others = showLargest(live);
  return [
    `${showBytes(wanted)} were asked for besides ${showBytes(taken)} in use, but ${limit}.`,
    `Largest of what was asked for: ${showLargest(items)}.`,
    ...(others ? [`Largest in use: ${others}.`] : []),
    'Use smaller batches with gradient accumulation, activation checkpointing, or smaller chunks.',
  ].join(' ');
}
