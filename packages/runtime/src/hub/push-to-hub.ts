import { ZebraError } from '@zebra/tensor';
import { finishWrite } from '@zebra/tensor/safetensors';
import { readModelSpec } from '../checkpoint/load-model.js';
import { HubClient } from './client.js';
import { statusOf } from './errors.js';
import { modelFilesIn } from './files.js';
import { type ModelCardDetails, modelCard } from './model-card.js';
import { assertRepositoryName, assertRevision } from './names.js';
import { type HubProgress, ProgressMeter } from './progress.js';
import { type HubOptions, hubSettings } from './settings.js';

/** Options of {@link pushToHub}. */
export interface PushToHubOptions extends HubOptions {
  /** Who may see the repository, where it is made. Default: what is usual in the organisation. */
  readonly private?: boolean;
  /** Branch that must be there. Default `main`. */
  readonly branch?: string;
  /** Title of the commit. Default `Upload model`. */
  readonly message?: string;
  /**
   * What becomes `README.md`: the text itself, or details for `modelCard`. Default: the folder's own, else a generated
   * one. False uploads none.
   */
  readonly card?: string | ModelCardDetails | false;
  /** Called about ten times a second, and at the end. Large files count when they, or their parts, have arrived. */
  readonly onProgress?: (progress: HubProgress) => void;
}

/** What {@link pushToHub} made. */
export interface PushedModel {
  readonly commit: string;
  /** Address of the commit. */
  readonly url: string;
}

/**
 * Uploads a model's folder to the Hugging Face hub in one commit: configs, tokenizer, weights and a model card. Other
 * files of the folder stay here. The repository is made if there is none. Large files go by Git LFS.
 *
 * @param folder what `saveModel` wrote
 * @param repo `org/name`
 * @throws ZebraError `argument` for names of the wrong form, or without a token; `io` for a folder without a model, and
 *   when the hub refuses or cannot be reached
 */
export async function pushToHub(folder: string, repo: string, options: PushToHubOptions = {}): Promise<PushedModel> {
  const { branch = 'main', message = 'Upload model', onProgress, signal } = options;
  assertRepositoryName('pushToHub', repo);
  assertRevision('pushToHub', branch);
  const settings = await hubSettings(options);
  if (settings.token === undefined) {
    throw new ZebraError('argument', 'pushToHub: expected a token that may write: the option token, or HF_TOKEN');
  }
  // After a killed save the configs may still be under way.
  await finishWrite(folder);
  const files = await filesOf(folder, repo, options.card);
  const meter = new ProgressMeter('upload', new Map(files.map(({ path, size }) => [path, size])), onProgress);
  const { createRepo, uploadFiles } = await import('@huggingface/hub');
  const client = new HubClient(settings, repo, branch);
  // Large files are put to a store, each whole or in parts; the library says which one by its hint.
  const meteredFetch: typeof fetch = async (input, init) => {
    const response = await client.fetch(input, init);
    const path = (init as { progressHint?: { path?: string } } | undefined)?.progressHint?.path;
    if (response.ok && init?.method === 'PUT' && init.body instanceof Blob && path) meter.add(path, init.body.size);
    return response;
  };
  // The client itself puts the token where it belongs, and is not particular about its form.
  const common = { repo, hubUrl: settings.endpoint, fetch: meteredFetch } as const;
  try {
    await createRepo({
      ...common,
      accessToken: '',
      ...(options.private !== undefined && {
        visibility: options.private ? ('private' as const) : ('public' as const),
      }),
    }).catch(async (error: unknown) => {
      // It is there already. A token for this repository alone may not make one, and need not.
      const isThere = statusOf(error) === 409 || (statusOf(error) === 403 && (await exists(client, repo)));
      if (!isThere) throw error;
    });
    const pushed = await uploadFiles({
      ...common,
      files: files.map(({ path, content }) => ({ path, content })),
      branch,
      commitTitle: message,
      useXet: false,
      ...(signal && { abortSignal: signal }),
    });
    if (!pushed) throw new Error('it names no commit');
    for (const { path } of files) meter.finish(path);
    return { commit: pushed.commit.oid, url: pushed.commit.url };
  } catch (cause) {
    signal?.throwIfAborted();
    if (ZebraError.is(cause)) throw cause;
    throw new ZebraError(
      'io',
      `pushToHub: ${repo}: the upload failed: ${(cause as Error).message}. Try again; what the hub has already is not sent again.`,
      { cause },
    );
  }
}

async function exists(client: HubClient, repo: string): Promise<boolean> {
  const { response } = await client.request(`${client.settings.endpoint}/api/models/${repo}`);
  await response.body?.cancel().catch(() => undefined);
  return response.ok;
}

interface Upload {
  readonly path: string;
  readonly content: Blob | URL;
  readonly size: number;
}

async function filesOf(folder: string, repo: string, card: PushToHubOptions['card']): Promise<readonly Upload[]> {
  const [{ stat }, { join }, { pathToFileURL }] = await Promise.all([
    import('node:fs/promises'),
    import('node:path'),
    import('node:url'),
  ]);
  const names = await modelFilesIn(folder);
  if (!names) {
    throw new ZebraError(
      'io',
      `pushToHub: ${folder} holds no complete model (config.json, and model.safetensors or an index with all its shards). Give the folder that saveModel wrote.`,
    );
  }
  const sizeOf = async (name: string) => (await stat(join(folder, name)).catch(() => undefined))?.size;
  const local = async (name: string): Promise<Upload[]> => {
    const size = await sizeOf(name);
    return size === undefined ? [] : [{ path: name, content: pathToFileURL(join(folder, name)), size }];
  };
  const generated = (text: string): Upload[] => {
    const content = new Blob([text]);
    return [{ path: 'README.md', content, size: content.size }];
  };
  const readme = async (): Promise<Upload[]> => {
    if (card === false) return [];
    if (typeof card === 'string') return generated(card);
    const own = card ? [] : await local('README.md');
    return own.length > 0 ? own : generated(modelCard(repo, await readModelSpec(folder), card));
  };
  const uploads = await Promise.all([readme(), local('LICENSE'), ...names.map(local)]);
  return uploads.flat();
}
