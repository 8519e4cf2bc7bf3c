import { defineOp, type OpInputs } from '../../core/define-op.js';
import type { TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Kernel } from '../../device/kernel.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import {
  assertIgnoreIndex,
  assertSelection,
  type Chunk,
  chunksOf,
  IGNORE_INDEX,
  type Logits,
  LogitsGradient,
  logitInputs,
  logitsGeometry,
  logitsOf,
  type Rows,
  resolveChunkRows,
  scratchSpec,
  selectionParams,
} from '../vocabulary/index.js';
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
   * Rows whose logits are in memory at a time. Default: as many multiples of 64 as fit 4 MiB on a CPU, 128 MiB on a
   * GPU; at least 64.
   */
  readonly chunkRows?: number;
}

/** Attributes of {@link tokenLogProbabilityOp}. */
export interface TokenLogProbabilityAttributes {
  readonly ignoreIndex: number;
  readonly chunkRows: number;
  /** 1 for log-probabilities, −1 for cross-entropies. */
  readonly sign: 1 | -1;
}

interface Step {
  readonly inputs: OpInputs;
  readonly attributes: TokenLogProbabilityAttributes;
  readonly chunk: Chunk;
  readonly logits: Rows;
}

/** Runs one of the row kernels over a chunk. */
function launch(kernel: Kernel, step: Step, tensors: Readonly<Record<string, Tensor>>, dStart = 0): void {
  const { inputs, attributes, chunk, logits } = step;
  const targets = inputs[2]!;
  const { device } = targets;
  const { columns } = logitsGeometry('tokenLogProbabilities', '', inputs[0]!, inputs[1]);
  const plan = planRows(device, columns, { rows: chunk.count });
  const selection = { kind: 'targets', ignoreIndex: attributes.ignoreIndex, vocabulary: columns } as const;
  // A gradient that overwrites its logits binds them once, to be written.
  const x = tensors['d'] === logits.tensor ? undefined : logits.tensor.range();
  const ranges = Object.entries(tensors).map(([name, tensor]) => [name, tensor.range()]);
  device.dispatch(kernel, {
    bindings: { x, targets: targets.range(), ...Object.fromEntries(ranges) },
    params: {
      rows: chunk.count,
      units: plan.units,
      first: chunk.first,
      x_start: logits.start * plan.units,
      d_start: dStart * plan.units,
      sign: attributes.sign,
      ...selectionParams(selection),
    },
    constants: plan.constants,
    groups: rowGroups(device, kernel, chunk.count, plan),
  });
}

/**
 * Log-probabilities of tokens as an operation. Inputs: hidden states and head (or logits and nothing), targets.
 *
 * Logits are made a chunk of rows at a time. The forward keeps two numbers a row (maximum and log-sum) and the last
 * chunk's logits; the backward makes the others again, with each row's own upstream gradient. So memory is one chunk
 * however many rows there are, the gradient takes any upstream, and what fits one chunk is computed only once.
 */
export const tokenLogProbabilityOp = defineOp<TokenLogProbabilityAttributes>({
  name: 'tokenLogProbabilities',
  shape([x, head, targets], { chunkRows }) {
    const { lead, rows } = logitsGeometry('tokenLogProbabilities', '', x!, head);
    assertSelection('tokenLogProbabilities', 'targets', targets!, lead);
    const scratch = scratchSpec(head, chunkRows);
    const outputs: TensorSpec[] = [
      { shape: lead, dtype: 'float32' },
      { shape: [rows, 2], dtype: 'float32' },
    ];
    return scratch ? [...outputs, scratch] : outputs;
  },
  forward({ inputs, outputs: [y, statistics, scratch], attributes }) {
    for (const chunk of chunksOf(y!.size, attributes.chunkRows)) {
      const logits = logitsOf(inputs[0]!, inputs[1], scratch, chunk);
      launch(forwardKernel, { inputs, attributes, chunk, logits }, { y: y!, statistics: statistics! });
    }
  },
  backward({ inputs, outputs: [y, statistics, scratch], gradients: [g], attributes, needs }) {
    const [x, head] = inputs;
    const gradient = new LogitsGradient(x!, head, [needs[0]!, needs[1]!]);
    if (!gradient.wanted) return [];
    // From the last chunk on, whose logits are still there.
    const chunks = chunksOf(y!.size, attributes.chunkRows).reverse();
    chunks.forEach((chunk, index) => {
      const logits = logitsOf(x!, head, scratch, chunk, { kept: index === 0 });
      const target = gradient.target(logits);
      const tensors = { statistics: statistics!, g: g!, d: target.tensor };
      launch(gradientKernel, { inputs, attributes, chunk, logits }, tensors, target.start);
      gradient.add(chunk, target);
    });
    return gradient.finish();
  },
  reference: tokenLogProbabilityReference,
});

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
  const chunkRows = resolveChunkRows(operation, x.device, rows, columns, options.chunkRows);
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
