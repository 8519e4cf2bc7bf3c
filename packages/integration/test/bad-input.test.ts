import { cp, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { scorePairs } from '@zebra/dpo';
import { generate, loadModel, perplexity, saveModel } from '@zebra/runtime';
import { sensitivityScores } from '@zebra/smart';
import { checkTokenIds, crossEntropy, type Device, scope, ZebraError } from '@zebra/tensor';
import { SafetensorsError } from '@zebra/tensor/safetensors';
import { testDevice } from '@zebra/tensor/testing';
import { evaluationBatches, packDocuments } from '@zebra/tensor/train';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { editJson, headerOf, type SafetensorsJson, setElement, withFolder } from './support/folders.js';
import { rawSafetensors } from './support/raw-safetensors.js';
import { int32, randomIds } from './support/rows.js';
import { CONFIGS, smallModel, VOCABULARY } from './support/small-model.js';

let device: Device;
let live = 0;

beforeAll(async () => {
  device = await testDevice();
  live = device.statistics().liveBuffers;
});
afterAll(() => {
  expect(device.statistics().liveBuffers).toBe(live);
});

/** The error that `run` ends with: one of ours, that matches every pattern, with nothing left on the device. */
async function refusal(run: () => unknown, ...patterns: readonly RegExp[]): Promise<Error> {
  const before = device.statistics().liveBuffers;
  let error: unknown;
  try {
    await run();
  } catch (thrown) {
    error = thrown;
  }
  if (!(ZebraError.is(error) || SafetensorsError.is(error)))
    throw new Error(`expected one of our errors, got ${error}`);
  for (const pattern of patterns) expect(error.message).toMatch(pattern);
  expect(device.statistics().liveBuffers).toBe(before);
  return error;
}

/** Runs `use` with the folder of a good saved hybrid. */
async function withSaved(
  use: (folder: string) => Promise<void>,
  kind: 'llama' | 'mla-mamba2' = 'llama',
): Promise<void> {
  await withFolder(async (folder) => {
    using model = smallModel(device, kind);
    await saveModel(folder, model, model.spec, { configJson: CONFIGS[kind] });
    await use(folder);
  });
}

describe('a model file', () => {
  const first = 'model.embed_tokens.weight';
  const norm = 'model.norm.weight';
  type Edit = (header: SafetensorsJson) => void;
  const offsets =
    (name: string, start: number, end: number): Edit =>
    (header) => {
      header[name]!.data_offsets = [start, end];
    };

  it.each<[string, Edit, RegExp]>([
    ['an end past the file', (h) => (h[norm]!.data_offsets[1] += 1e6), /model\.norm\.weight/],
    ['an end at 2^63', offsets(norm, 0, 2 ** 63), /model\.norm\.weight/],
    ['a negative start', offsets(norm, -128, 0), /model\.norm\.weight/],
    ['a start after its end', offsets(norm, 128, 0), /model\.norm\.weight/],
    [
      'an overlap',
      (h) => (h[norm]!.data_offsets = h[first]!.data_offsets.map((x) => x % 128) as [number, number]),
      /./,
    ],
    ['a shape whose product is 2^63', (h) => (h[norm]!.shape = [2 ** 31, 2 ** 32]), /model\.norm\.weight/],
    ['a shape that overflows', (h) => (h[norm]!.shape = [2 ** 53, 2 ** 53, 2 ** 53]), /model\.norm\.weight/],
    ['a negative shape', (h) => (h[norm]!.shape = [-32]), /model\.norm\.weight/],
    ['a shape that its bytes contradict', (h) => (h[norm]!.shape = [31]), /model\.norm\.weight/],
    ['an unknown dtype', (h) => (h[norm]!.dtype = 'F33'), /model\.norm\.weight.*F33/],
  ])('with %s is refused by name', async (_, edit, pattern) => {
    await withSaved(async (folder) => {
      const path = join(folder, 'model.safetensors');
      const { header, dataStart } = await headerOf(path);
      edit(header);
      await writeFile(path, rawSafetensors(header, (await readFile(path)).subarray(dataStart)));
      await refusal(() => loadModel(device, folder), /model\.safetensors/, pattern);
    });
  });

  it.each<[string, (bytes: Buffer) => Uint8Array]>([
    ['that is empty', () => new Uint8Array()],
    ['cut within its first number', (bytes) => bytes.subarray(0, 5)],
    ['cut within its header', (bytes) => bytes.subarray(0, 100)],
    ['cut within its data', (bytes) => bytes.subarray(0, bytes.length - 10)],
    ['with bytes after its data', (bytes) => Buffer.concat([bytes, Buffer.alloc(16)])],
    ['whose header is said to be 2^63 bytes', (bytes) => withLength(bytes, 2n ** 63n)],
    ['whose header is said to end past the file', (bytes) => withLength(bytes, BigInt(bytes.length))],
    ['whose header is no JSON', (bytes) => rawSafetensors('{"a": nul', bytes)],
    ['whose header names a tensor twice', () => rawSafetensors(`{${twice},${twice}}`, new Uint8Array(4))],
    ['that is a web page', () => Buffer.from('<!DOCTYPE html><html><body>Not found</body></html>')],
  ])('%s is refused', async (_, damage) => {
    await withSaved(async (folder) => {
      const path = join(folder, 'model.safetensors');
      await writeFile(path, damage(await readFile(path)));
      await refusal(() => loadModel(device, folder), /model\.safetensors/);
    });
  });
  const twice = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';

  it('with missing, extra and misshaped tensors has all of them listed at once', async () => {
    await withSaved(async (folder) => {
      const path = join(folder, 'model.safetensors');
      const { header, dataStart } = await headerOf(path);
      header['model.layers.0.mlp.up_proj.weight']!.shape.reverse();
      header['model.layers.7.self_attn.k_proj.weight'] = header['model.layers.2.self_attn.k_proj.weight']!;
      delete header['model.layers.2.self_attn.k_proj.weight'];
      header['model.norm.wait'] = header[norm]!;
      delete header[norm];
      await writeFile(path, rawSafetensors(header, (await readFile(path)).subarray(dataStart)));
      await refusal(
        () => loadModel(device, folder),
        /missing model\.norm\.weight \[32\]/,
        /missing model\.layers\.2\.self_attn\.k_proj\.weight \[16, 32\]/,
        /unexpected model\.norm\.wait/,
        /unexpected model\.layers\.7\.self_attn\.k_proj\.weight/,
        /model\.layers\.0\.mlp\.up_proj\.weight has shape \[32, 48\], expected \[48, 32\]/,
      );
    });
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY])(
    'with a weight of %d has it named, and the weights before it freed',
    async (value) => {
      await withSaved(async (folder) => {
        await setElement(join(folder, 'model.safetensors'), 'model.layers.2.self_attn.k_proj.weight', 7, value);
        await refusal(
          () => loadModel(device, folder),
          new RegExp(`layers\\.2\\.self_attn\\.k_proj.* ${value} at element 7`),
        );
      });
    },
  );

  it('of integers is no model: the codes of a quantised one mean nothing alone', async () => {
    await withSaved(async (folder) => {
      const path = join(folder, 'model.safetensors');
      const { header, dataStart } = await headerOf(path);
      header[norm]!.dtype = 'I32';
      await writeFile(path, rawSafetensors(header, (await readFile(path)).subarray(dataStart)));
      await refusal(() => loadModel(device, folder), /model\.norm\.weight is I32/, /[Qq]uantised/);
    });
  });
});

function withLength(bytes: Buffer, length: bigint): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeBigUInt64LE(length, 0);
  return copy;
}

describe('an index of shards', () => {
  const names = [
    '../model.safetensors',
    '/etc/passwd.safetensors',
    'a/../../b.safetensors',
    '..\\b.safetensors',
    'x.bin',
  ];
  it.each(names)('that names %j is refused', async (shard) => {
    await withSaved(async (folder) => {
      const inner = join(folder, 'inner');
      await mkdir(inner);
      await cp(join(folder, 'config.json'), join(inner, 'config.json'));
      const index = { weight_map: { 'model.norm.weight': shard } };
      await writeFile(join(inner, 'model.safetensors.index.json'), JSON.stringify(index));
      await refusal(() => loadModel(device, inner), /model\.safetensors\.index\.json/, /model\.norm\.weight/, /trust/);
    });
  });

  it('whose shard is a link out of the folder is refused', async () => {
    await withSaved(async (folder) => {
      const inner = join(folder, 'inner');
      await mkdir(inner);
      await cp(join(folder, 'config.json'), join(inner, 'config.json'));
      await symlink(join(folder, 'model.safetensors'), join(inner, 'shard.safetensors'));
      const index = { weight_map: { 'model.norm.weight': 'shard.safetensors' } };
      await writeFile(join(inner, 'model.safetensors.index.json'), JSON.stringify(index));
      await refusal(() => loadModel(device, inner), /shard\.safetensors/, /link that leaves the folder/);
    });
  });

  it('whose shard is missing is refused by name', async () => {
    await withSaved(async (folder) => {
      await rm(join(folder, 'model.safetensors'));
      const index = { weight_map: { 'model.norm.weight': 'gone.safetensors' } };
      await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
      await refusal(() => loadModel(device, folder), /gone\.safetensors/);
    });
  });
});

describe('a folder', () => {
  it('that is not there, or empty, is named with what was looked for', async () => {
    await withFolder(async (folder) => {
      await refusal(() => loadModel(device, folder), /no config\.json/, /Hugging Face/);
      await refusal(() => loadModel(device, join(folder, 'nowhere')), /nowhere has no config\.json/);
      await writeFile(join(folder, 'config.json'), JSON.stringify(CONFIGS.llama));
      await refusal(() => loadModel(device, folder), /neither model\.safetensors nor/);
      await writeFile(join(folder, 'config.json'), '{"model_type": "llama"');
      await refusal(() => loadModel(device, folder), /config\.json is no JSON/);
    });
  });
});

describe('a config', () => {
  type Change = Readonly<Record<string, unknown>>;
  const refuses = (file: string, change: Change, patterns: readonly RegExp[]) =>
    withSaved(async (folder) => {
      await editJson(join(folder, file), (json) => void Object.assign(json, change));
      await refusal(() => loadModel(device, folder), ...patterns);
    }, 'mla-mamba2');

  it.each<[Change, RegExp]>([
    [{ model_type: 'gpt2' }, /model_type: expected one of "llama", "mistral", "qwen2", "qwen3", got "gpt2"/],
    [{ model_type: undefined }, /model_type/],
    [{ model_type: '__proto__' }, /model_type/],
    [{ num_key_value_heads: 3 }, /num_key_value_heads: expected a divisor of num_attention_heads \(4\), got 3/],
    [{ num_attention_heads: 5, head_dim: undefined }, /hidden_size: expected a multiple of num_attention_heads \(5\)/],
    [{ head_dim: 7 }, /head_dim: expected an even number/],
    [{ hidden_size: -32 }, /hidden_size: expected a positive integer, got -32/],
    [{ vocab_size: 1e300 }, /vocab_size/],
    [{ num_hidden_layers: 1e9 }, /num_hidden_layers/],
    [{ num_hidden_layers: 4 }, /n_layer: expected 4, as config\.json says, got 3/],
    [{ hidden_act: 'gelu' }, /hidden_act: expected "silu", got "gelu"/],
    [{ rope_scaling: { rope_type: 'dynamic', factor: 2 } }, /rope_scaling\.rope_type/],
    [{ rope_theta: Number.NaN }, /rope_theta/],
    [{ eos_token_id: VOCABULARY }, /eos_token_id: expected ids below vocab_size/],
    [{ quantization_config: { bits: 4 } }, /quantization_config/],
  ])('config.json with %j is refused', async (change, pattern) => {
    const json = Object.values(change)[0];
    // JSON has no NaN: what is written is null, which asks for the default.
    if (Number.isNaN(json)) return refuses('config.json', { rope_theta: 'NaN' }, [/config\.json/, pattern]);
    await refuses('config.json', change, [/config\.json/, pattern]);
  });

  it.each<[Change, RegExp]>([
    [{ n_layer: 4 }, /n_layer: expected 3, as config\.json says, got 4/],
    [{ mla_layers: [0, 3] }, /mla_layers: expected layers below n_layer \(3\), got \[0,3\]/],
    [{ mla_layers: [0, 0] }, /named once/],
    [{ mla_layers: 'all' }, /mla_layers: expected a list/],
    [{ qk_rope_head_dim: 3 }, /qk_rope_head_dim: expected an even number/],
    [{ kv_lora_rank: 0 }, /kv_lora_rank: expected a positive integer/],
    [{ hidden_size: 64 }, /hidden_size: expected 32, as config\.json says, got 64/],
    [{ d_xb: 8 }, /d_xb: expected 16/],
    [{ ssm_cfg: { ngroups: 2, d_state: 8 } }, /ssm_cfg\.ngroups: expected 4/],
  ])('hybrid_config.json with %j is refused', async (change, pattern) => {
    await refuses('hybrid_config.json', change, [/hybrid_config\.json/, pattern]);
  });

  it('that fits itself but not its weights has every contradiction listed', async () => {
    await refuses('config.json', { vocab_size: VOCABULARY + 1 }, [
      /model\.embed_tokens\.weight has shape \[61, 32\], expected \[62, 32\]/,
      /lm_head\.weight has shape \[61, 32\], expected \[62, 32\]/,
    ]);
    await refuses('hybrid_config.json', { mla_layers: [0, 1] }, [
      /missing model\.layers\.1\.mla\./,
      /unexpected model\.layers\.1\.mamba\./,
    ]);
    await refuses('hybrid_config.json', { kv_lora_rank: 1_000_000_000 }, [/kv_b_proj\.weight has shape/]);
  });
});

describe('token ids', () => {
  const drain = async (prompts: readonly (readonly number[])[]) => {
    using model = smallModel(device, 'llama');
    for await (const _ of generate(model, prompts, { maxNewTokens: 2 }));
  };

  it.each([
    [[[1, VOCABULARY]], /prompt 0 has 61 at position 1; expected an id from 0 to 60/],
    [[[3], [2, -1]], /prompt 1 has -1 at position 1/],
    [[[0.5]], /prompt 0 has 0\.5/],
    [[[Number.NaN]], /NaN/],
    [[[]], /prompt 0 has no tokens.*BOS/],
    [[], /no prompts/],
  ])('%j are refused by generate', async (prompts, pattern) => {
    await refusal(() => drain(prompts), /^generate: /, pattern);
  });

  it('outside the vocabulary are refused by checkTokenIds and perplexity', async () => {
    await refusal(() => checkTokenIds([0, VOCABULARY], VOCABULARY), /ids\[1\] must be an integer from 0 to 60, got 61/);
    using model = smallModel(device, 'llama');
    await refusal(() => perplexity(model, [[1, 2, VOCABULARY]]), /61/, /60/);
    await refusal(() => perplexity(model, [[1, 2, -5]]), /-5/);
    await refusal(() => perplexity(model, []), /the corpus has no documents/);
  });

  it('outside the vocabulary stay inside the buffers of a kernel that gets them all the same', async () => {
    using model = smallModel(device, 'llama');
    const before = device.statistics().liveBuffers;
    const ids = int32(device, [[1, 2 ** 31 - 1, -(2 ** 31), VOCABULARY]]);
    const targets = int32(device, [[2 ** 31 - 1, VOCABULARY, -7, 3]]);
    const loss = scope(() => crossEntropy({ hidden: model.forward(ids), head: model.headWeight, targets }));
    expect(await loss.item()).not.toBeNull();
    for (const item of [ids, targets, loss]) item.dispose();
    // The device still computes, and the same as ever.
    const good = int32(device, [randomIds(4, 1)]);
    const hidden = scope(() => model.forward(good));
    expect((await hidden.read()).every(Number.isFinite)).toBe(true);
    for (const item of [good, hidden]) item.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });
});

describe('an empty corpus', () => {
  it('is refused by everything that goes through one', async () => {
    const pack = { batchSize: 1, length: 4, seed: 1, boundaries: 'reset' } as const;
    await refusal(() => packDocuments([], pack), /packDocuments: the corpus has no documents/);
    await refusal(() => packDocuments([[1, 2], []], pack), /document 1 is empty/);
    await refusal(() => packDocuments([[1], [2]], pack), /one token/);
    await refusal(() => evaluationBatches([], pack), /evaluationBatches: the corpus has no documents/);
    using model = smallModel(device, 'llama');
    const models = { teacher: model, base: model, alternative: model };
    await refusal(
      () => sensitivityScores({ ...models, batches: [] }),
      /sensitivityScores: the calibration set is empty/,
    );
    await refusal(() => scorePairs(model, [], { endToken: 2 }), /scorePairs: no pairs/);
  });
});
