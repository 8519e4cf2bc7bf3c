import { perplexity } from '@zebra/runtime';
import type { Device } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { Budget, type StageName, TITLES } from './budget.js';
import { type DemoData, sampleOf } from './data.js';
import type { DemoOptions } from './options.js';
import type { ProgressState } from './progress.js';
import { type DemoRecipe, EVALUATION_LENGTH, recipeFor } from './recipe.js';

/** What a run may be given by whoever starts it. */
export interface DemoHooks {
  /** Draws the progress line. */
  readonly show?: (state: ProgressState) => void;
  /** Runs on this device and leaves it open. Default: opens one by the options, and closes it. */
  readonly device?: Device;
  /** Sizes to use instead of those for the adapter's speed. */
  readonly recipe?: DemoRecipe;
  /** Most tokens to train on. Default: by the adapter. */
  readonly trainTokens?: number;
}

/** A part of a stage's progress, from and to. */
export type Span = readonly [from: number, to: number];

/** What all parts of a run share: the device, the data, the sizes, and how far it is. */
export class DemoRun {
  readonly device: Device;
  readonly options: DemoOptions;
  readonly budget: Budget;
  readonly hooks: DemoHooks;
  data!: DemoData;
  recipe!: DemoRecipe;
  /** Held-out pieces of documents: every model's loss is taken on them. */
  validation!: readonly Uint16Array[];
  /** Tokens a second of the teacher's forward pass with its loss. */
  forwardRate = 0;
  private stage: StageName = 'open';

  constructor(device: Device, options: DemoOptions, hooks: DemoHooks) {
    this.device = device;
    this.options = options;
    this.hooks = hooks;
    this.budget = new Budget(options.seconds);
  }

  /** Begins a part of the run. */
  enter(stage: StageName): void {
    this.budget.begin(stage);
    this.stage = stage;
    this.progress(0);
  }

  /** Shows how far the part at hand is, from 0 to 1. */
  progress(share: number, detail?: string): void {
    const state = { title: TITLES[this.stage], pace: this.budget.pace(share) };
    this.hooks.show?.(detail === undefined ? state : { ...state, detail });
  }

  /** Mean next-token loss over the validation sample, nats. */
  async loss(model: CausalLM, [from, to]: Span): Promise<number> {
    const { evaluationRows: batchSize, evaluationLength: length } = this.recipe;
    const onProgress = ({ done, total }: { done: number; total: number }) =>
      this.progress(from + ((to - from) * done) / total, 'validation loss');
    return (await perplexity(model, this.validation, { batchSize, length, onProgress })).nats;
  }

  /** Measures the teacher's forward pass, and chooses the sizes of everything by it. */
  async chooseRecipe(teacher: CausalLM): Promise<void> {
    const { hooks, options, data } = this;
    const time = async (tokens: number): Promise<number> => {
      const documents = sampleOf(data.validation, { length: EVALUATION_LENGTH, tokens, seed: options.seed + 7 });
      const begun = performance.now();
      await perplexity(teacher, documents, { batchSize: tokens / EVALUATION_LENGTH, length: EVALUATION_LENGTH });
      return (performance.now() - begun) / 1000;
    };
    // The first pass compiles; a fast adapter needs a larger one to show its speed.
    await time(EVALUATION_LENGTH);
    let tokens = 2 * EVALUATION_LENGTH;
    let seconds = await time(tokens);
    if (seconds < 0.1) {
      tokens = 32 * EVALUATION_LENGTH;
      seconds = await time(tokens);
    }
    this.forwardRate = tokens / seconds;
    this.recipe = hooks.recipe ?? recipeFor(this.forwardRate, { full: options.full, fixed: options.steps });
    const { validationTokens } = this.recipe;
    this.validation = sampleOf(data.validation, {
      length: EVALUATION_LENGTH,
      tokens: validationTokens,
      seed: options.seed,
    });
    this.expectTimes(teacher.layerCount);
  }

  /** What the parts that do not train will take, from the measured speed. */
  private expectTimes(layers: number): void {
    const { recipe, forwardRate, budget } = this;
    const pass = recipe.validationTokens / forwardRate;
    // Compiling a stage's kernels for the first time, on a software adapter.
    const compiling = this.device.info.software ? 3 : 1;
    const pairTokens = (pairs: number) => 2 * pairs * recipe.pairs.length;
    budget.expect('teacher', pass);
    budget.expect('mla', 2 * pass + compiling);
    budget.expect('mamba2', 2 * pass + compiling);
    // Half of the layers squared, and the head once a layer for both models.
    budget.expect('smart', ((layers / 2 + 3) * recipe.calibrationTokens) / forwardRate);
    budget.expect('distillation', 3 * pass + compiling);
    budget.expect('pairs', pairTokens(recipe.pairs.train + recipe.pairs.evaluation) / forwardRate + 1);
    budget.expect('preferences', pass + pairTokens(recipe.pairs.evaluation) / forwardRate + compiling);
    budget.expect('text', pass + 4 * compiling);
  }
}
