import { type HostMatrix, type HostTensor, toHostMatrix } from './host-tensor.js';
import { InitError, type InitWarning } from './init-error.js';

/**
 * The tensors of one attention layer under their Hugging Face names (the part after `self_attn.`), [out, in] each:
 * `q_proj.weight` [n_h·d_h, d], `k_proj.weight` and `v_proj.weight` [n_kv·d_h, d], `o_proj.weight` [d, n_h·d_h]; also
 * the `.bias` of each (Qwen2 has three), `q_norm.weight`, `k_norm.weight` [d_h] (Qwen3), and beside those of
 * `self_attn.` the layer's `input_layernorm.weight` [d], which says how large the inputs of a Qwen3 layer are.
 */
export type AttentionWeights = Readonly<Record<string, HostTensor>>;

/** The sizes of an attention layer. */
export interface AttentionShape {
  /** d, the width of the residual stream. */
  readonly hiddenSize: number;
  /** n_h, query heads. */
  readonly headCount: number;
  /** n_kv, key/value heads; divides n_h. */
  readonly keyValueHeadCount: number;
  /** d_h, size of a head; n_h·d_h need not be d. */
  readonly headDim: number;
  /**
   * What becomes of the norms of queries and keys (Qwen3), which no linear layer can hold. Their weights are folded into
   * the rows of W_Q and W_K in either case. `expected`: every head is also divided by the size that it is expected to have,
   * √(mean over its rows of Σ_j w_j²·c_j²) for independent inputs of size c_j, so that scores keep their scale; c is
   * `input_layernorm.weight` where it is given, else 1. `raw`: no more than the weights. Default
   * `expected` for MLA, `raw` for Mamba2, as measured.
   */
  readonly queryKeyScale?: 'expected' | 'raw';
}

/** Attention weights in float64, checked, with what is not linear taken out. */
export interface LinearAttention {
  readonly query: HostMatrix;
  readonly key: HostMatrix;
  readonly value: HostMatrix;
  readonly output: HostMatrix;
  readonly warnings: readonly InitWarning[];
}

const KNOWN = /^(?:[qkvo]_proj\.(?:weight|bias)|[qk]_norm\.weight|input_layernorm\.weight)$/;

/** Whether a tensor of an attention layer is one that the conversion knows. */
export function isKnown(name: string): boolean {
  return KNOWN.test(name);
}

/**
 * Checks sizes, names and shapes, values apart, for tensors on the host or on a device.
 *
 * @returns a warning for every tensor that is ignored or dropped
 */
export function checkAttention(
  operation: string,
  weights: Readonly<Record<string, { readonly shape: readonly number[] }>>,
  shape: AttentionShape,
): InitWarning[] {
  checkAttentionShape(operation, shape);
  const { hiddenSize, headCount, keyValueHeadCount, headDim, queryKeyScale = 'expected' } = shape;
  if (queryKeyScale !== 'expected' && queryKeyScale !== 'raw') {
    throw new InitError({
      code: 'argument',
      operation,
      argument: 'queryKeyScale',
      expected: "'expected' or 'raw'",
      got: String(queryKeyScale),
      advice: 'Leave it out for the better one.',
    });
  }
  const inner = headCount * headDim;
  const keyValueInner = keyValueHeadCount * headDim;
  const expected: Record<string, readonly number[]> = {
    'q_proj.weight': [inner, hiddenSize],
    'k_proj.weight': [keyValueInner, hiddenSize],
    'v_proj.weight': [keyValueInner, hiddenSize],
    'o_proj.weight': [hiddenSize, inner],
  };
  const optional: Record<string, readonly number[]> = {
    'q_proj.bias': [inner],
    'k_proj.bias': [keyValueInner],
    'v_proj.bias': [keyValueInner],
    'o_proj.bias': [hiddenSize],
    'q_norm.weight': [headDim],
    'k_norm.weight': [headDim],
    'input_layernorm.weight': [hiddenSize],
  };
  const warnings: InitWarning[] = [];
  for (const [name, wanted] of Object.entries(expected)) checkShape(operation, name, weights[name], wanted);
  for (const [name, tensor] of Object.entries(weights)) {
    if (name in expected) continue;
    if (!(name in optional)) {
      warnings.push({ code: 'tensor-ignored', argument: name, message: `${name} is no part of the conversion` });
      continue;
    }
    checkShape(operation, name, tensor, optional[name]);
    if (name.endsWith('.bias')) {
      warnings.push({
        code: 'bias-dropped',
        argument: name,
        message: `${name} has no place in the new layer and is dropped; distillation has to make up for it`,
      });
    }
  }
  return warnings;
}

/** The warning that the weights of a norm were multiplied into a projection. */
export function foldedNorm(name: string): InitWarning {
  return {
    code: 'norm-folded',
    argument: name,
    message: `${name} is folded into the rows of the projection; the normalisation itself is not linear and is dropped, or replaced by the size expected`,
  };
}

/**
 * Checks names, shapes and values, and reduces the layer to four matrices: biases are dropped, the weights of query and
 * key norms are multiplied into the rows of W_Q and W_K while the normalisation itself is dropped or replaced by its
 * expected value (`queryKeyScale`); each with a warning.
 * Unknown tensors are ignored with a warning (old checkpoints carry `rotary_emb.inv_freq`).
 */
export function linearAttention(operation: string, weights: AttentionWeights, shape: AttentionShape): LinearAttention {
  const warnings = checkAttention(operation, weights, shape);
  for (const [name, tensor] of Object.entries(weights)) if (isKnown(name)) checkFinite(operation, name, tensor.data);
  return {
    query: foldNorm('q', weights, shape, warnings),
    key: foldNorm('k', weights, shape, warnings),
    value: toHostMatrix(weights['v_proj.weight']),
    output: toHostMatrix(weights['o_proj.weight']),
    warnings,
  };
}

function foldNorm(
  letter: 'q' | 'k',
  weights: AttentionWeights,
  { queryKeyScale = 'expected', headDim }: AttentionShape,
  warnings: InitWarning[],
): HostMatrix {
  const matrix = toHostMatrix(weights[`${letter}_proj.weight`]);
  const name = `${letter}_norm.weight`;
  const norm = weights[name]?.data;
  if (norm === undefined) return matrix;
  const [rows, columns] = matrix.shape;
  const inputs = weights['input_layernorm.weight']?.data;
  for (let head = 0; head < rows; head += headDim) {
    const entries = matrix.data.subarray(head * columns, (head + headDim) * columns);
    let squares = 0;
    entries.forEach((entry, i) => {
      squares += (entry * (inputs?.[i % columns] ?? 1)) ** 2;
    });
    // A head of zeros stays one.
    const size = queryKeyScale === 'expected' ? Math.sqrt(squares / headDim) || 1 : 1;
    for (let i = 0; i < entries.length; i++) entries[i] *= norm[Math.floor(i / columns)] / size;
  }
  warnings.push(foldedNorm(name));
  return matrix;
}

function checkShape(
  operation: string,
  name: string,
  tensor: { readonly shape: readonly number[]; readonly data?: ArrayLike<number> } | undefined,
  shape: readonly number[],
): void {
  const wanted = `shape [${shape.join(', ')}]`;
  if (tensor === undefined) {
    throw new InitError({
      code: 'argument',
      operation,
      argument: name,
      expected: wanted,
      got: 'no such tensor',
      advice: 'Pass the weights of one attention layer, named as after "self_attn.".',
    });
  }
  const count = shape.reduce((product, size) => product * size, 1);
  const given = tensor.data?.length ?? count;
  if (tensor.shape.join() !== shape.join() || given !== count) {
    throw new InitError({
      code: 'shape',
      operation,
      argument: name,
      expected: wanted,
      got: `shape [${tensor.shape.join(', ')}]${tensor.data ? ` with ${given} values` : ''}`,
      advice: 'Check hiddenSize, headCount, keyValueHeadCount and headDim against the config of the checkpoint.',
    });
  }
}

/** Throws {@link InitError} where there is a value that is not finite. */
export function checkFinite(operation: string, name: string, data: ArrayLike<number>): void {
  const wrong = Array.prototype.findIndex.call(data, (value: number) => !Number.isFinite(value));
  if (wrong < 0) return;
  throw new InitError({
    code: 'data',
    operation,
    argument: name,
    expected: 'finite values',
    got: `${data[wrong]} at flat index ${wrong}`,
    advice: 'Check the checkpoint: it may be truncated or come from a run that diverged.',
  });
}

function checkAttentionShape(operation: string, shape: AttentionShape): void {
  for (const name of ['hiddenSize', 'headCount', 'keyValueHeadCount', 'headDim'] as const) {
    checkSize(operation, name, shape[name]);
  }
  const { headCount, keyValueHeadCount } = shape;
  if (headCount % keyValueHeadCount !== 0) {
    throw new InitError({
      code: 'argument',
      operation,
      argument: 'keyValueHeadCount',
      expected: `a divisor of headCount ${headCount}`,
      got: String(keyValueHeadCount),
      advice: 'Check the config: grouped-query attention shares every key/value head among equally many query heads.',
    });
  }
}

/** Throws unless `value` is an integer of at least 1. */
export function checkSize(operation: string, argument: string, value: unknown): void {
  if (typeof value === 'number' && Number.isInteger(value) && value > 0) return;
  throw new InitError({
    code: 'argument',
    operation,
    argument,
    expected: 'a positive integer',
    got: String(value),
    advice: 'Take the size from the config of the checkpoint.',
  });
}
