import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import {
  assertIgnoreIndex,
  assertSelection,
  ChunkLogits,
  chunksOf,
  finishGradient,
  gradientSumSpecs,
  IGNORE_INDEX,
  isHalf,
  keptLogitsSpec,
  type Logits,
  LogitsGradient,
  logitInputs,
  logitsGeometry,
  logitsScale,
  peakOf,
  pieceRowsOf,
  piecesOf,
  type Rows,
  resolveChunkRows,
} from '../vocabulary/index.js';
import { launch, type RowAttributes } from './launch.js';
import { tokenLogProbabilityReference } from './reference.js';
import { forwardKernel, gradientKernel } from './token-log-probability.wgsl.js';

/** Arguments of {@link tokenLogProbabilities}: logits, or hidden states and head, with the tokens they should give. */
export type TokenLogProbabilityArguments = Logits & {
  /** int32 [N] or [B, T]: the token that each row should predict, or `ignoreIndex`. */
  readonly targets: Tensor;
};

/** Options of {@link tokenLogProbabilities}. */
export interface TokenLogProbabilityOptions {
  /** The target of rows that do not count. Default -100. */
  readonly ignoreIndex?: number;
  /**
   * Rows whose logits, or their gradient, are in memory at a time. Default: as many as fit 4 MiB on a CPU, 512 MiB on
   * a GPU, in multiples of 64 (of 256 where they are many).
   */
  readonly chunkRows?: number;
}

/** Attributes of {@link tokenLogProbabilityOp}. */
export interface TokenLogProbabilityAttributes extends RowAttributes {
  readonly chunkRows: number;
}

/**
 * Log-probabilities of tokens as an operation. Inputs: hidden states and head (or logits and nothing), targets.
 *
 * Logits are made a piece of rows at a time. The forward keeps two numbers a row (maximum and log-sum), and the logits
 * where they all fit one piece; else the backward makes them again, with each row's own upstream gradient. So memory is
 * one chunk however many rows there are, and the gradient takes any upstream.
 *
 * Float16 hidden states give float16 gradients of logits. These are measured against the largest upstream of a row, so
 * that neither a small upstream nor a large loss scale leaves float16's range.
 */
export const tokenLogProbabilityOp = defineOp<TokenLogProbabilityAttributes>({
  name: 'tokenLogProbabilities',
  shape([x, head, targets], { chunkRows }) {
    const { lead, rows } = logitsGeometry('tokenLogProbabilities', '', x!, head);
    assertSelection('tokenLogProbabilities', 'targets', targets!, lead);
    const kept = keptLogitsSpec(head, rows, pieceRows(x!, head, chunkRows));
    const outputs: TensorSpec[] = [
      { shape: lead, dtype: 'float32' },
      { shape: [rows, 2], dtype: 'float32' },
    ];
    return kept ? [...outputs, kept] : outputs;
  },
  forward({ inputs, outputs: [y, statistics, kept], attributes }) {
    const size = pieceRows(inputs[0]!, inputs[1], attributes.chunkRows);
    const source = new ChunkLogits(inputs[0]!, inputs[1], size, { kept });
    for (const piece of chunksOf(y!.size, size)) {
      const logits = source.of(piece);
      launch(forwardKernel, { inputs, attributes, piece, logits }, { y: y!, statistics: statistics! });
    }
  },
  backward({ device, inputs, outputs: [y, statistics, kept], gradients: [g], attributes, needs }) {
    const [x, head] = inputs as [Tensor, Tensor | undefined];
    const specs = gradientSumSpecs(x, head, [needs[0]!, needs[1]!]);
    if (!specs.dx && !specs.dHead) return [];
    const { chunkRows } = attributes;
    const size = pieceRows(x, head, chunkRows);
    const sums = {
      dx: specs.dx && allocateTensor(device, specs.dx),
      dHead: specs.dHead && allocateTensor(device, specs.dHead),
    };
    const source = new ChunkLogits(x, head, size, { kept, filled: true });
    const gradient = new LogitsGradient(source, sums, chunkRows);
    const peak = isHalf(x, head) ? peakOf(g!) : undefined;
    const scale = logitsScale(x, head);
    for (const chunk of chunksOf(y!.size, chunkRows)) {
      let target: Rows | undefined;
      for (const piece of piecesOf(chunk, size)) {
        const logits = source.of(piece);
        target = gradient.target(chunk, piece, logits);
        const step = { inputs, attributes, piece, logits };
        launch(gradientKernel, step, { statistics: statistics!, g: g!, peak }, { target, scale });
      }
      gradient.add(chunk, target!);
    }
    const factor = { constant: 1 / scale, factors: peak ? [peak] : [] };
    return [finishGradient(sums.dx, x, factor), finishGradient(sums.dHead, head, factor)];
  },
  saves: { outputs: [1, 2] },
  reference: tokenLogProbabilityReference,
});

/** Rows whose logits are in memory at a time. */
function pieceRows(x: TensorSpec, head: TensorSpec | undefined, chunkRows: number): number {
  return pieceRowsOf({ half: isHalf(x, head), models: 1 }, chunkRows);
}

/** Log-probabilities of targets times `sign`. @internal */
export function signedLogProbabilities(
  operation: string,
  given: TokenLogProbabilityArguments,
  options: TokenLogProbabilityOptions,
  sign: 1 | -1,
): Tensor {
  const [x, head] = logitInputs(operation, given);
  const { lead, rows, columns } = logitsGeometry(operation, '', x, head);
  assertSelection(operation, 'targets', given.targets, lead);
  const { ignoreIndex = IGNORE_INDEX } = options;
  assertIgnoreIndex(operation, ignoreIndex);
  const sizes = { rows, columns, models: 1, half: isHalf(x, head) } as const;
  const chunkRows = resolveChunkRows(operation, x.device, sizes, options.chunkRows);
  const [y, ...rest] = tokenLogProbabilityOp.apply([x, head, given.targets], { ignoreIndex, chunkRows, sign });
  for (const other of rest) other.dispose();
  return y!;
}

/**
 * log softmax(hidden · headᵀ)[target] of each row, in nats and float32, without the full logits in memory: the
 * log-probability that a language model gives each next token. Gradients reach hidden states and head (or the logits).
 *
 * Targets are data: rows whose target is `ignoreIndex`, or lies outside the vocabulary, give 0 and no gradient. Check
 * ids where they enter; a kernel cannot throw.
 *
 * @param given `hidden` [N, D] or [B, T, D] with `head` [V, D] (or `logits` [N, V] or [B, T, V]), and `targets` int32
 *   [N] or [B, T]
 * @returns float32 of the shape of `targets`; the caller owns it
 * @throws ZebraError `shape` or `dtype` for inputs that do not fit; `argument` for options that are no integers
 */
export function tokenLogProbabilities(
  given: TokenLogProbabilityArguments,
  options: TokenLogProbabilityOptions = {},
): Tensor {
  return signedLogProbabilities('tokenLogProbabilities', given, options, 1);
}
