import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Device } from '@zebra/tensor';
import { readModelSpec } from '../../checkpoint/load-model.js';
import { saveModel } from '../../checkpoint/save-model.js';
import { perplexity } from '../../evaluate/index.js';
import { type FromPretrainedOptions, fromPretrained } from '../from-pretrained.js';
import { TestHub } from '../hub-server.testing.js';

const TEXT = 'Lily went to the park with her mom. She saw a big dog and she was happy.';

/** The loss of one model on a text by every way there is to it, in nats a token. */
export interface LossesByPath {
  readonly folder: number;
  /** After it was saved and loaded again. */
  readonly saved: number;
  /** Through a hub on the loopback device, into an empty cache. */
  readonly hub: number;
  /** Once more from that cache, with the network off. */
  readonly cache: number;
}

/** @param work an empty folder to write to */
export async function lossesByPath(device: Device, folder: string, work: string): Promise<LossesByPath> {
  const saved = join(work, 'saved');
  const losses = { folder: await lossOf(device, folder), saved: await lossAfterSaving(device, folder, saved) };
  const hub = await TestHub.start();
  try {
    const files = await Promise.all(
      (await readdir(folder)).map(async (name) => [name, new Uint8Array(await readFile(join(folder, name)))] as const),
    );
    hub.commit('zebra/same', new Map(files));
    const options = { endpoint: hub.endpoint, cacheDir: join(work, 'cache'), token: false } as const;
    const byHub = await lossOf(device, 'zebra/same', options);
    const byCache = await lossOf(device, 'zebra/same', { ...options, offline: true });
    return { ...losses, hub: byHub, cache: byCache };
  } finally {
    await hub.stop();
  }
}

async function lossOf(device: Device, source: string, options: FromPretrainedOptions = {}): Promise<number> {
  const { model, tokenizer } = await fromPretrained(device, source, options);
  try {
    return (await perplexity(model, [tokenizer.encode(TEXT)], { batchSize: 1, length: 128 })).nats;
  } finally {
    model.dispose();
  }
}

async function lossAfterSaving(device: Device, source: string, target: string): Promise<number> {
  const { model } = await fromPretrained(device, source);
  try {
    await saveModel(target, model, await readModelSpec(source), { companionsFrom: source });
  } finally {
    model.dispose();
  }
  return lossOf(device, target);
}
