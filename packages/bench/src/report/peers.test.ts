import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type PeerFile, peerOf, readPeers } from './peers.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'zebra-peers-'));
});
afterAll(() => rm(folder, { recursive: true }));

const row = (dtype: string, milliseconds: number) => ({
  name: 'matmul',
  shape: '8×8×8 NN float16',
  dtype,
  milliseconds,
});
const peers: PeerFile = { peer: 'PyTorch 2', adapter: 'H100', rows: [row('bfloat16', 2), row('float16', 1)] };

describe('peers', () => {
  it('are read as they were written', async () => {
    const file = join(folder, 'good.json');
    await writeFile(file, JSON.stringify(peers));
    expect(await readPeers(file)).toEqual(peers);
  });

  it.each([
    ['{"rows": [', 'JSON'],
    ['null', 'no peer'],
    ['{"peer": "x", "adapter": "y", "rows": [{"name": "a", "shape": "b", "dtype": "c"}]}', 'a row has no'],
  ])('are refused as %s, with the name of the file', async (text, why) => {
    const file = join(folder, 'bad.json');
    await writeFile(file, text);
    await expect(readPeers(file)).rejects.toThrow(file);
    await expect(readPeers(file)).rejects.toThrow(why);
  });

  it('stand beside rows of the same name and shape, the fastest of them', () => {
    const ours = { name: 'matmul', shape: '8×8×8 NN float16', median: 4 };
    expect(peerOf(peers, ours)).toEqual({ dtype: 'float16', milliseconds: 1, ratio: 0.25 });
    expect(peerOf(peers, { ...ours, shape: '9×8×8 NN float16' })).toBeUndefined();
  });
});
