import { readdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { scanCachedRepo } from '@huggingface/hub';
import { ZebraError } from '@zebra/tensor';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest';
import { type DownloadModelOptions, downloadModel } from './download-model.js';
import { gitHash, sha256, TestHub } from './hub-server.testing.js';
import type { HubProgress } from './progress.js';

const REPO = 'zebra/tiny';
const bytesOf = (text: string) => new TextEncoder().encode(text);
const noise = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, i) => Math.imul(i + seed, 0x9e3779b1) >>> 24);

const CONFIG = bytesOf('{"model_type":"llama"}');
const TOKENIZER = bytesOf('{"a":"tokenizer"}');
const WEIGHTS = noise(150_000, 1);
const FILES = new Map([
  ['config.json', CONFIG],
  ['tokenizer.json', TOKENIZER],
  ['model.safetensors', WEIGHTS],
  ['pytorch_model.bin', noise(30_000, 2)],
  ['README.md', bytesOf('# Tiny')],
]);

let hub: TestHub;
let home: string;
let commit: string;
beforeAll(async () => {
  hub = await TestHub.start();
  commit = hub.commit(REPO, FILES);
  hub.commit('zebra/private', FILES, true);
});
afterAll(() => hub.stop());

// A library never prints.
const CONSOLE = ['log', 'info', 'warn', 'error', 'debug'] as const;
let spies: readonly MockInstance[];
beforeEach(async () => {
  hub.reset();
  home = await mkdtemp(join(tmpdir(), 'zebra-hub-'));
  // Nothing of the real environment may decide what the tests see.
  for (const name of ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE']) {
    vi.stubEnv(name, '');
  }
  vi.stubEnv('HF_HUB_OFFLINE', '');
  vi.stubEnv('HF_HOME', home);
  vi.stubEnv('HF_ENDPOINT', hub.endpoint);
  spies = CONSOLE.map((name) => vi.spyOn(console, name));
});
afterEach(async () => {
  for (const spy of spies) expect(spy).not.toHaveBeenCalled();
  vi.restoreAllMocks();
  vi.unstubAllEnvs();
  await rm(home, { recursive: true, force: true });
});

const download = (options: DownloadModelOptions = {}, repo = REPO) =>
  downloadModel(repo, { retryDelay: 2, ...options });
const cacheOf = (repo = REPO) => join(home, 'hub', `models--${repo.replace('/', '--')}`);
// By hash, as comparing arrays element by element takes long.
const weightsIn = (folder: string) => sha256(readFileSync(join(folder, 'model.safetensors')));
const RIGHT = sha256(WEIGHTS);
const cdnReads = () => hub.seen.filter(({ server, method }) => server === 'cdn' && method === 'GET');

async function errorOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!ZebraError.is(error)) throw error ?? new Error('nothing was thrown');
  return `${error.code}: ${error.message}`;
}

describe('the cache', () => {
  it('has the layout of huggingface_hub, and holds what loading needs', async () => {
    const { folder, linkRoot, commit: sha } = await download();
    expect(sha).toBe(commit);
    expect(linkRoot).toBe(cacheOf());
    expect(folder).toBe(join(cacheOf(), 'snapshots', commit));
    expect(readdirSync(folder).sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    expect(readdirSync(join(cacheOf(), 'blobs')).sort()).toEqual(
      [gitHash(CONFIG), gitHash(TOKENIZER), sha256(WEIGHTS)].sort(),
    );
    expect(readlinkSync(join(folder, 'model.safetensors'))).toBe(join('..', '..', 'blobs', sha256(WEIGHTS)));
    expect(readFileSync(join(cacheOf(), 'refs', 'main'), 'utf8')).toBe(commit);
    expect(weightsIn(folder)).toBe(RIGHT);
    const scanned = await scanCachedRepo(cacheOf());
    expect(scanned.revisions.map(({ commitOid, refs }) => [commitOid, refs])).toEqual([[commit, ['main']]]);
  });

  it('is asked first: nothing is fetched twice', async () => {
    await download();
    hub.reset();
    await download();
    expect(hub.seen.map(({ path }) => path.replace(/\?.*/, ''))).toEqual([`/api/models/${REPO}/revision/main`]);
  });

  it('lies where options and environment say', async () => {
    vi.stubEnv('HF_HUB_CACHE', join(home, 'elsewhere'));
    expect((await download()).linkRoot).toBe(join(home, 'elsewhere', 'models--zebra--tiny'));
    expect((await download({ cacheDir: join(home, 'own') })).linkRoot).toBe(join(home, 'own', 'models--zebra--tiny'));
  });

  it('shares the contents of commits', async () => {
    const first = hub.commit('zebra/moving', FILES);
    await download({}, 'zebra/moving');
    const second = hub.commit('zebra/moving', new Map([['config.json', bytesOf('{"model_type":"qwen2"}')]]));
    hub.reset();
    const { folder } = await download({}, 'zebra/moving');
    expect(folder).toContain(second);
    expect(cdnReads()).toEqual([]);
    expect(weightsIn(folder)).toBe(RIGHT);
    const at = await download({ revision: first }, 'zebra/moving');
    expect(readFileSync(join(at.folder, 'config.json'))).toEqual(Buffer.from(CONFIG));
    // A commit is no branch: no reference is written.
    expect(readdirSync(join(cacheOf('zebra/moving'), 'refs'))).toEqual(['main']);
    expect((await download({ offline: true }, 'zebra/moving')).commit).toBe(second);
  });

  it('takes shards and their index', async () => {
    const weight_map = { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' };
    const index = bytesOf(JSON.stringify({ weight_map }));
    const shards = new Map(Object.values(weight_map).map((name, i) => [name, noise(30_000 + i, 3 + i)]));
    hub.commit('zebra/shards', new Map([['config.json', CONFIG], ['model.safetensors.index.json', index], ...shards]));
    let last: HubProgress | undefined;
    const { folder } = await download({ onProgress: (progress) => (last = progress) }, 'zebra/shards');
    for (const [name, bytes] of shards) expect(sha256(readFileSync(join(folder, name)))).toBe(sha256(bytes));
    expect(last).toMatchObject({ files: 4, filesDone: 4, bytesTotal: CONFIG.length + index.length + 60_001 });
  });

  it('is filled by two at once', async () => {
    const both = await Promise.all([download(), download()]);
    for (const { folder } of both) expect(weightsIn(folder)).toBe(RIGHT);
    expect(readdirSync(join(cacheOf(), 'blobs')).filter((name) => name.includes('.'))).toEqual([]);
  });
});

describe('a token', () => {
  it('goes to the endpoint and to no other host', async () => {
    await download({ token: hub.token }, 'zebra/private');
    const of = (server: 'hub' | 'cdn') => hub.seen.filter((each) => each.server === server);
    expect(new Set(of('hub').map((each) => each.authorization))).toEqual(new Set([`Bearer ${hub.token}`]));
    expect(of('cdn').length).toBeGreaterThan(0);
    expect(new Set(of('cdn').map((each) => each.authorization))).toEqual(new Set([undefined]));
  });

  it('comes from the environment or the file of a login, unless refused', async () => {
    writeFileSync(join(home, 'token'), `${hub.token}\n`);
    await download({}, 'zebra/private');
    vi.stubEnv('HF_TOKEN', 'hf_other');
    expect(await errorOf(download({ revision: 'x' }, 'zebra/private'))).toMatch(/^io: .*the token may not see it/);
    expect(hub.seen.at(-1)?.authorization).toBe('Bearer hf_other');
    expect(await errorOf(download({ token: false, revision: 'x' }, 'zebra/private'))).toMatch(/HF_TOKEN/);
    expect(hub.seen.at(-1)?.authorization).toBeUndefined();
  });
});

describe('a broken connection', () => {
  it('is taken up where it broke, within a call', async () => {
    hub.faults.push({ server: 'cdn', path: /./, cutAfter: 60_000 }, { server: 'cdn', path: /./, cutAfter: 50_000 });
    expect(weightsIn((await download()).folder)).toBe(RIGHT);
    const ranges = cdnReads().map(({ range }) => range);
    expect(ranges).toEqual([undefined, 'bytes=60000-', 'bytes=110000-']);
  });

  it('and by the next call', async () => {
    hub.faults.push(
      { server: 'cdn', path: /./, cutAfter: 60_000 },
      { server: 'cdn', path: /./, times: 99, status: 503 },
    );
    expect(await errorOf(download({ retries: 1 }))).toMatch(/^io: hub: zebra\/tiny: the hub has a fault \(503\)/);
    const incomplete = join(cacheOf(), 'blobs', `${sha256(WEIGHTS)}.incomplete`);
    expect(statSync(incomplete).size).toBe(60_000);
    expect(readdirSync(cacheOf())).not.toContain('refs');
    hub.reset();
    const came: HubProgress[] = [];
    expect(weightsIn((await download({ onProgress: (each) => came.push(each) })).folder)).toBe(RIGHT);
    expect(cdnReads().map(({ range }) => range)).toEqual(['bytes=60000-']);
    expect(came.at(-1)?.bytesDone).toBe(came.at(-1)?.bytesTotal);
  });

  it('is given up after so many attempts that bring nothing', async () => {
    hub.faults.push({ server: 'cdn', path: /./, cutAfter: 0, times: 99 });
    expect(await errorOf(download({ retries: 2 }))).toMatch(/^io: hub: 127\.0\.0\.1:\d+ cannot be reached: /);
    expect(cdnReads()).toHaveLength(3);
  });

  it.each([
    ['a server that knows no ranges', { ignoreRange: true }],
    ['a byte that is not right', { damage: true }],
  ])('does not spoil the file with %s', async (_name, fault) => {
    hub.faults.push({ server: 'cdn', path: /./, cutAfter: 60_000 }, { server: 'cdn', path: /./, ...fault });
    expect(weightsIn((await download()).folder)).toBe(RIGHT);
  });

  it('of a file that an earlier version left too long is begun anew', async () => {
    await mkdir(join(cacheOf(), 'blobs'), { recursive: true });
    writeFileSync(join(cacheOf(), 'blobs', `${sha256(WEIGHTS)}.incomplete`), new Uint8Array(200_000));
    expect(weightsIn((await download()).folder)).toBe(RIGHT);
  });
});

describe('a hub that', () => {
  it.each([
    ['is asked too often', { status: 429, headers: { 'retry-after': '0' } }],
    ['fails', { status: 500 }],
    ['is restarted', { status: 503 }],
  ])('%s is asked again', async (_name, fault) => {
    for (const path of [/^\/api/, /resolve.*config/, /resolve.*safetensors/]) {
      hub.faults.push({ server: 'hub', path, ...fault });
    }
    hub.faults.push({ server: 'cdn', path: /./, ...fault });
    expect(weightsIn((await download()).folder)).toBe(RIGHT);
    expect(hub.faults.map(({ times }) => times)).toEqual([0, 0, 0, 0]);
  });

  it('says when to come back is obeyed', async () => {
    hub.faults.push({ server: 'hub', path: /^\/api/, status: 429, headers: { 'retry-after': '1' } });
    const started = performance.now();
    await download();
    // Timers may end a little early.
    expect(performance.now() - started).toBeGreaterThan(990);
  });

  it.each([
    [401, '', /^io: hub: zebra\/tiny: there is no such public repository \(401\).*HF_TOKEN.*so says/],
    [403, 'GatedRepo', /^io: .*access is denied \(403\).*accept its terms at http.*zebra\/tiny/],
    [404, 'RevisionNotFound', /^io: .*there is no revision "main" \(404\)/],
    [404, 'RepoNotFound', /^io: .*no such public repository \(404\)/],
    [429, '', /^io: .*takes no more requests for now \(429\)/],
    [500, '', /^io: .*has a fault \(500\)/],
  ])('answers %i %s', async (status, code, message) => {
    const headers = { 'x-error-code': code, 'x-error-message': 'so says the test' };
    hub.faults.push({ server: 'hub', path: /^\/api/, times: 99, status, headers });
    expect(await errorOf(download({ retries: 1 }))).toMatch(message);
    expect(hub.seen).toHaveLength(status === 429 || status === 500 ? 2 : 1);
  });

  it('lies is not believed', async () => {
    const etag = (value: string) => ({ status: 200, headers: { etag: value, 'content-length': '3' } });
    hub.faults.push({ server: 'hub', method: 'HEAD', path: /config/, ...etag('"../../x"') });
    expect(await errorOf(download())).toMatch(/^format: .*config\.json: the answer names no usable ETag/);
    hub.faults.push({ server: 'hub', method: 'HEAD', path: /config/, ...etag(`"${gitHash(bytesOf('abc'))}"`) });
    expect(await errorOf(download())).toMatch(/^data: hub: config\.json: what came is not the file/);
    hub.faults.push({ server: 'cdn', path: /./, damage: true, times: 2 });
    expect(await errorOf(download({ cacheDir: join(home, 'new') }))).toMatch(
      /^data: hub: model\.safetensors: what came is not the file/,
    );
    const loop = { status: 307, headers: { location: '/api/again' } };
    hub.faults.push({ server: 'hub', path: /^\/api/, times: 99, ...loop });
    expect(await errorOf(download())).toMatch(/^io: .*redirects more than 10 times/);
    hub.reset();
    const index = bytesOf('{"weight_map":{"a":"../../x.safetensors"}}');
    hub.commit(
      'zebra/evil',
      new Map([
        ['config.json', CONFIG],
        ['model.safetensors.index.json', index],
      ]),
    );
    expect(await errorOf(download({}, 'zebra/evil'))).toMatch(/^shard_path: /);
  });

  it('has no safetensors', async () => {
    hub.commit(
      'zebra/old',
      new Map([
        ['config.json', CONFIG],
        ['pytorch_model.bin', WEIGHTS],
      ]),
    );
    expect(await errorOf(download({}, 'zebra/old'))).toMatch(/^format: hub: zebra\/old has neither model\.safetensors/);
  });
});

describe('without a network', () => {
  it('the cache is taken when it is complete', async () => {
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    expect(await errorOf(download())).toMatch(/^io: .*is not complete in the cache.*the network is off/);
    expect(hub.seen).toEqual([]);
    vi.stubEnv('HF_HUB_OFFLINE', '');
    await download();
    hub.reset();
    expect((await download({ offline: true })).commit).toBe(commit);
    expect((await download({ offline: true, revision: commit })).commit).toBe(commit);
    expect(hub.seen).toEqual([]);
    // Nobody listens at port 9 of the loopback device.
    const away = { endpoint: 'http://127.0.0.1:9' };
    expect((await download(away)).commit).toBe(commit);
    expect(await errorOf(download({ ...away, retries: 1, revision: 'v2' }))).toMatch(/^io: .*127\.0\.0\.1:9 cannot/);
    await rm(join(cacheOf(), 'blobs', sha256(WEIGHTS)));
    expect(await errorOf(download({ offline: true }))).toMatch(/is not complete in the cache/);
    expect(await errorOf(download({ ...away, retries: 0 }))).toMatch(/cannot be reached/);
  });

  it('a refusal is not taken for its absence', async () => {
    await download();
    hub.faults.push({ server: 'hub', path: /^\/api/, status: 403 });
    expect(await errorOf(download())).toMatch(/access is denied/);
  });
});

it('tells how far all files together are', async () => {
  const seen: HubProgress[] = [];
  hub.faults.push({ server: 'cdn', path: /./, cutAfter: 60_000 });
  await download({ onProgress: (progress) => seen.push(progress) });
  const bytes = seen.map(({ bytesDone }) => bytesDone);
  expect(bytes).toEqual([...bytes].sort((a, b) => a - b));
  const total = CONFIG.length + TOKENIZER.length + WEIGHTS.length;
  expect(seen.at(-1)).toMatchObject({ phase: 'download', files: 3, filesDone: 3, bytesDone: total, secondsLeft: 0 });
  expect(new Set(seen.map(({ bytesTotal }) => bytesTotal))).toEqual(new Set([total]));
  expect(seen.at(-1)!.bytesPerSecond).toBeGreaterThan(0);
});

it('is stopped by a signal', async () => {
  const controller = new AbortController();
  hub.faults.push({ server: 'cdn', path: /./, status: 503, headers: { 'retry-after': '60' } });
  const work = download({ signal: controller.signal });
  await vi.waitFor(() => expect(cdnReads()).toHaveLength(1));
  controller.abort(new Error('enough'));
  await expect(work).rejects.toThrow('enough');
});

it('refuses names and revisions of the wrong form', async () => {
  for (const repo of ['', 'gpt2', '../x', 'a/..', 'a/b/c', 'a/b?c', 'datasets/a/b', 'a/b--c']) {
    expect(await errorOf(download({}, repo))).toMatch(/^argument: downloadModel: expected the name of a repository/);
  }
  for (const revision of ['', '../x', '/x', 'a//b', 'a b', 'a\\b']) {
    expect(await errorOf(download({ revision }))).toMatch(/^argument: downloadModel: revision/);
  }
  expect(await errorOf(download({ endpoint: 'huggingface.co' }))).toMatch(/^argument: hub: endpoint/);
  expect(await errorOf(download({ retries: -1 }))).toMatch(/^argument: hub: retries/);
  expect(hub.seen).toEqual([]);
});
