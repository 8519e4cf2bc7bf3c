import { ZebraError } from '@zebra/tensor';

const PART = /^(?!.*(\.\.|--))[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}$/;

/** Whether a text has the form of a repository's name, `org/name`. */
export function isRepositoryName(text: string): boolean {
  const parts = text.split('/');
  return parts.length === 2 && parts.every((part) => PART.test(part) && !/[-.]$/.test(part));
}

/** Throws ZebraError `argument` for what is no `org/name`. */
export function assertRepositoryName(operation: string, text: string): void {
  if (isRepositoryName(text)) return;
  throw new ZebraError(
    'argument',
    `${operation}: expected the name of a repository, "org/name", got ${JSON.stringify(text)}`,
  );
}

/** Throws ZebraError `argument` for what is no name of a branch, tag or commit, or would leave the cache's folder. */
export function assertRevision(operation: string, revision: string): void {
  const inside = revision.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
  if (inside && revision.length <= 200 && !/[\\:\s\p{Cc}]/u.test(revision)) return;
  throw new ZebraError(
    'argument',
    `${operation}: revision: expected a branch, tag or commit, got ${JSON.stringify(revision)}`,
  );
}

/** Whether a revision is a commit already. */
export function isCommit(text: unknown): text is string {
  return typeof text === 'string' && /^[0-9a-f]{40}$/.test(text);
}
