import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type HybridModel, loadModel, modelSpecs, saveModel, type TransferProgress } from '@zebra/runtime';
import { elementCount, matmul, scope } from '@zebra/tensor';
import { openSafetensors, openSafetensorsFolder } from '@zebra/tensor/safetensors';
import { relativeError, testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { editJson, withFolder } from './support/folders.js';
import { int32, randomIds } from './support/rows.js';
import { CONFIGS, MODEL_KINDS, type ModelKind, smallModel, smallSpec } from './support/small-model.js';

async function logits(model: HybridModel): Promise<Float32Array> {
  using made = scope(() => {
    const ids = int32(model.device, [randomIds(9, 8), randomIds(9, 9)]);
    return matmul(model.forward(ids), model.headWeight, { transposeB: true });
  });
  return (await made.read()) as Float32Array;
}

/** Runs `use` with a small model, and sees that nothing stays on the device. */
async function withModel(kind: ModelKind, use: (model: HybridModel) => Promise<void>): Promise<void> {
  const device = await testDevice();
  const live = device.statistics().liveBuffers;
  const model = smallModel(device, kind);
  try {
    await use(model);
  } finally {
    model.dispose();
  }
  expect(device.statistics().liveBuffers).toBe(live);
}

const save = (folder: string, model: HybridModel, options: Partial<Parameters<typeof saveModel>[3]> = {}) =>
  saveModel(folder, model, model.spec, { configJson: CONFIGS.llama, ...options });

describe.each(MODEL_KINDS)('%s', (kind) => {
  it.each([
    ['one file', {}, 1],
    ['shards', { maxShardBytes: 20_000 }, 3],
  ])('saved as %s and loaded gives the same logits bit for bit', async (_, options, files) => {
    await withFolder((folder) =>
      withModel(kind, async (model) => {
        await save(folder, model, { configJson: CONFIGS[kind], ...options });
        const weights = (await readdir(folder)).filter((name) => name.endsWith('.safetensors'));
        if (files === 1) expect(weights).toEqual(['model.safetensors']);
        else expect(weights.length).toBeGreaterThanOrEqual(files);
        using loaded = await loadModel(model.device, folder);
        expect(loaded.spec.layers).toEqual(model.spec.layers);
        expect(await logits(loaded)).toEqual(await logits(model));
      }),
    );
  });

  it('tells how far loading and saving are, ending at the whole', async () => {
    await withFolder((folder) =>
      withModel(kind, async (model) => {
        const saved: TransferProgress[] = [];
        const loaded: TransferProgress[] = [];
        await save(folder, model, { configJson: CONFIGS[kind], onProgress: (report) => saved.push(report) });
        (await loadModel(model.device, folder, { onProgress: (report) => loaded.push(report) })).dispose();
        const sizes = [...modelSpecs(smallSpec(kind)).values()].map((shape) => 4 * elementCount(shape));
        const bytes = sizes.reduce((sum, size) => sum + size, 0);
        expect(loaded.at(-1)).toMatchObject({ bytesDone: bytes, bytesTotal: bytes, secondsLeft: 0 });
        expect(loaded.at(-1)!.bytesPerSecond).toBeGreaterThan(0);
        // A hybrid's tied head is stored, and not loaded.
        expect(saved.at(-1)!.bytesDone).toBe(saved.at(-1)!.bytesTotal);
        expect(saved.at(-1)!.bytesDone).toBeGreaterThanOrEqual(bytes);
      }),
    );
  });
});

describe('the head of a tied model', () => {
  const names = async (folder: string) => {
    await using reader = await openSafetensorsFolder(folder);
    return [...reader.names];
  };

  it('is not stored with a Transformer, and stored with a hybrid', async () => {
    await withFolder((folder) =>
      withModel('llama', async (model) => {
        await save(folder, model);
        expect(await names(folder)).not.toContain('lm_head.weight');
      }),
    );
    await withFolder((folder) =>
      withModel('all-mla', async (model) => {
        await save(folder, model);
        expect(await names(folder)).toContain('lm_head.weight');
        await using file = await openSafetensors(join(folder, 'model.safetensors'));
        expect(await file.readFloat32('lm_head.weight')).toEqual(await file.readFloat32('model.embed_tokens.weight'));
      }),
    );
  });

  it('may be stored or not: an untied file loads into a tied config', async () => {
    await withFolder((folder) =>
      withModel('qwen2', async (model) => {
        // Stores lm_head.weight, as its config is untied; then the config says that the head is the embedding.
        await save(folder, model, { configJson: CONFIGS.qwen2 });
        await editJson(join(folder, 'config.json'), (config) => {
          config.tie_word_embeddings = true;
        });
        using loaded = await loadModel(model.device, folder);
        expect(loaded.headWeight).toBe(loaded.namedParameters().get('model.embed_tokens.weight'));
      }),
    );
  });

  it('is missing where an untied config finds none', async () => {
    await withFolder((folder) =>
      withModel('llama', async (model) => {
        await save(folder, model);
        await editJson(join(folder, 'config.json'), (config) => {
          config.tie_word_embeddings = false;
        });
        await expect(loadModel(model.device, folder)).rejects.toThrow(/missing lm_head\.weight \[61, 32\]/);
      }),
    );
  });
});

describe('narrow storage', () => {
  it.each([
    ['float16', 1e-3],
    ['bfloat16', 8e-3],
  ] as const)('%s is near', async (dtype, tolerance) => {
    await withFolder((folder) =>
      withModel('mla-mamba2', async (model) => {
        await save(folder, model, { configJson: CONFIGS['mla-mamba2'], dtype });
        using loaded = await loadModel(model.device, folder);
        for (const [name, weight] of model.namedParameters()) {
          const got = (await loaded.namedParameters().get(name)!.read()) as Float32Array;
          expect(relativeError(got, await weight.read()), name).toBeLessThan(tolerance);
        }
      }),
    );
  });

  it.each([
    [70000, /model\.layers\.1\.mlp\.up_proj\.weight holds 70000 at element 3.*float32 or bfloat16/],
    [-65520, /holds -65520 at element 3/],
    [Number.NaN, /holds NaN at element 3.*diverged/],
  ])('float16 refuses a weight of %d, names it, and leaves the old model', async (value, message) => {
    await withFolder((folder) =>
      withModel('llama', async (model) => {
        await save(folder, model, { dtype: 'float16' });
        const before = await readFile(join(folder, 'model.safetensors'));
        const weight = model.namedParameters().get('model.layers.1.mlp.up_proj.weight')!;
        const values = (await weight.read()) as Float32Array;
        values[3] = value;
        weight.write(values);
        await expect(save(folder, model, { dtype: 'float16' })).rejects.toThrow(message);
        expect(await readFile(join(folder, 'model.safetensors'))).toEqual(before);
        expect((await readdir(folder)).sort()).toEqual(['config.json', 'model.safetensors']);
      }),
    );
  });

  it.each([
    ['float32', Number.POSITIVE_INFINITY, /model\.norm\.weight holds Infinity at element 0.*diverged/],
    ['bfloat16', 3.4e38, /holds 3\.39\d*e\+38 at element 0, which bfloat16 cannot hold\. Save as float32\./],
  ] as const)('%s refuses %d: what could not be loaded is not saved', async (dtype, value, message) => {
    await withFolder((folder) =>
      withModel('llama', async (model) => {
        const weight = model.namedParameters().get('model.norm.weight')!;
        weight.write(((await weight.read()) as Float32Array).fill(value, 0, 1));
        await expect(save(folder, model, { dtype })).rejects.toThrow(message);
        expect(await readdir(folder)).toEqual([]);
      }),
    );
  });

  it('float16 takes what it can hold: 65504, and 65519 that rounds to it', async () => {
    await withFolder((folder) =>
      withModel('llama', async (model) => {
        const weight = model.namedParameters().get('model.norm.weight')!;
        const values = (await weight.read()) as Float32Array;
        values.set([65504, 65519.0]);
        weight.write(values);
        await save(folder, model, { dtype: 'float16' });
        using loaded = await loadModel(model.device, folder);
        const got = await loaded.namedParameters().get('model.norm.weight')!.read();
        expect([...got.slice(0, 2)]).toEqual([65504, 65504]);
      }),
    );
  });
});

it('companions of the source folder travel along', async () => {
  await withFolder((folder) =>
    withModel('llama', async (model) => {
      await save(join(folder, 'a'), model);
      await writeFile(join(folder, 'a', 'tokenizer.json'), '{"a": 1}');
      await save(join(folder, 'b'), model, { companionsFrom: join(folder, 'a') });
      expect(await readFile(join(folder, 'b', 'tokenizer.json'), 'utf8')).toBe('{"a": 1}');
      expect((await readdir(join(folder, 'b'))).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    }),
  );
});
