import type { Tensor } from '@zebra/tensor';
import type { Columns } from '../../rows.js';

/** Operands of the state-space operation, wherever their columns lie. */
export interface SsdOperands {
  readonly batch: number;
  readonly length: number;
  readonly heads: number;
  /** Heads that share one x and one B: 1 where those have all heads. */
  readonly group: number;
  /** P. */
  readonly headDim: number;
  /** N. */
  readonly stateSize: number;
  readonly x: Columns;
  readonly b: Columns;
  readonly c: Columns;
  readonly dt: Columns;
  readonly dtBias: Tensor;
  readonly aLog: Tensor;
  readonly skip: Tensor;
  readonly segments?: Tensor | undefined;
  /** Whether a state is continued from: then the first token does not cut it. */
  readonly continued: boolean;
}

/** Where the gradient writes. */
export interface SsdGradients {
  readonly x: Columns;
  readonly b: Columns;
  readonly c: Columns;
  readonly dt: Columns;
  /** Gradient of the state entered with, when wanted; zero before. */
  readonly initial?: Tensor | undefined;
}
