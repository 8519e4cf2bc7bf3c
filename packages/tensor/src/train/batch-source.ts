import type { HostData } from '../core/dtype.js';
import type { TensorSpec } from '../core/shape.js';

/** What JSON can hold. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | { readonly [key: string]: JsonValue };

/** Host arrays by name, one for every entry of {@link BatchSource.specs}. */
export type Batch = Readonly<Record<string, HostData>>;

/**
 * Where a training run takes its batches from: endless, and resumable. `packDocuments()` makes one for language models;
 * recipes with other data (preference pairs, cached activations) bring their own.
 */
export interface BatchSource {
  /** Shape and dtype of every array of a batch; the same for all batches. */
  readonly specs: Readonly<Record<string, TensorSpec>>;
  /** The next batch. The arrays are read before the following call. */
  next(): Batch;
  /** Where the source stands: what `restore` needs to go on with the batch that comes next, and to know its own data. */
  state(): JsonValue;
  /** Goes on from a state. Throws ZebraError `data` on a state of other data. */
  restore(state: JsonValue): void;
  /** Tokens (or samples) of a batch that count in the loss, for the throughput. Not there: no throughput is given. */
  tokensIn?(batch: Batch): number;
}
