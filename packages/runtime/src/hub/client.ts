import { ZebraError } from '@zebra/tensor';
import { type RequestSubject, statusError, unreachable } from './errors.js';
import type { HubSettings } from './settings.js';

const RETRIED = new Set([408, 429, 500, 502, 503, 504]);
const LONGEST_DELAY = 30_000;
const LONGEST_ASKED_DELAY = 300_000;
const MOST_REDIRECTS = 10;

/** What {@link HubClient.request} gives. */
export interface HubAnswer {
  readonly response: Response;
  /** Headers of the answers on the way that redirected, first to last; the response's own come last. */
  readonly headers: readonly Headers[];
}

/** Further options of {@link HubClient.request}. */
export interface HubRequest extends RequestInit {
  /** Redirects that are followed. Default `all`; `same-origin` gives the answer that redirects elsewhere. */
  readonly follow?: 'all' | 'same-origin';
}

/**
 * Requests to a hub and to the stores that it redirects to. The token is attached here and nowhere else: to requests
 * to the endpoint's own origin, so that no redirect and no address in an answer carries it off. Requests that may be
 * repeated are, after 429, 5xx and broken connections, with back-off.
 */
export class HubClient {
  readonly settings: HubSettings;
  private readonly origin: string;
  private readonly subject: RequestSubject;

  constructor(settings: HubSettings, repo: string, revision?: string) {
    this.settings = settings;
    this.origin = new URL(settings.endpoint).origin;
    this.subject = {
      repo,
      ...(revision !== undefined && { revision }),
      endpoint: settings.endpoint,
      hasToken: settings.token !== undefined,
    };
  }

  /** `fetch` for `@huggingface/hub`. The hub's refusals throw; those of other hosts are returned. */
  readonly fetch: typeof fetch = async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    const { response } = await this.request(url, init);
    if (!response.ok && this.isHub(response.url || url)) await this.refuse(response);
    return response;
  };

  /** Frees an answer that is no success, and throws what it means. */
  async refuse(response: Response): Promise<never> {
    await response.body?.cancel().catch(() => undefined);
    throw statusError(response, this.subject);
  }

  /**
   * Sends a request, again where that may help. Answers of any status are returned.
   *
   * @throws ZebraError `io` when nobody answers, or an answer redirects in circles or from https to http
   */
  async request(url: string, init: HubRequest = {}): Promise<HubAnswer> {
    const { retries, signal } = this.settings;
    const method = (init.method ?? 'GET').toUpperCase();
    const repeatable = method === 'GET' || method === 'HEAD' || method === 'PUT';
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      let answer: HubAnswer | undefined;
      let failure: unknown;
      try {
        answer = await this.follow(url, { ...init, method });
      } catch (error) {
        signal?.throwIfAborted();
        init.signal?.throwIfAborted();
        if (ZebraError.is(error)) throw error;
        failure = error;
      }
      const again = answer
        ? RETRIED.has(answer.response.status) && (repeatable || [429, 503].includes(answer.response.status))
        : repeatable;
      if (answer && (!again || attempt >= retries)) return answer;
      if (!answer && (!again || attempt >= retries)) throw unreachable(url, failure);
      await answer?.response.body?.cancel().catch(() => undefined);
      await this.pause(attempt, answer?.response.headers.get('retry-after'));
    }
  }

  /** Waits before a retry: as long as the server asks, else twice as long each time. */
  async pause(attempt: number, retryAfter?: string | null): Promise<void> {
    const { retryDelay, signal } = this.settings;
    const asked = retryAfter ? parseRetryAfter(retryAfter) : undefined;
    // Spread out, so that processes that failed together do not come back together.
    const own = Math.min(LONGEST_DELAY, retryDelay * 2 ** attempt) * (0.75 + 0.5 * Math.random());
    const { setTimeout: sleep } = await import('node:timers/promises');
    try {
      await sleep(asked === undefined ? own : Math.min(LONGEST_ASKED_DELAY, asked), undefined, signal && { signal });
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  }

  private isHub(url: string): boolean {
    return new URL(url).origin === this.origin;
  }

  private async follow(first: string, { follow = 'all', ...init }: HubRequest): Promise<HubAnswer> {
    const headers: Headers[] = [];
    let url = first;
    for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
      const signal = init.signal ?? this.settings.signal ?? null;
      const response = await fetch(url, {
        ...init,
        headers: this.headersFor(url, init, hop),
        redirect: 'manual',
        signal,
      });
      headers.push(response.headers);
      const next = redirectOf(response, url, init.method);
      if (next === undefined) return { response, headers };
      if (follow === 'same-origin' && new URL(next).origin !== new URL(url).origin) return { response, headers };
      await response.body?.cancel().catch(() => undefined);
      if (url.startsWith('https:') && !next.startsWith('https:')) {
        throw new ZebraError(
          'io',
          `hub: ${new URL(url).host} redirects from https to ${new URL(next).protocol}//. It is not followed.`,
        );
      }
      url = next;
    }
    throw new ZebraError('io', `hub: ${new URL(first).host} redirects more than ${MOST_REDIRECTS} times.`);
  }

  private headersFor(url: string, init: RequestInit, hop: number): Headers {
    const { token } = this.settings;
    const headers = new Headers(init.headers);
    if (this.isHub(url)) {
      if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
      else headers.delete('authorization');
    } else if (hop > 0 || (token !== undefined && headers.get('authorization')?.includes(token))) {
      // A store's own credentials, which the hub hands out with its address, pass.
      headers.delete('authorization');
    }
    return headers;
  }
}

/** Where an answer redirects a request, undefined where it does not. */
function redirectOf(response: Response, url: string, method: string | undefined): string | undefined {
  const location = response.headers.get('location');
  if (!location || !URL.canParse(location, url)) return undefined;
  const kept = response.status === 307 || response.status === 308;
  const reads = method === 'GET' || method === 'HEAD';
  if (!kept && !(reads && [301, 302, 303].includes(response.status))) return undefined;
  const next = new URL(location, url);
  return /^https?:$/.test(next.protocol) ? next.href : undefined;
}

/** Milliseconds that a Retry-After header asks for: it holds seconds or a date. */
function parseRetryAfter(text: string): number | undefined {
  const seconds = Number(text);
  const milliseconds = Number.isFinite(seconds) ? 1000 * seconds : Date.parse(text) - Date.now();
  return Number.isNaN(milliseconds) ? undefined : Math.max(0, milliseconds);
}
