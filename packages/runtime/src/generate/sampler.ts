import { Random, ZebraError } from '@zebra/tensor';

/** How the next token is chosen from the logits. */
export interface SamplingOptions {
  /** Divides the logits; 0 takes the most probable token. Default 0. */
  readonly temperature?: number;
  /** Sample among this many most probable tokens. Default: all. */
  readonly topK?: number;
  /** Sample among the most probable tokens that have this probability together, after `topK`. Default 1. */
  readonly topP?: number;
  /** Seed of the random numbers. Every row has its own, so that a row does not depend on its neighbours. Default 0. */
  readonly seed?: number;
}

/** Checks the options of sampling. Throws ZebraError `argument`. */
export function checkSampling(operation: string, options: SamplingOptions): void {
  const { temperature = 0, topK, topP = 1, seed = 0 } = options;
  const fail = (name: string, expected: string, got: number): never => {
    throw new ZebraError('argument', `${operation}: ${name} must be ${expected}, got ${got}`);
  };
  if (!(temperature >= 0 && Number.isFinite(temperature))) fail('temperature', 'a number of at least 0', temperature);
  if (topK !== undefined && !(Number.isSafeInteger(topK) && topK >= 1)) fail('topK', 'a positive integer', topK);
  if (!(topP > 0 && topP <= 1)) fail('topP', 'above 0 and at most 1', topP);
  if (!Number.isSafeInteger(seed)) fail('seed', 'an integer', seed);
}

/** One sampler a row. */
export function samplersFor(rows: number, options: SamplingOptions): Sampler[] {
  const seeds = new Random(options.seed ?? 0);
  return Array.from({ length: rows }, () => new Sampler(options, seeds.fork()));
}

/** Chooses tokens from logits. */
export class Sampler {
  private readonly temperature: number;
  private readonly topK: number;
  private readonly topP: number;
  private readonly random: Random;

  constructor(options: SamplingOptions, random: Random) {
    this.temperature = options.temperature ?? 0;
    this.topK = options.topK ?? Number.POSITIVE_INFINITY;
    this.topP = options.topP ?? 1;
    this.random = random;
  }

  /** Always the most probable token. */
  get greedy(): boolean {
    return this.temperature === 0 || this.topK === 1;
  }

  /**
   * The id of the next token. On ties the lower id is the more probable one.
   *
   * @param logits one row; −∞ forbids a token
   * @throws ZebraError `data` for NaN, +∞, or a row without a finite logit
   */
  sample(logits: Float32Array): number {
    const best = argmax(logits);
    if (this.greedy) return best;
    const top = logits[best]!;
    const weightOf = (id: number) => Math.exp((logits[id]! - top) / this.temperature);
    if (this.topK >= logits.length && this.topP === 1) return this.draw(logits.length, (id) => id, weightOf);
    const candidates = this.candidates(logits, weightOf);
    return this.draw(candidates.length, (index) => candidates[index]!, weightOf);
  }

  /** The most probable tokens, in falling order, as far as topK and topP reach. */
  private candidates(logits: Float32Array, weightOf: (id: number) => number): number[] {
    const heap = new LogitHeap(logits);
    const most = Math.min(this.topK, logits.length);
    let total = 0;
    const candidates: number[] = [];
    if (most < logits.length) {
      // What topP is a part of is the probability of the topK.
      while (candidates.length < most) candidates.push(heap.pop());
      for (const id of candidates) total += weightOf(id);
    } else {
      for (let id = 0; id < logits.length; id++) total += weightOf(id);
    }
    let reached = 0;
    for (let count = 0; count < most; count++) {
      if (count === candidates.length) candidates.push(heap.pop());
      reached += weightOf(candidates[count]!);
      if (reached >= this.topP * total) return candidates.slice(0, count + 1);
    }
    return candidates;
  }

  private draw(count: number, idAt: (index: number) => number, weightOf: (id: number) => number): number {
    let total = 0;
    for (let i = 0; i < count; i++) total += weightOf(idAt(i));
    let left = this.random.uniform() * total;
    let last = idAt(0);
    for (let i = 0; i < count; i++) {
      const weight = weightOf(idAt(i));
      if (weight === 0) continue;
      last = idAt(i);
      left -= weight;
      if (left < 0) return last;
    }
    // Rounding may leave a little more than there is.
    return last;
  }
}

/** The lowest id of the largest logit. Throws ZebraError `data` where there is no such thing. */
export function argmax(logits: Float32Array): number {
  let best = -1;
  let most = Number.NEGATIVE_INFINITY;
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (logit > most) {
      most = logit;
      best = id;
    } else if (Number.isNaN(logit)) {
      throw new ZebraError('data', `sampling: the logit of token ${id} is NaN. Check the weights of the model.`);
    }
  }
  if (best < 0 || most === Number.POSITIVE_INFINITY) {
    throw new ZebraError('data', `sampling: the largest logit is ${most}. Check the weights of the model.`);
  }
  return best;
}

/** Ids by falling logit, on ties by rising id: built in O(V), popped in O(log V). */
class LogitHeap {
  private readonly logits: Float32Array;
  private readonly ids: Int32Array;
  private size: number;

  constructor(logits: Float32Array) {
    this.logits = logits;
    this.size = logits.length;
    this.ids = Int32Array.from({ length: logits.length }, (_, id) => id);
    for (let at = (this.size >> 1) - 1; at >= 0; at--) this.sink(at);
  }

  pop(): number {
    const top = this.ids[0]!;
    this.size--;
    this.ids[0] = this.ids[this.size]!;
    this.sink(0);
    return top;
  }

  private before(a: number, b: number): boolean {
    const [x, y] = [this.logits[a]!, this.logits[b]!];
    return x > y || (x === y && a < b);
  }

  private sink(from: number): void {
    const { ids } = this;
    let at = from;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= this.size) return;
      if (child + 1 < this.size && this.before(ids[child + 1]!, ids[child]!)) child++;
      if (!this.before(ids[child]!, ids[at]!)) return;
      [ids[at], ids[child]] = [ids[child]!, ids[at]!];
      at = child;
    }
  }
}
