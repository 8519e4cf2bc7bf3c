import { Random } from '@zebra/tensor';

/** The generator of one case: any case can be made again from the run's seed and the case's number alone. */
export function caseRandom(seed: number, index: number): Random {
  // The first draw of a generator spreads neighbouring numbers; xor keeps two seeds from meeting one case apart.
  return new Random(new Random(seed).next() ^ new Random(index + 0x51ed).next());
}

/** One of a list. */
export function pick<T>(random: Random, items: readonly T[]): T {
  return items[random.integer(items.length)] as T;
}

/** True once in so many times. */
export function oneIn(random: Random, times: number): boolean {
  return random.integer(times) === 0;
}
