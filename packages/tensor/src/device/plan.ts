/** When a piece of memory is needed: from one command to another, both included. */
export interface Lifetime<T> {
  readonly item: T;
  readonly byteLength: number;
  readonly first: number;
  readonly last: number;
}

/** Memory that several items take one after the other. */
export interface Slot<T> {
  readonly byteLength: number;
  readonly items: readonly T[];
}

/**
 * Shares memory between items that are never needed at once: the largest get theirs first, and each takes the smallest
 * slot that is free for its whole life. An item has a slot from its start, never a range of one, because WebGPU forbids
 * one buffer as read-only and as writable in one dispatch. On the training step of a Transformer that needs a
 * twelfth more than the most that is alive at once; going through the commands in order, with the best fit among what is
 * free at each, needed two fifths more.
 */
export function shareMemory<T>(lifetimes: readonly Lifetime<T>[]): Slot<T>[] {
  const slots: { byteLength: number; items: T[]; taken: Lifetime<T>[] }[] = [];
  const bySize = [...lifetimes].sort((a, b) => b.byteLength - a.byteLength || a.first - b.first);
  for (const life of bySize) {
    let best: (typeof slots)[number] | undefined;
    // Slots are made in order of size: the last one that is free is the smallest.
    for (let i = slots.length - 1; i >= 0 && !best; i--) if (isFree(slots[i]!.taken, life)) best = slots[i];
    if (!best) {
      best = { byteLength: life.byteLength, items: [], taken: [] };
      slots.push(best);
    }
    best.items.push(life.item);
    best.taken.splice(placeOf(best.taken, life.first), 0, life);
  }
  return slots;
}

/** Where a lifetime that begins at `first` belongs among others in order that do not overlap. */
function placeOf<T>(taken: readonly Lifetime<T>[], first: number): number {
  let low = 0;
  let high = taken.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (taken[middle]!.first < first) low = middle + 1;
    else high = middle;
  }
  return low;
}

function isFree<T>(taken: readonly Lifetime<T>[], { first, last }: Lifetime<T>): boolean {
  const place = placeOf(taken, first);
  const before = taken[place - 1];
  const after = taken[place];
  return (!before || before.last < first) && (!after || after.first > last);
}

/** The most that is alive at once: no sharing needs less. */
export function mostAlive<T>(lifetimes: readonly Lifetime<T>[]): number {
  const changes = lifetimes.flatMap(({ first, last, byteLength }) => [
    { at: first, bytes: byteLength },
    { at: last + 1, bytes: -byteLength },
  ]);
  // At one command the ends come first.
  changes.sort((a, b) => a.at - b.at || a.bytes - b.bytes);
  let alive = 0;
  let most = 0;
  for (const { bytes } of changes) {
    alive += bytes;
    most = Math.max(most, alive);
  }
  return most;
}
