import { readFileSync } from 'node:fs';
import { tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, test } from 'vitest';
import type { HostTensor } from './host-tensor.js';
import { product, relativeError, rows } from './matrix-comparison.testing.js';
import { mlaWeightsFromAttention } from './mla-from-attention.js';
import { mlaTensorsFromAttention } from './mla-on-device.js';
import type { MlaFromAttentionOptions } from './mla-options.js';

const goldens = new URL('../test/goldens/', import.meta.url);

/** Float32 tensors of a safetensors file that we know to be well-formed. */
function readTensors(path: string): Record<string, HostTensor> {
  const file = readFileSync(new URL(path, goldens));
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { shape: number[]; data_offsets: [number, number] }
  >;
  return Object.fromEntries(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, { shape, data_offsets }]) => {
        const [start, end] = data_offsets.map((offset) => offset + 8 + headerLength);
        return [
          name,
          { shape, data: new Float32Array(file.buffer.slice(file.byteOffset + start, file.byteOffset + end)) },
        ];
      }),
  );
}

/** The same by way of tensors and matrix products. */
async function onDevice(weights: Record<string, HostTensor>, options: MlaFromAttentionOptions) {
  const device = await testDevice();
  const tensors = new Map(
    Object.entries(weights).map(([name, { data, shape }]) => [name, tensor(device, data, shape)] as const),
  );
  const made = await mlaTensorsFromAttention(tensors, options);
  const result = new Map<string, HostTensor>();
  for (const [name, weight] of made.weights)
    result.set(name, { shape: weight.shape, data: (await weight.read()) as Float32Array });
  for (const weight of [...tensors.values(), ...made.weights.values()]) weight.dispose();
  return { weights: result, warnings: made.warnings };
}

describe('the weights of an MLA layer against the reference', () => {
  const layer = readTensors('llama-tiny/layer-1-attention.safetensors');
  const weights = Object.fromEntries(
    Object.entries(layer).map(([name, tensor]) => [name.replace('model.layers.1.self_attn.', ''), tensor]),
  );

  test.each(
    ['a', 'b-full-kv-heads'].flatMap((name) => (['host', 'device'] as const).map((where) => [name, where] as const)),
  )('%s on the %s', async (name, where) => {
    const golden = readTensors(`mla-init/${name}/golden.safetensors`);
    const config = JSON.parse(readFileSync(new URL(`mla-init/${name}/hybrid_config.json`, goldens), 'utf8'));
    const options = {
      hiddenSize: config.hidden_size,
      headCount: config.num_attention_heads,
      keyValueHeadCount: config.num_key_value_heads,
      headDim: config.hidden_size / config.num_attention_heads,
      qLoraRank: config.q_lora_rank,
      kvLoraRank: config.kv_lora_rank,
      qkNopeHeadDim: config.qk_nope_head_dim,
      qkRopeHeadDim: config.qk_rope_head_dim,
      vHeadDim: config.v_head_dim,
      useFullKvHead: config.use_full_kv_head,
      useLoraLayerNorm: config.use_lora_layer_norm,
    };
    const result = where === 'host' ? mlaWeightsFromAttention(weights, options) : await onDevice(weights, options);
    const down = result.weights.get('kv_a_proj_with_mqa.weight')!;
    const errors = {
      q_product: relativeError(product(result.weights, 'q_b_proj.weight', 'q_a_proj.weight'), golden.q_product),
      kv_product: relativeError(
        product(result.weights, 'kv_b_proj.weight', 'kv_a_proj_with_mqa.weight'),
        golden.kv_product,
      ),
      k_rope_rows: relativeError(rows(down, config.kv_lora_rank, down.shape[0]), golden.k_rope_rows),
      out_proj: relativeError(result.weights.get('out_proj.weight')!, golden.out_proj),
    };
    // The golden products come from a float32 SVD, up to 4e-5 from the exact ones.
    for (const error of Object.values(errors)) expect(error).toBeLessThan(2e-4);
    // No SVD is behind these two: they are means and copies.
    expect(errors.k_rope_rows).toBeLessThan(1e-7);
    expect(errors.out_proj).toBe(0);
    expect(result.warnings).toEqual([]);
  });
});
