import {
  allocateTensor,
  cast,
  concat,
  divide,
  multiply,
  reshape,
  scale,
  scope,
  shift,
  square,
  squareRoot,
  sum,
  type Tensor,
  ZebraError,
} from '@zebra/tensor';
import { type AttentionShape, checkAttention, checkFinite, foldedNorm, isKnown } from './attention-weights.js';
import type { HostTensor } from './host-tensor.js';
import { InitError, type InitWarning } from './init-error.js';

/** Parameters of one attention layer on a device, named as after `self_attn.` in a checkpoint; of any float dtype. */
export type AttentionTensors = ReadonlyMap<string, Tensor>;

/** As `LinearAttention`, on a device: four float32 matrices that {@link disposeLinear} frees. */
export interface LinearAttentionTensors {
  readonly query: Tensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly output: Tensor;
  readonly warnings: readonly InitWarning[];
}

/** Checks the tensors as the host form does (values by the sum of their squares), and makes the four matrices. */
export async function linearAttentionTensors(
  operation: string,
  attention: AttentionTensors,
  shape: AttentionShape,
): Promise<LinearAttentionTensors> {
  const warnings = checkAttention(operation, Object.fromEntries(attention), shape);
  for (const [name, weight] of attention) if (isKnown(name)) await assertFinite(operation, name, weight);
  const float32 = (name: string) => {
    const weight = attention.get(name);
    return weight && cast(weight, 'float32');
  };
  const projection = (letter: 'q' | 'k' | 'v' | 'o') => {
    const name = `${letter}_norm.weight`;
    const folds = attention.has(name) && (letter === 'q' || letter === 'k');
    if (folds) warnings.push(foldedNorm(name));
    return scope(() => {
      const weight = float32(`${letter}_proj.weight`)!;
      return folds ? foldNorm(weight, float32(name)!, float32('input_layernorm.weight'), shape) : weight;
    });
  };
  return {
    query: projection('q'),
    key: projection('k'),
    value: projection('v'),
    output: projection('o'),
    warnings,
  };
}

/** As the host form: weights of the norm times rows, each head over its expected size. */
function foldNorm(
  weight: Tensor,
  norm: Tensor,
  inputs: Tensor | undefined,
  { queryKeyScale = 'expected', headDim, hiddenSize }: AttentionShape,
): Tensor {
  const heads = reshape(weight, [-1, headDim, hiddenSize]);
  const folded = multiply(heads, reshape(norm, [headDim, 1]));
  if (queryKeyScale === 'raw') return reshape(folded, [-1, hiddenSize]);
  const expected = reshape(inputs ? multiply(weight, inputs) : weight, [-1, headDim * hiddenSize]);
  // A head of zeros stays one.
  const size = shift(squareRoot(scale(sum(square(expected), { axes: [1] }), 1 / headDim)), 1e-30);
  return reshape(divide(folded, reshape(size, [-1, 1, 1])), [-1, hiddenSize]);
}

/** Frees what {@link linearAttentionTensors} made. */
export function disposeLinear({ query, key, value, output }: LinearAttentionTensors): void {
  for (const matrix of [query, key, value, output]) matrix.dispose();
}

/** [W_K; W_V]. */
export function stackKeyValue({ key, value }: LinearAttentionTensors): Tensor {
  return concat([key, value], 0);
}

/** A float32 matrix in memory of its own. */
export function copyOf(x: Tensor): Tensor {
  const copy = allocateTensor(x.device, x);
  x.device.copy(x.range(), copy.range());
  return copy;
}

/** Reads tensors to the host. */
export async function toHost(attention: AttentionTensors): Promise<Record<string, HostTensor>> {
  const host: Record<string, HostTensor> = {};
  for (const [name, weight] of attention)
    host[name] = { shape: weight.shape, data: (await weight.read()) as Float32Array };
  return host;
}

/** The device of the tensors. Throws ZebraError `argument` when there is none. */
export function deviceOf(attention: AttentionTensors): Tensor['device'] {
  const first = attention.values().next().value;
  if (!first) throw new ZebraError('argument', 'initialise: no attention weights given');
  return first.device;
}

async function assertFinite(operation: string, name: string, weight: Tensor): Promise<void> {
  const total = scope(() => sum(square(cast(weight, 'float32'))));
  const squares = await total.item();
  total.dispose();
  if (Number.isFinite(squares)) return;
  checkFinite(operation, name, await weight.read());
  throw new InitError({
    code: 'data',
    operation,
    argument: name,
    expected: 'values whose squares have a finite sum in float32',
    got: String(squares),
    advice: 'Weights this large cannot be worked with; check the checkpoint.',
  });
}
