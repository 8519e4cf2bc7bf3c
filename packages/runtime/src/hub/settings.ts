import { ZebraError } from '@zebra/tensor';

/** How the hub is reached, and where its files are kept. */
export interface HubOptions {
  /**
   * Access token. Default: `HF_TOKEN`, else the file that `hf auth login` writes; false for none. It is sent to the
   * endpoint and to no other host.
   */
  readonly token?: string | false;
  /** Address of the hub. Default: `HF_ENDPOINT`, else https://huggingface.co. */
  readonly endpoint?: string;
  /** How often a request is tried again after 429, 5xx or a broken connection. Default 5. */
  readonly retries?: number;
  /** Milliseconds before the first retry; each further one waits twice as long, at most 30 s. Default 500. */
  readonly retryDelay?: number;
  /** Stops the work. What was downloaded is kept. */
  readonly signal?: AbortSignal;
}

/** {@link HubOptions} with what the environment says filled in. */
export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  readonly retries: number;
  readonly retryDelay: number;
  readonly signal: AbortSignal | undefined;
}

/** Gathers what options and environment say. Throws ZebraError `argument` for impossible ones. */
export async function hubSettings(options: HubOptions): Promise<HubSettings> {
  const endpoint = (options.endpoint ?? environment('HF_ENDPOINT') ?? 'https://huggingface.co').replace(/\/+$/, '');
  const url = URL.canParse(endpoint) ? new URL(endpoint) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.search || url.hash) {
    throw new ZebraError(
      'argument',
      `hub: endpoint: expected an address such as https://huggingface.co, got ${JSON.stringify(endpoint)}. See the option and HF_ENDPOINT.`,
    );
  }
  const { retries = 5, retryDelay = 500 } = options;
  if (!Number.isInteger(retries) || retries < 0 || !(retryDelay >= 0)) {
    throw new ZebraError(
      'argument',
      `hub: retries, retryDelay: expected an integer and milliseconds, both from 0 on, got ${retries} and ${retryDelay}`,
    );
  }
  return {
    endpoint,
    token: options.token === false ? undefined : options.token || (await defaultToken()),
    retries,
    retryDelay,
    signal: options.signal,
  };
}

/** Whether `HF_HUB_OFFLINE` forbids the network. */
export function offlineByEnvironment(): boolean {
  return isOn(environment('HF_HUB_OFFLINE'));
}

/** The folder that holds cached repositories, as `huggingface_hub` finds it. */
export async function hubCacheFolder(option: string | undefined): Promise<string> {
  const { join } = await import('node:path');
  const given = option ?? environment('HF_HUB_CACHE') ?? environment('HUGGINGFACE_HUB_CACHE');
  return given !== undefined ? expandHome(given) : join(await home(), 'hub');
}

async function home(): Promise<string> {
  const [{ homedir }, { join }] = await Promise.all([import('node:os'), import('node:path')]);
  const given = environment('HF_HOME');
  if (given !== undefined) return expandHome(given);
  const xdg = environment('XDG_CACHE_HOME');
  return join(xdg !== undefined ? await expandHome(xdg) : join(homedir(), '.cache'), 'huggingface');
}

async function expandHome(path: string): Promise<string> {
  if (!/^~(?=$|[/\\])/.test(path)) return path;
  const { homedir } = await import('node:os');
  return homedir() + path.slice(1);
}

async function defaultToken(): Promise<string | undefined> {
  if (isOn(environment('HF_HUB_DISABLE_IMPLICIT_TOKEN'))) return undefined;
  const given = environment('HF_TOKEN') ?? environment('HUGGING_FACE_HUB_TOKEN');
  if (given !== undefined) return given;
  const [{ readFile }, { join }] = await Promise.all([import('node:fs/promises'), import('node:path')]);
  const path = environment('HF_TOKEN_PATH') ?? join(await home(), 'token');
  const text = await readFile(await expandHome(path), 'utf8').catch(() => '');
  return text.trim() || undefined;
}

/** A variable of the environment, undefined where it is blank. */
function environment(name: string): string | undefined {
  return process.env[name]?.trim() || undefined;
}

function isOn(value: string | undefined): boolean {
  return /^(1|on|yes|true)$/i.test(value ?? '');
}
