// Shapes: B rows, T prompt tokens (padding included), D hidden size, V vocabulary.
import {
  advanceAll,
  argmax,
  keep,
  matmul,
  type Program,
  reshape,
  scope,
  slice,
  type Tensor,
  tensor,
  ZebraError,
} from '@zebra/tensor';
import type { Cache, CausalLM } from '@zebra/tensor/nn';
import { type FeedState, feed, RING } from './feed.js';
import type { PromptBatch } from './left-padding.js';

/** What a session gives of each step. */
export interface SessionOptions {
  /** Find the most probable token on the device and read that back, instead of all logits. */
  readonly greedy: boolean;
  /** Record the step and replay it. */
  readonly recorded: boolean;
}

/** What a pass found for each row: the most probable id, or the logits ([B, V] row-major) of a session not greedy. */
export interface Outcome {
  readonly ids?: Int32Array;
  readonly logits?: Float32Array;
}

/**
 * A batch being decoded: one pass over the prompts, then a step a token. The step is recorded once; what changes
 * between its runs is data: the cache's lengths and the positions advance on the device, and so do the ids of a greedy
 * session, which can run several steps before the host has seen the first ({@link DecodeSession.ahead}).
 */
export class DecodeSession {
  private readonly model: CausalLM;
  private readonly cache: Cache;
  private readonly options: SessionOptions;
  private readonly state: FeedState;
  private readonly segments_B1: Tensor | undefined;
  private readonly rows: number;
  /** Tokens chosen on the device. */
  private chosen = 0;
  private program: Program<Tensor | undefined> | undefined;

  constructor(model: CausalLM, prompts: PromptBatch, capacity: number, options: SessionOptions) {
    const { device } = model;
    const { rows, lengths } = prompts;
    const column = (values: Int32Array) => keep(tensor(device, values, [rows, 1]));
    const last = Int32Array.from(lengths, (length) => length - 1);
    this.model = model;
    this.options = options;
    this.rows = rows;
    this.cache = model.newCache(rows, capacity);
    this.state = {
      ids: column(new Int32Array(rows)),
      positions: column(last),
      first: keep(tensor(device, last)),
      ring: keep(tensor(device, new Int32Array(RING * rows), [RING, rows])),
    };
    // Once there is padding in the cache, every later token must say that it is none.
    this.segments_B1 = prompts.segments && column(new Int32Array(rows));
  }

  /** Runs the prompts. Gives what follows the last token of each. */
  async prefill({ rows, length, ids, positions, segments }: PromptBatch): Promise<Outcome> {
    const { device } = this.model;
    const logits = scope(() => {
      const shape = [rows, length];
      const hidden_BTD = this.model.forward(tensor(device, ids, shape), {
        positions: tensor(device, positions, shape),
        ...(segments && { segments: tensor(device, segments, shape) }),
        cache: this.cache,
      });
      return this.choose(slice(hidden_BTD, 1, length - 1, 1));
    });
    return this.outcomeOf(logits, true);
  }

  /** Runs one more token of each row. Gives what follows it. */
  async step(ids: Int32Array): Promise<Outcome> {
    this.state.ids.write(ids);
    return this.outcomeOf(this.run(), !this.options.recorded);
  }

  /**
   * Runs `count` steps, at most {@link RING}, of a greedy session, each on what the one before it chose. They are
   * submitted at once, before the returned promise is waited for.
   *
   * @returns the ids of each step, [B] each
   * @throws ZebraError `data` for logits that are not finite
   */
  async ahead(count: number): Promise<Int32Array[]> {
    const before = this.chosen;
    for (let step = 0; step < count; step++) this.run();
    const ring = (await this.state.ring.read()) as Int32Array;
    return Array.from({ length: count }, (_, step) => this.idsOf(ring, before + step));
  }

  dispose(): void {
    this.program?.result?.dispose();
    this.program?.dispose();
    this.cache.dispose();
    for (const item of [...Object.values(this.state), this.segments_B1]) item?.dispose();
  }

  /** Runs or replays one step. The logits belong to the caller unless it was recorded. */
  private run(): Tensor | undefined {
    if (!this.options.recorded) return this.pass();
    this.program ??= this.model.device.capture(() => this.pass());
    this.program.run();
    if (countsReplays(this.cache)) this.cache.noteReplayed(1);
    this.chosen++;
    return this.program.result;
  }

  private pass(): Tensor | undefined {
    return scope(() => {
      const hidden_B1D = this.model.forward(this.state.ids, {
        positions: this.state.positions,
        ...(this.segments_B1 && { segments: this.segments_B1 }),
        cache: this.cache,
      });
      return this.choose(hidden_B1D);
    });
  }

  /** The logits, or of a greedy session nothing: its ids go to the next step and into the ring. */
  private choose(hidden_B1D: Tensor): Tensor | undefined {
    const logits_B1V = matmul(hidden_B1D, this.model.headWeight, { transposeB: true, dtype: 'float32' });
    const logits_BV = reshape(logits_B1V, [this.rows, -1]);
    if (this.options.greedy) feed(argmax(logits_BV, { finite: true }), this.state);
    else advanceAll(this.state.positions);
    if (!this.model.device.capturing) this.chosen++;
    return this.options.greedy ? undefined : keep(logits_B1V);
  }

  private async outcomeOf(logits: Tensor | undefined, owned: boolean): Promise<Outcome> {
    if (!logits) return { ids: this.idsOf((await this.state.ring.read()) as Int32Array, this.chosen - 1) };
    try {
      return { logits: (await logits.read()) as Float32Array };
    } finally {
      if (owned) logits.dispose();
    }
  }

  private idsOf(ring: Int32Array, number: number): Int32Array {
    const start = (number % RING) * this.rows;
    const ids = ring.slice(start, start + this.rows);
    const wrong = ids.indexOf(-1);
    if (wrong >= 0) {
      throw new ZebraError(
        'data',
        `generate: row ${wrong} has logits that are not finite. Check the weights of the model.`,
      );
    }
    return ids;
  }
}

/** The library's own cache counts on the host what a recorded pass could not. */
function countsReplays(cache: Cache): cache is Cache & { noteReplayed(tokens: number): void } {
  return 'noteReplayed' in cache && typeof cache.noteReplayed === 'function';
}
