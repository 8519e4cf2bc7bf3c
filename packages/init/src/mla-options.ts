import { type AttentionShape, checkSize } from './attention-weights.js';
import { InitError } from './init-error.js';
import { frequencyAwareRopeRows, lastRopeRows, type RopeMatching, type RopeRowChoice } from './rope-rows.js';

/** A rank, or the share δ of the energy that chooses one as {@link energyRank} does. */
export type RankChoice = number | { readonly energy: number };

/** What {@link mlaWeightsFromAttention} makes. */
export interface MlaFromAttentionOptions extends AttentionShape {
  /** r_q. `null`: no down-projection, one `q_proj`. */
  readonly qLoraRank: RankChoice | null;
  /** r_kv. */
  readonly kvLoraRank: RankChoice;
  /** d_nope, at most d_h. */
  readonly qkNopeHeadDim: number;
  /** d_rope, even, at most d_h. */
  readonly qkRopeHeadDim: number;
  /** d_v: has to be d_h, since the value rows of a head are copied whole. */
  readonly vHeadDim: number;
  /** Whether `kv_b_proj` has n_h heads instead of n_kv. Default false. */
  readonly useFullKvHead?: boolean;
  /** Whether the layer has latent norms; they start as ones. Default false. */
  readonly useLoraLayerNorm?: boolean;
  /** `last` is the reference's choice of rope rows, exactly; for `frequency-aware` see {@link frequencyAwareRopeRows}. Default `last`. */
  readonly ropeRows?: 'last' | 'frequency-aware';
  /**
   * How the key heads become the one rotated key: `mean` of their rope rows, as the reference does, or `aligned`, turned
   * towards each other first (see {@link alignKeyHeads}), which needs `frequency-aware`. Default `mean`.
   */
  readonly sharedRopeKey?: 'mean' | 'aligned';
  /** Needed for `frequency-aware`, unused otherwise. */
  readonly rope?: RopeMatching;
}

/** The largest ranks that the matrices have: min of their sizes. Repeating key/value heads adds none. */
export function largestRanks(shape: AttentionShape): { readonly query: number; readonly keyValue: number } {
  return {
    query: Math.min(shape.headCount * shape.headDim, shape.hiddenSize),
    keyValue: Math.min(2 * shape.keyValueHeadCount * shape.headDim, shape.hiddenSize),
  };
}

/** Throws {@link InitError} when the options of an MLA layer contradict each other. The attention sizes are checked elsewhere. */
export function checkMlaOptions(operation: string, options: MlaFromAttentionOptions): void {
  const { headDim, qkNopeHeadDim, qkRopeHeadDim, vHeadDim } = options;
  checkSize(operation, 'qkNopeHeadDim', qkNopeHeadDim);
  checkSize(operation, 'qkRopeHeadDim', qkRopeHeadDim);
  const refuse = (argument: string, expected: string, got: unknown, advice: string): never => {
    throw new InitError({ code: 'argument', operation, argument, expected, got: String(got), advice });
  };
  const fromHead = 'The rows come from a head of the attention layer; it has no more of them.';
  if (qkNopeHeadDim > headDim) refuse('qkNopeHeadDim', `at most headDim ${headDim}`, qkNopeHeadDim, fromHead);
  if (qkRopeHeadDim > headDim) refuse('qkRopeHeadDim', `at most headDim ${headDim}`, qkRopeHeadDim, fromHead);
  if (qkRopeHeadDim % 2 !== 0) {
    refuse('qkRopeHeadDim', 'an even number', qkRopeHeadDim, 'Rotary embedding turns pairs of rows.');
  }
  if (vHeadDim !== headDim) {
    refuse(
      'vHeadDim',
      `headDim ${headDim}`,
      vHeadDim,
      'The value rows and W_O are copied whole; set vHeadDim to headDim.',
    );
  }
  const { query, keyValue } = largestRanks(options);
  const choices = [
    ['qLoraRank', options.qLoraRank, query],
    ['kvLoraRank', options.kvLoraRank, keyValue],
  ] as const;
  for (const [argument, choice, largest] of choices) {
    if (choice === null) continue;
    if (typeof choice !== 'number') {
      if (!(choice?.energy > 0 && choice.energy <= 1)) {
        refuse(`${argument}.energy`, 'a share of the energy in (0, 1]', choice?.energy, 'X-EcoMLA uses about 0.95.');
      }
    } else if (!(Number.isInteger(choice) && choice > 0 && choice <= largest)) {
      refuse(argument, `an integer from 1 to ${largest}, the most the weights have`, choice, 'Choose another rank.');
    }
  }
  const { ropeRows = 'last', rope } = options;
  if (ropeRows !== 'last' && ropeRows !== 'frequency-aware') {
    refuse('ropeRows', "'last' or 'frequency-aware'", ropeRows, 'Leave it out for the reference choice.');
  }
  const { sharedRopeKey = 'mean' } = options;
  if (sharedRopeKey !== 'mean' && sharedRopeKey !== 'aligned') {
    refuse('sharedRopeKey', "'mean' or 'aligned'", sharedRopeKey, 'Leave it out for the reference choice.');
  }
  if (sharedRopeKey === 'aligned' && ropeRows === 'last') {
    refuse('sharedRopeKey', "'mean'", sharedRopeKey, "Aligning needs whole pairs: set ropeRows to 'frequency-aware'.");
  }
  if (ropeRows === 'frequency-aware') {
    if (rope === undefined) {
      refuse('rope', 'the frequencies of both layers', rope, "Pass them, or choose ropeRows 'last'.");
    }
    if (headDim % 2 !== 0) refuse('headDim', 'an even number', headDim, 'Rotary embedding turns pairs of rows.');
  }
}

/** The rows of a head that the checked options choose. */
export function chooseRopeRows(options: MlaFromAttentionOptions): RopeRowChoice {
  return options.ropeRows === 'frequency-aware' && options.rope
    ? frequencyAwareRopeRows(options, options.rope)
    : lastRopeRows(options);
}
