import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { elementCount, keep, Random, tensor, ZebraError } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';
import { readModelSpec } from '../checkpoint/load-model.js';
import { saveModel } from '../checkpoint/save-model.js';
import { createHybridConfig, parseTransformerConfig } from '../config/index.js';
import { perplexity } from '../evaluate/index.js';
import { HybridModel } from '../models/model.js';
import { modelSpec } from '../models/model-spec.js';
import { modelSpecs } from '../models/specs.js';
import { fromPretrained } from './from-pretrained.js';
import { sha256, TestHub } from './hub-server.testing.js';
import { modelCard } from './model-card.js';
import type { HubProgress } from './progress.js';
import { type PushToHubOptions, pushToHub } from './push-to-hub.js';

const TOKENIZER = fileURLToPath(new URL('../../test/tokenizers/sentencepiece', import.meta.url));
const CONFIG = {
  model_type: 'llama',
  vocab_size: 289,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  tie_word_embeddings: true,
  max_position_embeddings: 256,
};
const WEIGHTS = 'model-00001-of-00003.safetensors';

let hub: TestHub;
let home: string;
let folder: string;
beforeAll(async () => {
  hub = await TestHub.start();
  home = await mkdtemp(join(tmpdir(), 'zebra-push-'));
  folder = join(home, 'model');
  const device = await testDevice();
  const config = parseTransformerConfig(CONFIG);
  const spec = modelSpec(
    config,
    createHybridConfig(config, { layers: ['mla', 'mamba2', 'mla'], kvLoraRank: 8, qLoraRank: 16 }),
  );
  const random = new Random(1);
  const weights = [...modelSpecs(spec)].map(([name, shape]) => {
    const value = name.includes('norm') ? () => 1 : () => random.normal() / Math.sqrt(shape.at(-1)!);
    const values = Float32Array.from({ length: elementCount(shape) }, value);
    return [name, keep(tensor(device, values, shape))] as const;
  });
  const model = new HybridModel(device, spec, new Map(weights));
  await saveModel(folder, model, spec, { configJson: CONFIG, companionsFrom: TOKENIZER, maxShardBytes: 60_000 });
  model.dispose();
  writeFileSync(join(folder, 'notes.txt'), 'mine');
});
afterAll(async () => {
  await hub.stop();
  await rm(home, { recursive: true, force: true });
});

// A library never prints.
const CONSOLE = ['log', 'info', 'warn', 'error', 'debug'] as const;
let spies: readonly MockInstance[];
beforeEach(() => {
  hub.reset();
  for (const name of [
    'HF_TOKEN',
    'HUGGING_FACE_HUB_TOKEN',
    'HF_HUB_CACHE',
    'HUGGINGFACE_HUB_CACHE',
    'HF_HUB_OFFLINE',
  ]) {
    vi.stubEnv(name, '');
  }
  vi.stubEnv('HF_HOME', join(home, 'hf'));
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  spies = CONSOLE.map((name) => vi.spyOn(console, name));
});
afterEach(() => {
  for (const spy of spies) expect(spy).not.toHaveBeenCalled();
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
});

const push = (repo: string, options: PushToHubOptions = {}) =>
  pushToHub(folder, repo, { token: hub.token, retryDelay: 2, ...options });
const filesOf = (repo: string) => hub.repositories.get(repo)!.commits.at(-1)!.files;
const read = (name: string) => readFileSync(join(folder, name));

async function errorOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!ZebraError.is(error)) throw error ?? new Error('nothing was thrown');
  return `${error.code}: ${error.message}`;
}

describe('pushToHub', () => {
  it('uploads the model in one commit, and nothing else', async () => {
    const seen: HubProgress[] = [];
    const { commit, url } = await push('zebra/pushed', { private: true, onProgress: (each) => seen.push(each) });
    const { isPrivate, commits } = hub.repositories.get('zebra/pushed')!;
    expect(isPrivate).toBe(true);
    expect(commits.map(({ sha }) => sha)).toEqual([commit]);
    expect(url).toContain(commit);
    const files = filesOf('zebra/pushed');
    const shards = [1, 2, 3].map((shard) => `model-0000${shard}-of-00003.safetensors`);
    const small = ['config.json', 'hybrid_config.json', 'tokenizer.json', 'tokenizer_config.json'];
    expect([...files.keys()].sort()).toEqual(['README.md', ...small, 'model.safetensors.index.json', ...shards].sort());
    for (const name of [...small, ...shards]) expect(sha256(files.get(name)!)).toBe(sha256(read(name)));
    expect(new TextDecoder().decode(files.get('README.md'))).toBe(
      modelCard('zebra/pushed', await readModelSpec(folder)),
    );
    expect(seen.at(-1)).toMatchObject({ phase: 'upload', files: 9, filesDone: 9, secondsLeft: 0 });
    // Large files went to the store, which sees no token.
    const puts = hub.seen.filter(({ server }) => server === 'cdn');
    expect(puts.length).toBeGreaterThan(1);
    expect(new Set(puts.map(({ method, authorization }) => `${method} ${authorization}`))).toEqual(
      new Set(['PUT undefined']),
    );
  });

  it('again sends no large file twice, and outlives faults', async () => {
    hub.faults.push({ server: 'hub', path: /repos.create/, status: 403 });
    hub.faults.push({ server: 'hub', path: /preupload/, status: 429, headers: { 'retry-after': '0' } });
    await push('zebra/pushed', { card: { license: 'apache-2.0' } });
    expect(hub.seen.filter(({ server }) => server === 'cdn')).toEqual([]);
    expect(new TextDecoder().decode(filesOf('zebra/pushed').get('README.md'))).toContain('license: "apache-2.0"');
  });

  it('takes the card that it is given', async () => {
    await push('zebra/card', { card: '# Mine' });
    expect(new TextDecoder().decode(filesOf('zebra/card').get('README.md'))).toBe('# Mine');
    await push('zebra/none', { card: false });
    expect([...filesOf('zebra/none').keys()]).not.toContain('README.md');
  });

  it('says why it cannot', async () => {
    expect(await errorOf(push('zebra/x', { token: false }))).toMatch(/^argument: pushToHub: expected a token/);
    expect(await errorOf(push('x'))).toMatch(/^argument: pushToHub: expected the name of a repository/);
    expect(await errorOf(pushToHub(home, 'zebra/x', { token: 'hf_x' }))).toMatch(/^io: .*holds no complete model/);
    expect(await errorOf(push('zebra/x', { token: 'hf_wrong' }))).toMatch(/^io: .*the token may not see it \(401\)/);
    hub.faults.push({ server: 'hub', path: /commit/, status: 403 });
    expect(await errorOf(push('zebra/x'))).toMatch(/^io: .*access is denied \(403\)/);
    // The store has the large files; what it lacks is refused with a fault.
    hub.faults.push({ server: 'hub', path: /batch/, status: 500 });
    expect(await errorOf(push('zebra/x'))).toMatch(/^io: .*has a fault \(500\)/);
  });
});

describe('fromPretrained', () => {
  it('gives the same model by the hub as by the folder', async () => {
    const device = await testDevice();
    await push('zebra/same');
    const before = device.statistics().liveBuffers;
    const steps: number[] = [];
    const local = await fromPretrained(device, folder);
    const remote = await fromPretrained(device, 'zebra/same', {
      onLoad: ({ bytesDone, bytesTotal }) => steps.push(bytesDone / bytesTotal),
    });
    const cached = await fromPretrained(device, remote.folder);
    expect(steps.at(-1)).toBe(1);
    expect(local.commit).toBeUndefined();
    expect(remote.commit).toBe(hub.repositories.get('zebra/same')!.commits.at(-1)!.sha);
    expect(sha256(readFileSync(join(remote.folder, WEIGHTS)))).toBe(sha256(read(WEIGHTS)));
    const text = 'One model, by two ways.';
    const losses: number[] = [];
    for (const { model, tokenizer } of [local, remote, cached]) {
      losses.push((await perplexity(model, [tokenizer.encode(text)], { batchSize: 1, length: 32 })).nats);
    }
    expect(losses[0]).toBeGreaterThan(1);
    expect(losses).toEqual([losses[0], losses[0], losses[0]]);
    for (const { model } of [local, remote, cached]) model.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('wants a folder or a repository', async () => {
    const device = await testDevice();
    expect(await errorOf(fromPretrained(device, join(home, 'nothing')))).toMatch(
      /^argument: fromPretrained: expected a folder/,
    );
    expect(await errorOf(fromPretrained(device, 'zebra/absent', { retries: 0 }))).toMatch(/^io: .*zebra\/absent/);
  });
});

describe('modelCard', () => {
  it('tells what the model is', async () => {
    const card = modelCard('zebra/hybrid', await readModelSpec(folder), {
      baseModel: 'org/base',
      license: 'apache-2.0',
      datasets: ['org/text'],
      languages: ['en'],
      losses: { 'held out | nats': 1.23456789, 'a\nname': 2 },
    });
    expect(card.split('\n# ')[0]).toBe(
      '---\nlicense: "apache-2.0"\nlanguage:\n- "en"\nbase_model: "org/base"\ndatasets:\n- "org/text"\npipeline_tag: text-generation\ntags:\n- "zebra"\n- "llama"\n- "hybrid"\n- "mla"\n- "mamba2"\n---\n',
    );
    expect(card).toContain('A hybrid of MLA and Mamba2 layers, made from [org/base](https://huggingface.co/org/base).');
    expect(card).toContain('| MLA | 2 | 0, 2 |\n| Mamba2 | 1 | 1 |\n');
    expect(card).toContain('| rank of the query latent | 16 |\n| rank of the key/value latent | 8 |');
    // 2 layers · (8 + 4) latents of 3 layers · 2·2·8 keys and values.
    expect(card).toContain('each token adds 48 bytes, 25.00% of the 192 bytes');
    expect(card).toContain('| held out \\| nats | 1.2346 |\n| a name | 2 |');
    expect(card).toContain('await fromPretrained(device, "zebra/hybrid")');
    expect(card).toMatch(/## Licence\n\napache-2\.0\. The terms of org\/base apply\.\n$/);
  });

  it('of a Transformer speaks of no hybrid', () => {
    const card = modelCard('zebra/plain', modelSpec(parseTransformerConfig(CONFIG)));
    expect(card).toContain('A llama Transformer.');
    expect(card).not.toMatch(/hybrid|## Cache|## Results|## Licence/);
  });
});
