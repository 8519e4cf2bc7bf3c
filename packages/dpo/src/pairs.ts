import { ZebraError } from '@zebra/tensor';
import { IGNORED_TARGET, PADDING_SEGMENT } from '@zebra/tensor/train';

/** A preference pair as token ids, without special tokens of its own. */
export interface PreferencePair {
  readonly prompt: readonly number[];
  readonly chosen: readonly number[];
  readonly rejected: readonly number[];
}

/** How pairs become rows of tokens. */
export interface PairLimits {
  /** Token that begins every row, if the model has one. */
  readonly beginToken?: number;
  /** Token that ends a response; its log-probability counts. */
  readonly endToken: number;
  /** Prompts longer than this lose their beginning. Default 512. */
  readonly maxPromptLength?: number;
  /** Rows longer than this lose the end of their response, with its end token. Default 1024. */
  readonly maxLength?: number;
}

/** One row: prompt and response, and which tokens are the response's. */
export interface PairRow {
  readonly ids: readonly number[];
  /** The next token where it belongs to the response, else −100. */
  readonly targets: readonly number[];
}

/**
 * Turns a pair into its two rows. The prompt is masked; the response counts with its end token.
 *
 * @throws ZebraError `argument` for an empty response or limits that leave no room for one
 */
export function encodePair(
  pair: PreferencePair,
  limits: PairLimits,
): { readonly chosen: PairRow; readonly rejected: PairRow } {
  return {
    chosen: encodeRow(pair.prompt, pair.chosen, limits),
    rejected: encodeRow(pair.prompt, pair.rejected, limits),
  };
}

function encodeRow(prompt: readonly number[], response: readonly number[], limits: PairLimits): PairRow {
  const { beginToken, endToken, maxPromptLength = 512, maxLength = 1024 } = limits;
  if (response.length === 0) throw new ZebraError('argument', 'encodePair: a response is empty; leave such pairs out');
  const begin = beginToken === undefined ? [] : [beginToken];
  const kept = maxPromptLength > 0 ? prompt.slice(-maxPromptLength) : [];
  const start = begin.length + kept.length;
  if (start >= maxLength || start === 0) {
    throw new ZebraError(
      'argument',
      `encodePair: a prompt of ${start} tokens leaves no response within maxLength ${maxLength}, or nothing to predict it from`,
    );
  }
  const all = [...begin, ...kept, ...response, endToken].slice(0, maxLength);
  return { ids: all.slice(0, -1), targets: all.slice(1).map((id, at) => (at + 1 >= start ? id : IGNORED_TARGET)) };
}

/** Rows of one length, padded on the right: ids with the end token, targets with −100, segments with −1. */
export interface PaddedRows {
  readonly ids: Int32Array;
  readonly targets: Int32Array;
  readonly positions: Int32Array;
  readonly segments: Int32Array;
}

/** Pads rows to `length` tokens each. Longer rows are an error, since cutting them here would be silent. */
export function padRows(rows: readonly PairRow[], length: number, padding: number): PaddedRows {
  const size = rows.length * length;
  const padded = {
    ids: new Int32Array(size).fill(padding),
    targets: new Int32Array(size).fill(IGNORED_TARGET),
    positions: new Int32Array(size),
    segments: new Int32Array(size).fill(PADDING_SEGMENT),
  };
  rows.forEach((row, r) => {
    if (row.ids.length > length)
      throw new ZebraError('argument', `padRows: a row of ${row.ids.length} tokens does not fit ${length}`);
    padded.ids.set(row.ids, r * length);
    padded.targets.set(row.targets, r * length);
    for (let t = 0; t < length; t++) padded.positions[r * length + t] = t;
    padded.segments.fill(0, r * length, r * length + row.ids.length);
  });
  return padded;
}
