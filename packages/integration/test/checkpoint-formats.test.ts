import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  createHybridConfig,
  type HybridConfig,
  HybridModel,
  loadModel,
  modelSpec,
  modelSpecs,
  parseTransformerConfig,
  saveModel,
} from '@zebra/runtime';
import { elementCount, keep, matmul, Random, scope, type Tensor, tensor } from '@zebra/tensor';
import { openSafetensorsFolder, type TensorInput, writeSafetensorsFolder } from '@zebra/tensor/safetensors';
import { testDevice } from '@zebra/tensor/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { editJson, withFolder } from './support/folders.js';
import { int32, randomIds } from './support/rows.js';
import { CONFIGS, MODEL_KINDS, smallModel } from './support/small-model.js';

const device = await testDevice();
let live: number;
beforeEach(() => {
  live = device.statistics().liveBuffers;
});
afterEach(() => expect(device.statistics().liveBuffers).toBe(live));

async function logits(model: HybridModel): Promise<Float32Array> {
  using made = scope(() =>
    matmul(model.forward(int32(device, [randomIds(9, 8)])), model.headWeight, { transposeB: true, dtype: 'float32' }),
  );
  return (await made.read()) as Float32Array;
}

async function filesOf(folder: string): Promise<Map<string, string>> {
  const names = (await readdir(folder)).sort();
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name), 'latin1')] as const)),
  );
}

/** `config.json` as Python writes it: floats that JavaScript would spell otherwise, keys in an order of its own. */
const configText = (config: Readonly<Record<string, unknown>>) =>
  `${JSON.stringify({ architectures: ['X'], ...config, a_float: 1e-5, torch_dtype: 'bfloat16' }, undefined, 2)
    .replace(/"rope_theta": (\d+)/, '"rope_theta": $1.0')
    .replace(/"(rms_norm_eps|a_float)": 0\.00001/g, '"$1": 1e-05')
    .replace(/"factor": 8/, '"factor": 8.0')}\n`;

describe.each(MODEL_KINDS)('%s', (kind) => {
  // The types differ in nothing that a kind of layer knows of.
  it.each(kind === 'mla-mamba2' ? (['float32', 'float16', 'bfloat16'] as const) : (['bfloat16'] as const))(
    'stored as %s is the same byte for byte after a round trip, configs too',
    async (dtype) => {
      await withFolder(async (root) => {
        const [first, second] = [join(root, 'a'), join(root, 'b')];
        const text = configText(CONFIGS[kind]);
        expect(text).toContain('10000.0');
        using model = smallModel(device, kind);
        await saveModel(first, model, model.spec, { configJson: text, dtype, maxShardBytes: 30_000 });
        await writeFile(join(first, 'generation_config.json'), '{"eos_token_id": [1, 2], "temperature": 1.0}');
        using loaded = await loadModel(device, first);
        await saveModel(second, loaded, loaded.spec, { companionsFrom: first, dtype, maxShardBytes: 30_000 });
        const files = await filesOf(first);
        expect(files.size).toBeGreaterThanOrEqual(4);
        expect(files.get('config.json')).toBe(text);
        expect(await filesOf(second)).toEqual(files);
      });
    },
  );
});

describe('config.json from an object', () => {
  it('is spelled as Python spells it, floats where the library has floats', async () => {
    await withFolder(async (folder) => {
      using model = smallModel(device, 'llama');
      const configJson = { ...CONFIGS.llama, name: 'Übung', initializer_range: 0.02, pad_token_id: null, eos: [1, 2] };
      await saveModel(folder, model, model.spec, { configJson });
      const text = await readFile(join(folder, 'config.json'), 'utf8');
      expect(JSON.parse(text)).toEqual(configJson);
      expect(Object.keys(JSON.parse(text))).toEqual(Object.keys(configJson));
      for (const line of [
        '  "rms_norm_eps": 1e-05,',
        '  "rope_theta": 10000.0,',
        '    "factor": 8.0,',
        '    "low_freq_factor": 1.0,',
        '    "original_max_position_embeddings": 64',
        '  "name": "\\u00dcbung",',
        '  "initializer_range": 0.02,',
      ]) {
        expect(text.split('\n')).toContain(line);
      }
    });
  });

  it('must come from somewhere, and hold what JSON can', async () => {
    await withFolder(async (folder) => {
      using model = smallModel(device, 'llama');
      await expect(saveModel(folder, model, model.spec, {})).rejects.toThrow(/saveModel: expected configJson/);
      await expect(saveModel(folder, model, model.spec, { companionsFrom: folder })).rejects.toThrow(/got neither/);
      const configJson = { ...CONFIGS.llama, rope_theta: Number.NaN };
      await expect(saveModel(folder, model, model.spec, { configJson })).rejects.toThrow(/rope_theta: NaN/);
      expect(await readdir(folder)).toEqual([]);
    });
  });
});

describe('element types', () => {
  /** A llama's folder with its weights stored otherwise. */
  async function stored(
    folder: string,
    dtype: TensorInput['dtype'],
    edit: (name: string, values: Float32Array) => void,
  ) {
    using model = smallModel(device, 'llama');
    await saveModel(folder, model, model.spec, { configJson: CONFIGS.llama });
    const inputs: TensorInput[] = [];
    for (const [name, weight] of model.namedParameters()) {
      const data = (await weight.read()) as Float32Array;
      edit(name, data);
      inputs.push({ name, dtype, shape: weight.shape, data });
    }
    await writeSafetensorsFolder(folder, inputs, { maxShardBytes: 10_000 });
  }
  const MATRIX = 'model.layers.1.mlp.up_proj.weight';

  it.each(['F64', 'F32', 'F16', 'BF16'] as const)('%s files load, as the file says', async (dtype) => {
    await withFolder(async (folder) => {
      await stored(folder, dtype, () => undefined);
      using loaded = await loadModel(device, folder);
      await using reader = await openSafetensorsFolder(folder);
      for (const [name, weight] of loaded.namedParameters()) {
        expect(weight.dtype).toBe('float32');
        expect(await weight.read(), name).toEqual(await reader.readFloat32(name));
      }
    });
  });

  const half = describe.skipIf(!device.info.float16);
  half('float16', () => {
    it.each(['F64', 'F32', 'F16', 'BF16'] as const)(
      'from %s files: matrices float16, all else float32',
      async (dtype) => {
        await withFolder(async (folder) => {
          await stored(folder, dtype, () => undefined);
          using loaded = await loadModel(device, folder, { dtype: 'float16' });
          expect(loaded.spec.computeDType).toBe('float16');
          await using reader = await openSafetensorsFolder(folder);
          for (const [name, weight] of loaded.namedParameters()) {
            const isMatrix = weight.shape.length === 2;
            expect(weight.dtype).toBe(isMatrix ? 'float16' : 'float32');
            const values = await reader.readFloat32(name);
            using rounded = tensor(device, values, weight.shape, { dtype: weight.dtype });
            expect(await weight.read(), name).toEqual(await rounded.read());
          }
          expect((await logits(loaded)).every(Number.isFinite)).toBe(true);
          if (dtype !== 'F16') return;
          // Saved as what it was stored as, it is the same.
          const saved = join(folder, 'saved');
          await saveModel(saved, loaded, loaded.spec, { companionsFrom: folder, dtype: 'float16' });
          await using again = await openSafetensorsFolder(saved);
          expect([...again.names].sort()).toEqual([...reader.names].sort());
          for (const name of again.names) {
            expect(Buffer.compare(await again.readBytes(name), await reader.readBytes(name)), name).toBe(0);
          }
        });
      },
    );

    it.each([
      ['BF16', 131072],
      ['F32', -65520],
      ['F64', 70000],
    ] as const)('a %s weight of %d is named, or stays float32', async (dtype, value) => {
      await withFolder(async (folder) => {
        await stored(folder, dtype, (name, values) => {
          if (name === MATRIX) values[1000] = value;
        });
        await expect(loadModel(device, folder, { dtype: 'float16' })).rejects.toThrow(
          `${MATRIX} holds ${value} at element 1000, which float16 cannot hold. Load with dtype float32`,
        );
        const options = { dtype: 'float16', computeDType: 'float32', oversized: 'float32' } as const;
        using loaded = await loadModel(device, folder, options);
        const weight = loaded.namedParameters().get(MATRIX) as Tensor;
        expect(weight.dtype).toBe('float32');
        expect((await weight.read())[1000]).toBe(value);
        expect(loaded.namedParameters().get('model.layers.0.mlp.up_proj.weight')?.dtype).toBe('float16');
      });
    });

    it('65504 is held; in a norm any number is, and NaN nowhere', async () => {
      await withFolder(async (folder) => {
        await stored(folder, 'F32', (name, values) => {
          if (name === MATRIX) values[3] = 65504;
          if (name === 'model.norm.weight') values[3] = 1e30;
        });
        (await loadModel(device, folder, { dtype: 'float16' })).dispose();
        await stored(folder, 'F32', (name, values) => {
          if (name === MATRIX) values[3] = 1e6;
          if (name === 'model.norm.weight') values[7] = Number.NaN;
        });
        await expect(loadModel(device, folder, { dtype: 'float16', oversized: 'float32' })).rejects.toThrow(
          /model\.norm\.weight holds NaN at element 7\. The file is damaged/,
        );
      });
    });
  });

  it('no other is known', async () => {
    await withFolder(async (folder) => {
      await stored(folder, 'F32', () => undefined);
      const dtype = 'bfloat16' as 'float32';
      await expect(loadModel(device, folder, { dtype })).rejects.toThrow(/expected dtype float32 or float16/);
    });
  });
});

describe('other layouts', () => {
  const SIZES = {
    vocab_size: 61,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    model_type: 'llama',
    rms_norm_eps: 1e-5,
    rope_theta: 500000,
    max_position_embeddings: 256,
    tie_word_embeddings: false,
  };
  const config = parseTransformerConfig(SIZES);

  function randomModel(hybrid: HybridConfig): HybridModel {
    const spec = modelSpec(config, hybrid);
    const random = new Random(4);
    const weights = [...modelSpecs(spec)].map(([name, shape]) => {
      const values = Float32Array.from({ length: elementCount(shape) }, () => 0.2 * random.normal());
      return [name, keep(tensor(device, values, shape))] as const;
    });
    return new HybridModel(device, spec, new Map(weights));
  }

  /** Stores a model's weights under other names. */
  async function storeAs(folder: string, model: HybridModel, rename_: (inputs: Map<string, TensorInput>) => void) {
    const inputs = new Map<string, TensorInput>();
    for (const [name, weight] of model.namedParameters()) {
      inputs.set(name, { name, dtype: 'F32', shape: weight.shape, data: (await weight.read()) as Float32Array });
    }
    rename_(inputs);
    await writeSafetensorsFolder(folder, inputs.values());
    await writeFile(join(folder, 'config.json'), JSON.stringify(SIZES));
  }

  const MAMBA_CONFIG = {
    d_model: 32,
    ssm_cfg: { expand: 1, ngroups: 4, d_state: 8 },
    rms_norm_eps: 1e-5,
    vocab_size: null,
    d_inner: 32,
    d_xb: 16,
    intermediate_size: 48,
    hidden_act: 'silu',
    n_layer: 4,
    attn_layers: [1, 3],
  };
  const mambaHybrid = createHybridConfig(config, {
    layers: ['mamba2', 'attention', 'mamba2', 'attention'],
    kvLoraRank: 16,
  });

  it('MambaInLlama: mamba_config.json, attention by its usual names or as one projection', async () => {
    using model = randomModel(mambaHybrid);
    const expected = await logits(model);
    for (const joined of [false, true]) {
      await withFolder(async (folder) => {
        await storeAs(folder, model, (inputs) => {
          for (const layer of joined ? [1, 3] : []) {
            const take = (letter: string) => {
              const name = `model.layers.${layer}.self_attn.${letter}_proj.weight`;
              const found = inputs.get(name) as TensorInput;
              inputs.delete(name);
              return found;
            };
            const parts = ['q', 'k', 'v'].map(take);
            const data = Float32Array.from(parts.flatMap((part) => [...(part.data as Float32Array)]));
            const name = `model.layers.${layer}.mha.in_proj.weight`;
            inputs.set(name, { name, dtype: 'F32', shape: [64, 32], data });
            const out = `model.layers.${layer}.mha.out_proj.weight`;
            inputs.set(out, { ...take('o'), name: out });
          }
        });
        await writeFile(join(folder, 'mamba_config.json'), JSON.stringify(MAMBA_CONFIG));
        using loaded = await loadModel(device, folder);
        expect(loaded.spec.layers).toEqual(['mamba2', 'attention', 'mamba2', 'attention']);
        expect(await logits(loaded)).toEqual(expected);
        // Saved over itself it has the released layout, and one config.
        await saveModel(folder, loaded, loaded.spec, { companionsFrom: folder });
        expect((await readdir(folder)).sort()).toEqual(['config.json', 'hybrid_config.json', 'model.safetensors']);
        using again = await loadModel(device, folder);
        expect(await logits(again)).toEqual(expected);
      });
    }
  });

  it('one projection that does not fit is reported, not guessed at', async () => {
    using model = randomModel(mambaHybrid);
    await withFolder(async (folder) => {
      await storeAs(folder, model, (inputs) => {
        inputs.delete('model.layers.1.self_attn.q_proj.weight');
        const name = 'model.layers.1.mha.in_proj.weight';
        inputs.set(name, { name, dtype: 'F32', shape: [60, 32], data: new Float32Array(60 * 32) });
      });
      await writeFile(join(folder, 'mamba_config.json'), JSON.stringify(MAMBA_CONFIG));
      await expect(loadModel(device, folder)).rejects.toThrow(
        /missing model\.layers\.1\.self_attn\.q_proj\.weight \[32, 32\]\n\s*unexpected model\.layers\.1\.mha\.in_proj\.weight/,
      );
    });
  });

  const OUTER = {
    d_model: 32,
    rms_norm_eps: 1e-5,
    vocab_size: null,
    d_inner: 32,
    d_xb: 16,
    intermediate_size: 48,
    hidden_act: 'silu',
    n_layer: 4,
    attn_layers: [2],
  };
  const INNER = {
    hidden_size: 32,
    num_attention_heads: 4,
    llama_num_key_value_heads: 2,
    mla_num_key_value_heads: 2,
    kv_lora_rank: 16,
    q_lora_rank: 24,
    qk_rope_head_dim: 4,
    qk_nope_head_dim: 4,
    v_head_dim: 8,
    rope_theta: 500000,
    layer_rank_list: { 0: { q_rank: 16, kv_rank: 8 }, 1: { q_rank: 24, kv_rank: 16 }, 3: { q_rank: 24, kv_rank: 24 } },
    rope_scaling: { factor: 8, original_max_position_embeddings: 64, rope_type: 'llama3', high_freq_factor: 4 },
    model_type: 'deepseek_v3',
  };

  it('X-EcoMLA: MLA_config.json and mla_layer_config.json, ranks a layer, keys and values for every head', async () => {
    const hybrid = createHybridConfig(config, {
      layers: ['mla', 'mla', 'attention', 'mla'],
      ...{ kvLoraRank: 16, qLoraRank: 24, qkRopeHeadDim: 4, qkNopeHeadDim: 4, useFullKvHead: true },
    });
    const layerRanks = new Map([
      [0, { qLoraRank: 16, kvLoraRank: 8 }],
      [3, { qLoraRank: 24, kvLoraRank: 24 }],
    ]);
    const rope = { theta: 500000, scaling: { factor: 8, originalMaxPositionEmbeddings: 64 } };
    using model = randomModel({ ...hybrid, mla: { ...hybrid.mla, layerRanks, rope } });
    const expected = await logits(model);
    await withFolder(async (folder) => {
      await storeAs(folder, model, () => undefined);
      await writeFile(join(folder, 'MLA_config.json'), JSON.stringify(OUTER));
      await writeFile(join(folder, 'mla_layer_config.json'), JSON.stringify(INNER));
      using loaded = await loadModel(device, folder);
      expect(loaded.spec.layers).toEqual(['mla', 'mla', 'attention', 'mla']);
      expect(await logits(loaded)).toEqual(expected);
      await saveModel(folder, loaded, loaded.spec, { companionsFrom: folder });
      expect((await readdir(folder)).sort()).toEqual(['config.json', 'hybrid_config.json', 'model.safetensors']);
      using again = await loadModel(device, folder);
      expect(await logits(again)).toEqual(expected);
    });
  });

  it('X-EcoMLA: a key left out has the meaning of its own class, and other kinds of YaRN are refused', async () => {
    using model = randomModel(mambaHybrid);
    await withFolder(async (folder) => {
      await storeAs(folder, model, () => undefined);
      await writeFile(join(folder, 'MLA_config.json'), JSON.stringify(OUTER));
      const inner = join(folder, 'mla_layer_config.json');
      await writeFile(inner, JSON.stringify(INNER));
      const without = async (edit: (json: Record<string, unknown>) => void) => {
        await writeFile(inner, JSON.stringify(INNER));
        await editJson(inner, edit);
        return loadModel(device, folder).then(
          () => 'loaded',
          (error: Error) => error.message,
        );
      };
      expect(
        await without((json) => {
          delete json.num_attention_heads;
        }),
      ).toMatch(
        /MLA_config\.json, mla_layer_config\.json: num_attention_heads: expected 4, as config\.json says, got 128/,
      );
      expect(
        await without((json) => {
          json.rope_scaling = { factor: 8, mscale_all_dim: 1 };
        }),
      ).toMatch(/rope_scaling\.mscale_all_dim: expected 0 or nothing, got 1/);
    });
  });

  it('mistral: a llama by another name', async () => {
    using llama = smallModel(device, 'llama');
    const expected = await logits(llama);
    await withFolder(async (folder) => {
      await saveModel(folder, llama, llama.spec, {
        configJson: { ...CONFIGS.llama, model_type: 'mistral', sliding_window: null },
      });
      using loaded = await loadModel(device, folder);
      expect(loaded.spec.config.modelType).toBe('mistral');
      expect(await logits(loaded)).toEqual(expected);
    });
  });

  it('a new spelling of rotary positions is the old one', async () => {
    using llama = smallModel(device, 'llama');
    const expected = await logits(llama);
    await withFolder(async (folder) => {
      const { rope_theta, rope_scaling, ...rest } = CONFIGS.llama as Record<string, Record<string, unknown>>;
      const configJson = { ...rest, rope_parameters: { ...rope_scaling, rope_theta } };
      await saveModel(folder, llama, llama.spec, { configJson });
      using loaded = await loadModel(device, folder);
      expect(await logits(loaded)).toEqual(expected);
    });
  });

  it('an interrupted save of a hybrid over a MambaInLlama folder does not mix configs', async () => {
    using model = randomModel(mambaHybrid);
    await withFolder(async (folder) => {
      await storeAs(folder, model, () => undefined);
      await writeFile(join(folder, 'mamba_config.json'), JSON.stringify(MAMBA_CONFIG));
      await saveModel(folder, model, model.spec, { companionsFrom: folder });
      // As if killed before the old layout's config was removed: the released one goes before it.
      await writeFile(join(folder, 'mamba_config.json'), '{"n_layer": 99}');
      using loaded = await loadModel(device, folder);
      expect(loaded.spec.layers).toEqual(model.spec.layers);
      await rm(join(folder, 'hybrid_config.json'));
      await rename(join(folder, 'mamba_config.json'), join(folder, 'unused.json'));
      await expect(loadModel(device, folder)).rejects.toThrow(/missing model\.layers\.0\.self_attn/);
    });
  });
});
