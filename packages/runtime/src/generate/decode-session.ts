// Shapes: B rows, T prompt tokens (padding included), D hidden size, V vocabulary.
import {
  argmax,
  keep,
  matmul,
  type Program,
  reshape,
  scope,
  slice,
  sum,
  type Tensor,
  tensor,
  ZebraError,
} from '@zebra/tensor';
import type { Cache, CausalLM } from '@zebra/tensor/nn';
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
 * between its runs (ids, positions) is data in two small tensors, and the cache's own lengths advance on the device.
 */
export class DecodeSession {
  private readonly model: CausalLM;
  private readonly cache: Cache;
  private readonly options: SessionOptions;
  private readonly ids_B1: Tensor;
  private readonly positions_B1: Tensor;
  private readonly segments_B1: Tensor | undefined;
  private readonly positions: Int32Array;
  private program: Program<readonly Tensor[]> | undefined;

  constructor(model: CausalLM, prompts: PromptBatch, capacity: number, options: SessionOptions) {
    const { device } = model;
    const column = (values: Int32Array) => keep(tensor(device, values, [prompts.rows, 1]));
    this.model = model;
    this.options = options;
    this.cache = model.newCache(prompts.rows, capacity);
    this.positions = Int32Array.from(prompts.lengths);
    this.ids_B1 = column(new Int32Array(prompts.rows));
    this.positions_B1 = column(this.positions);
    // Once there is padding in the cache, every later token must say that it is none.
    this.segments_B1 = prompts.segments && column(new Int32Array(prompts.rows));
  }

  /** Runs the prompts. Gives what follows the last token of each. */
  async prefill({ rows, length, ids, positions, segments }: PromptBatch): Promise<Outcome> {
    const { device } = this.model;
    const made = scope(() => {
      const shape = [rows, length];
      const hidden_BTD = this.model.forward(tensor(device, ids, shape), {
        positions: tensor(device, positions, shape),
        ...(segments && { segments: tensor(device, segments, shape) }),
        cache: this.cache,
      });
      return this.choose(slice(hidden_BTD, 1, length - 1, 1));
    });
    return this.readAndDispose(made);
  }

  /** Runs one more token of each row. Gives what follows it. */
  async step(ids: Int32Array): Promise<Outcome> {
    this.ids_B1.write(ids);
    this.positions_B1.write(this.positions);
    for (let row = 0; row < this.positions.length; row++) this.positions[row]!++;
    if (!this.options.recorded) return this.readAndDispose(this.pass());
    this.program ??= this.model.device.capture(() => this.pass());
    this.program.run();
    if (countsReplays(this.cache)) this.cache.noteReplayed(1);
    return this.read(this.program.result);
  }

  dispose(): void {
    for (const item of this.program?.result ?? []) item.dispose();
    this.program?.dispose();
    this.cache.dispose();
    for (const item of [this.ids_B1, this.positions_B1, this.segments_B1]) item?.dispose();
  }

  private pass(): readonly Tensor[] {
    return scope(() => {
      const hidden_B1D = this.model.forward(this.ids_B1, {
        positions: this.positions_B1,
        ...(this.segments_B1 && { segments: this.segments_B1 }),
        cache: this.cache,
      });
      return this.choose(hidden_B1D);
    });
  }

  private choose(hidden_B1D: Tensor): readonly Tensor[] {
    const logits_B1V = matmul(hidden_B1D, this.model.headWeight, { transposeB: true, dtype: 'float32' });
    if (!this.options.greedy) return [keep(logits_B1V)];
    const logits_BV = reshape(logits_B1V, [logits_B1V.shape[0]!, -1]);
    // The sum is there to find out NaN and infinity, which argmax does not see.
    return [keep(argmax(logits_BV)), keep(sum(logits_BV, { axes: [1] }))];
  }

  private async readAndDispose(made: readonly Tensor[]): Promise<Outcome> {
    try {
      return await this.read(made);
    } finally {
      for (const item of made) item.dispose();
    }
  }

  private async read(made: readonly Tensor[]): Promise<Outcome> {
    const [first, sums] = await Promise.all(made.map((item) => item.read()));
    if (!sums) return { logits: first as Float32Array };
    const wrong = sums.findIndex((total) => Number.isNaN(total) || total === Number.POSITIVE_INFINITY);
    if (wrong >= 0) {
      throw new ZebraError(
        'data',
        `generate: row ${wrong} has logits that are not finite. Check the weights of the model.`,
      );
    }
    return { ids: first as Int32Array };
  }
}

/** The library's own cache counts on the host what a recorded pass could not. */
function countsReplays(cache: Cache): cache is Cache & { noteReplayed(tokens: number): void } {
  return 'noteReplayed' in cache && typeof cache.noteReplayed === 'function';
}
