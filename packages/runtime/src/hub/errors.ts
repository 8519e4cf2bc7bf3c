import { ZebraError } from '@zebra/tensor';

/** What the hub answered, as the `cause` of the ZebraError that tells of it. */
class HubStatusError extends Error {
  constructor(
    readonly status: number,
    readonly errorCode: string | undefined,
  ) {
    super(`the hub answered ${status}${errorCode ? ` ${errorCode}` : ''}`);
    this.name = 'HubStatusError';
  }
}

/** Whom a request was for. */
export interface RequestSubject {
  /** `org/name`. */
  readonly repo: string;
  readonly revision?: string;
  readonly endpoint: string;
  readonly hasToken: boolean;
}

/** The error for an answer that is no success. It never holds the token. */
export function statusError(response: Response, subject: RequestSubject): ZebraError {
  const code = response.headers.get('x-error-code') ?? undefined;
  const said = (response.headers.get('x-error-message') ?? '').replace(/[^\x20-\x7e]/g, ' ').slice(0, 300);
  const text = `hub: ${subject.repo}: ${adviceFor(response.status, code, subject)}${said ? ` The hub says: ${said}` : ''}`;
  return new ZebraError('io', text, { cause: new HubStatusError(response.status, code) });
}

/** The status behind an error of {@link statusError}, undefined for other errors. */
export function statusOf(error: unknown): number | undefined {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof HubStatusError ? cause.status : undefined;
}

/** The error for a hub that does not answer at all. */
export function unreachable(url: string, cause: unknown): ZebraError {
  const reason = cause instanceof Error ? (cause.cause instanceof Error ? cause.cause : cause).message : String(cause);
  return new ZebraError(
    'io',
    `hub: ${new URL(url).host} cannot be reached: ${reason || 'the connection failed'}. See that there is a network, or set HF_ENDPOINT to a mirror.`,
    { cause },
  );
}

function adviceFor(status: number, code: string | undefined, subject: RequestSubject): string {
  const { repo, revision, endpoint, hasToken } = subject;
  if (status === 404 && code === 'RevisionNotFound') return `there is no revision ${JSON.stringify(revision)} (404).`;
  if (status === 404 && code === 'EntryNotFound') return 'the file is not there (404).';
  if (status === 403 || code === 'GatedRepo') {
    return `access is denied (${status}). Where the model is gated, accept its terms at ${endpoint}/${repo}, and give a token of that account that may read it (to upload, write).`;
  }
  if (status === 401 || status === 404) {
    return hasToken
      ? `there is no such repository, or the token may not see it (${status}). Check the name, and that the token is valid.`
      : `there is no such public repository (${status}). Check the name; for a private or gated one give a token: the option, or HF_TOKEN.`;
  }
  if (status === 429) return 'the hub takes no more requests for now (429). Wait some minutes, or give a token.';
  if (status >= 500) return `the hub has a fault (${status}). Try again later; what was downloaded is kept.`;
  return `the hub answered ${status}.`;
}
