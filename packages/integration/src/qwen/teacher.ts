import { fileURLToPath } from 'node:url';
import { HybridModel, modelSpec, modelSpecs, parseTransformerConfig, perplexity } from '@zebra/runtime';
import {
  cosineSchedule,
  crossEntropy,
  type Device,
  keep,
  Random,
  type Shape,
  type Tensor,
  tensor,
} from '@zebra/tensor';
import { evaluationBatches, packDocuments, type TokenDocument, train } from '@zebra/tensor/train';
import { loadTokenized } from 'zebra-example-corpus';

export type QwenFamily = 'qwen2' | 'qwen3';

const SIZES = {
  vocab_size: 1024,
  hidden_size: 64,
  intermediate_size: 160,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-6,
  hidden_act: 'silu',
  rope_theta: 10000,
  max_position_embeddings: 1024,
  tie_word_embeddings: true,
};
/** About 200,000 parameters each. Qwen3's heads are wider than hidden size / heads, as in the released models. */
const CONFIGS: Readonly<Record<QwenFamily, object>> = {
  qwen2: { ...SIZES, model_type: 'qwen2' },
  qwen3: { ...SIZES, model_type: 'qwen3', head_dim: 24 },
};
/**
 * Size that q, k and v biases start with. In a run as short as this they would stay near the 0 that training from
 * scratch starts from, and leaving them out would cost nothing.
 */
const BIAS_SIZE = 1;
/**
 * For the same reason the weights of query and key norms start spread out, as exp(N(0, 0.7²)), and the matrices before
 * them three times as large as usual: a norm takes any size, so that a model's may have any.
 */
const NORM_SPREAD = 0.7;
const NORMED_SIZE = 3;

/** The corpus, tokenised. */
export interface Text {
  readonly train: readonly TokenDocument[];
  /** What means over inputs are taken on: 16 rows. */
  readonly calibration: readonly TokenDocument[];
  readonly validation: readonly TokenDocument[];
}

export type TokenBatches = readonly { readonly ids: Tensor; readonly positions: Tensor; readonly segments: Tensor }[];

const ROW = { batchSize: 8, length: 128 };

/** Reads the corpus packages with the tokenizer of the examples. */
export function loadText(): Text {
  const { splits } = loadTokenized({
    tokenizerFolder: fileURLToPath(new URL('../../../../examples/corpus/tokenizer', import.meta.url)),
    splits: ['train', 'validation'],
    maxTokens: { train: 1_000_000 },
  });
  const pieces = (documents: Iterable<Uint16Array>) =>
    [...documents].flatMap((document) =>
      Array.from({ length: Math.ceil(document.length / ROW.length) }, (_, i) =>
        document.subarray(i * ROW.length, (i + 1) * ROW.length),
      ).filter((piece) => piece.length > 1),
    );
  const training = new Random(3).shuffle(pieces(splits.train.documents));
  const validation = new Random(4)
    .shuffle(pieces(splits.validation.documents))
    .filter((piece) => piece.length === ROW.length);
  const whole = training.filter((piece) => piece.length === ROW.length);
  return { train: training.slice(40), calibration: whole.slice(0, 16), validation: validation.slice(0, 64) };
}

/** Documents packed into batches on the device, owned by the caller. */
export function batchesOf(device: Device, documents: readonly TokenDocument[]): TokenBatches {
  const upload = (data: Int32Array) => keep(tensor(device, data, [ROW.batchSize, ROW.length]));
  return Array.from(evaluationBatches(documents, ROW), ({ ids, positions, segments }) => ({
    ids: upload(ids),
    positions: upload(positions),
    segments: upload(segments),
  }));
}

/** A teacher trained from scratch, owned by the caller. */
export async function trainTeacher(
  device: Device,
  family: QwenFamily,
  text: Text,
  { steps, seed }: { readonly steps: number; readonly seed: number },
): Promise<{ teacher: HybridModel; nats: number; parameters: number }> {
  const spec = modelSpec(parseTransformerConfig(CONFIGS[family]));
  const specs = modelSpecs(spec);
  const teacher = new HybridModel(device, spec, freshWeights(device, specs, seed));
  const run = train({
    device,
    parameters: teacher.namedParameters(),
    loss: ({ ids, targets, positions, segments }) =>
      crossEntropy({
        hidden: teacher.forward(ids!, { positions: positions!, segments: segments! }),
        head: teacher.headWeight,
        targets: targets!,
      }),
    data: packDocuments(text.train, { ...ROW, seed }),
    steps,
    learningRate: 5e-3,
    schedule: cosineSchedule({ steps, warmUp: 0.05, final: 0.05 }),
    optimizer: { weightDecay: 0.1, decays: (_, parameter) => parameter.shape.length > 1, maxGradientNorm: 1 },
  });
  for await (const { step, loss, tokensPerSecond } of run) {
    if (step % 100 === 0)
      console.log(`  ${family} ${step}/${steps}  loss ${loss.toFixed(3)}  ${tokensPerSecond?.toFixed(0)} tokens/s`);
  }
  const { nats } = await perplexity(teacher, text.validation, ROW);
  const parameters = [...specs.values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
  return { teacher, nats, parameters };
}

function freshWeights(device: Device, specs: ReadonlyMap<string, Shape>, seed: number): Map<string, Tensor> {
  const random = new Random(seed);
  return new Map(
    [...specs].map(([name, shape]) => {
      const draw = drawOf(name, shape, specs, random);
      return [name, keep(tensor(device, Float32Array.from({ length: sizeOf(shape) }, draw), shape))];
    }),
  );
}

function drawOf(name: string, shape: Shape, specs: ReadonlyMap<string, Shape>, random: Random): () => number {
  if (/[qk]_norm/.test(name)) return () => Math.exp(NORM_SPREAD * random.normal());
  if (/norm/.test(name)) return () => 1;
  if (name.endsWith('bias')) return () => BIAS_SIZE * random.normal();
  if (/embed|lm_head/.test(name)) return () => 0.05 * random.normal();
  const normed = /[qk]_proj/.test(name) && specs.has(name.replace('_proj', '_norm'));
  const scale = (normed ? NORMED_SIZE : 1) / Math.sqrt(shape[1]!);
  return () => scale * random.normal();
}

function sizeOf(shape: Shape): number {
  return shape.reduce((product, size) => product * size, 1);
}
