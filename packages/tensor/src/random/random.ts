/** A generator's state, to be stored and restored: four 32-bit words. */
export type RandomState = readonly [number, number, number, number];

/**
 * A seeded generator of random numbers (xoshiro128**, Blackman and Vigna), the same on every machine. Its state can be
 * saved, so that a resumed run draws what an uninterrupted one would have drawn.
 */
export class Random {
  private s: [number, number, number, number];

  /** @param seed any integer; seeded through splitmix32, so that neighbouring seeds are unrelated */
  constructor(seed: number) {
    let z = seed >>> 0;
    const next = () => {
      z = (z + 0x9e3779b9) >>> 0;
      let t = z ^ (z >>> 16);
      t = Math.imul(t, 0x21f0aaad);
      t ^= t >>> 15;
      t = Math.imul(t, 0x735a2d97);
      return (t ^ (t >>> 15)) >>> 0;
    };
    this.s = [next(), next(), next(), next()];
  }

  /** A generator that goes on from a saved state. */
  static from(state: RandomState): Random {
    const random = new Random(0);
    random.s = [...state];
    return random;
  }

  /**
   * The generator of one epoch of a run: a function of seed and epoch alone, so that a resumed run needs no history.
   *
   * @param epoch counted from 0
   */
  static forEpoch(seed: number, epoch: number): Random {
    return new Random(new Random(seed).next() ^ Math.imul(epoch + 1, 0x9e3779b1));
  }

  /** The state, to be given to {@link Random.from}. */
  get state(): RandomState {
    return [...this.s];
  }

  /** A uniform 32-bit unsigned integer. */
  next(): number {
    const s = this.s;
    const x = Math.imul(s[1], 5);
    const result = Math.imul((x << 7) | (x >>> 25), 9) >>> 0;
    const t = s[1] << 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = (s[3] << 11) | (s[3] >>> 21);
    return result;
  }

  /** Uniform in [0, 1), with 32 random bits. */
  uniform(): number {
    return this.next() / 4294967296;
  }

  /** Standard normal (Box–Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** A uniform integer in [0, n), without bias. */
  integer(n: number): number {
    const limit = 4294967296 - (4294967296 % n);
    let value = this.next();
    while (value >= limit) value = this.next();
    return value % n;
  }

  /** Shuffles in place (Fisher–Yates) and returns its argument. */
  shuffle<T>(items: T[]): T[] {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [items[i], items[j]] = [items[j] as T, items[i] as T];
    }
    return items;
  }

  /** An independent generator, derived from this one's next number. */
  fork(): Random {
    return new Random(this.next());
  }
}
