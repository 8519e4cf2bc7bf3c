import type { HybridModel } from '@zebra/runtime';
import { type GgufTensor, type GgufValue, writeGguf } from './gguf.js';

/** llama.cpp's names of a Llama's tensors. */
const LAYER_NAMES: Readonly<Record<string, string>> = {
  'input_layernorm.weight': 'attn_norm.weight',
  'self_attn.q_proj.weight': 'attn_q.weight',
  'self_attn.k_proj.weight': 'attn_k.weight',
  'self_attn.v_proj.weight': 'attn_v.weight',
  'self_attn.o_proj.weight': 'attn_output.weight',
  'post_attention_layernorm.weight': 'ffn_norm.weight',
  'mlp.gate_proj.weight': 'ffn_gate.weight',
  'mlp.up_proj.weight': 'ffn_up.weight',
  'mlp.down_proj.weight': 'ffn_down.weight',
};
const TOP_NAMES: Readonly<Record<string, string>> = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
};

/** Kinds of tokens in `tokenizer.ggml.token_type`. */
const NORMAL = 1;
const CONTROL = 3;
const BYTE = 6;
const BYTES = 256;

/**
 * A plain Llama as a GGUF file in float32. llama.cpp turns pairs of neighbouring rows of a query or key head where the
 * Hugging Face layout turns rows half a head apart, so those rows are permuted. The vocabulary holds placeholders: the
 * file is good for token ids, not for text.
 *
 * @throws Error for a model that is no Llama, or has a scaled rotary embedding
 */
export async function llamaGguf(model: HybridModel): Promise<Uint8Array> {
  const { config, layers } = model.spec;
  if (config.modelType !== 'llama' || layers.some((kind) => kind !== 'attention') || config.rope.scaling) {
    throw new Error('llamaGguf: only plain Llamas without rope scaling can be written');
  }
  if (config.vocabularySize < BYTES + 16) throw new Error('llamaGguf: the vocabulary is too small to hold all bytes');
  const tensors: GgufTensor[] = [];
  for (const [name, parameter] of model.namedParameters()) {
    const data = (await parameter.read()) as Float32Array;
    const rotated = /\.(q|k)_proj\.weight$/.test(name);
    tensors.push({
      name: ggufName(name),
      shape: parameter.shape,
      data: rotated ? neighbouringPairs(data, config.headDim, config.hiddenSize) : data,
    });
  }
  const count = config.vocabularySize;
  const special = new Set([...config.bosTokenIds, ...config.eosTokenIds]);
  const ids = Array.from({ length: count }, (_, id) => id);
  // llama.cpp looks bytes up in a vocabulary of this kind when it loads it: the last ids spell them.
  const byteOf = (id: number) => id - (count - BYTES);
  const spelling = (id: number) =>
    byteOf(id) < 0 ? `<token ${id}>` : `<0x${byteOf(id).toString(16).toUpperCase().padStart(2, '0')}>`;
  const kind = (id: number) => (special.has(id) ? CONTROL : byteOf(id) < 0 ? NORMAL : BYTE);
  const uint32 = (value: number): GgufValue => ({ type: 'uint32', value });
  const metadata: Record<string, GgufValue> = {
    'general.architecture': { type: 'string', value: 'llama' },
    'general.alignment': uint32(32),
    'llama.context_length': uint32(config.maxPositionEmbeddings),
    'llama.embedding_length': uint32(config.hiddenSize),
    'llama.block_count': uint32(config.layerCount),
    'llama.feed_forward_length': uint32(config.intermediateSize),
    'llama.attention.head_count': uint32(config.headCount),
    'llama.attention.head_count_kv': uint32(config.keyValueHeadCount),
    'llama.attention.key_length': uint32(config.headDim),
    'llama.attention.value_length': uint32(config.headDim),
    'llama.attention.layer_norm_rms_epsilon': { type: 'float32', value: config.normEpsilon },
    'llama.rope.dimension_count': uint32(config.headDim),
    'llama.rope.freq_base': { type: 'float32', value: config.rope.theta },
    'llama.vocab_size': uint32(count),
    'tokenizer.ggml.model': { type: 'string', value: 'llama' },
    'tokenizer.ggml.tokens': { type: 'strings', value: ids.map(spelling) },
    'tokenizer.ggml.scores': { type: 'float32s', value: ids.map(() => 0) },
    'tokenizer.ggml.token_type': { type: 'int32s', value: ids.map(kind) },
    'tokenizer.ggml.bos_token_id': uint32(config.bosTokenIds[0] ?? 0),
    'tokenizer.ggml.eos_token_id': uint32(config.eosTokenIds[0] ?? 0),
    'tokenizer.ggml.add_bos_token': { type: 'bool', value: false },
  };
  return writeGguf(metadata, tensors);
}

function ggufName(name: string): string {
  const top = TOP_NAMES[name];
  if (top) return top;
  const [, layer, rest] = /^model\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
  const inner = LAYER_NAMES[rest ?? ''];
  if (!inner) throw new Error(`llamaGguf: no name for ${name}`);
  return `blk.${layer}.${inner}`;
}

/** Rows (h, j) and (h, j + d/2) of each head become rows (h, 2j) and (h, 2j + 1). */
export function neighbouringPairs(data: Float32Array, headDim: number, columns: number): Float32Array {
  const result = new Float32Array(data.length);
  const rows = data.length / columns;
  for (let row = 0; row < rows; row++) {
    const head = Math.floor(row / headDim) * headDim;
    const inside = row - head;
    const half = headDim / 2;
    const target = head + (inside < half ? 2 * inside : 2 * (inside - half) + 1);
    result.set(data.subarray(row * columns, (row + 1) * columns), target * columns);
  }
  return result;
}
