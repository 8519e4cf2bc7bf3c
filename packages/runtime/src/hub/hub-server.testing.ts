import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A request that a server saw. */
export interface SeenRequest {
  readonly server: 'hub' | 'cdn';
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly range: string | undefined;
}

/** What a server does to the next requests that fit, instead of answering them well. */
export interface Fault {
  readonly server: 'hub' | 'cdn';
  readonly method?: string;
  readonly path: RegExp;
  /** Requests that it befalls. Default 1. */
  times?: number;
  /** Answer with this. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Or send this many bytes of the body, and cut the connection. */
  readonly cutAfter?: number;
  /** Or send other bytes, as many. */
  readonly damage?: boolean;
  /** Or send the whole file whatever range is asked for. */
  readonly ignoreRange?: boolean;
}

interface Commit {
  readonly sha: string;
  readonly files: Map<string, Uint8Array>;
}

/** From this size on a file is served by the CDN, and uploaded to it. */
const LARGE = 20_000;

export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
export const gitHash = (bytes: Uint8Array) =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

/** A Hugging Face hub on the loopback device, with a CDN on another port: the routes that downloads and uploads use. */
export class TestHub {
  readonly seen: SeenRequest[] = [];
  readonly faults: Fault[] = [];
  /** Repositories, and their commits, newest last. */
  readonly repositories = new Map<string, { isPrivate: boolean; commits: Commit[] }>();
  /** The token that may read private repositories and write. */
  readonly token = 'hf_secret';
  endpoint = '';
  private readonly objects = new Map<string, Uint8Array>();
  private cdnAddress = '';
  private readonly servers: Server[] = [];

  static async start(): Promise<TestHub> {
    const hub = new TestHub();
    hub.endpoint = await hub.listen('hub', (...each) => hub.answerHub(...each));
    hub.cdnAddress = await hub.listen('cdn', (...each) => hub.answerCdn(...each));
    return hub;
  }

  async stop(): Promise<void> {
    for (const server of this.servers) {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  /** Adds a commit to a repository, which is made if there is none. */
  commit(repo: string, files: ReadonlyMap<string, Uint8Array>, isPrivate = false): string {
    const found = this.repositories.get(repo) ?? { isPrivate, commits: [] };
    this.repositories.set(repo, found);
    const all = new Map([...(found.commits.at(-1)?.files ?? []), ...files]);
    const sha = gitHash(Buffer.from(JSON.stringify([repo, found.commits.length])));
    found.commits.push({ sha, files: all });
    for (const bytes of files.values()) if (bytes.length >= LARGE) this.objects.set(sha256(bytes), bytes);
    return sha;
  }

  /** Forgets what was seen and what was to go wrong. */
  reset(): void {
    this.seen.length = 0;
    this.faults.length = 0;
  }

  private async listen(
    name: SeenRequest['server'],
    answer: (request: IncomingMessage, response: ServerResponse, fault: Fault | undefined) => Promise<void>,
  ): Promise<string> {
    const server = createServer((request, response) => {
      const { method = '', url = '', headers } = request;
      const { authorization, range } = headers;
      this.seen.push({ server: name, method, path: url, authorization, range });
      const fault = this.faults.find(
        (each) =>
          each.server === name &&
          (each.method ?? method) === method &&
          each.path.test(url) &&
          (each.times === undefined || each.times > 0),
      );
      if (fault) fault.times = (fault.times ?? 1) - 1;
      if (fault?.status) response.writeHead(fault.status, fault.headers).end();
      else answer(request, response, fault).catch(() => response.writeHead(500).end());
    });
    this.servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  private async answerHub(request: IncomingMessage, response: ServerResponse, fault?: Fault): Promise<void> {
    const { pathname } = new URL(request.url!, this.endpoint);
    const parts = pathname.split('/').slice(1).map(decodeURIComponent);
    if (request.method === 'POST') return this.answerUpload(parts, request, response);
    // Small files may come by way of a cache of the hub's own.
    if (parts[1] === 'resolve-cache') parts.splice(0, 3);
    const isCache = pathname.startsWith('/api/resolve-cache/');
    const isApi = parts[0] === 'api';
    const repo = (isApi ? parts.slice(2, 4) : parts.slice(0, 2)).join('/');
    const [route, revision = 'main', ...path] = isApi
      ? parts.slice(4)
      : isCache
        ? ['resolve', ...parts.slice(2)]
        : parts.slice(2);
    const found = this.repositories.get(repo);
    const mayRead = !found?.isPrivate || request.headers.authorization === `Bearer ${this.token}`;
    if (!found || !mayRead) return refuse(response, 401, 'RepoNotFound');
    const commit = found.commits.find(({ sha }) => sha === revision) ?? (revision === 'main' && found.commits.at(-1));
    if (!commit) return refuse(response, 404, 'RevisionNotFound');
    if (isApi && (route === 'revision' || route === undefined)) {
      const siblings = [...commit.files.keys()].map((rfilename) => ({ rfilename }));
      return json(response, { _id: '1', id: repo, sha: commit.sha, siblings, lastModified: '2026-01-01T00:00:00Z' });
    }
    const bytes = commit.files.get(path.join('/'));
    if (route !== 'resolve' || !bytes) return refuse(response, 404, 'EntryNotFound');
    response.setHeader('x-repo-commit', commit.sha);
    if (bytes.length < LARGE && !isCache && path[0]!.startsWith('tokenizer')) {
      const location = `/api/resolve-cache/models/${repo}/${commit.sha}/${path.join('/')}`;
      response.writeHead(307, { location, 'content-length': 77 }).end(request.method === 'HEAD' ? '' : ' '.repeat(77));
      return;
    }
    if (bytes.length < LARGE) {
      response.setHeader('etag', `"${gitHash(bytes)}"`);
      return send(request, response, bytes, fault);
    }
    const hash = sha256(bytes);
    response.setHeader('x-linked-etag', `"${hash}"`);
    response.setHeader('x-linked-size', String(bytes.length));
    response.writeHead(302, { location: `${this.cdnAddress}/${hash}?signature=1` }).end();
  }

  private async answerCdn(request: IncomingMessage, response: ServerResponse, fault?: Fault): Promise<void> {
    const hash = new URL(request.url!, this.cdnAddress).pathname.slice(1);
    if (request.method === 'PUT') {
      const bytes = await bodyOf(request);
      if (sha256(bytes) !== hash) return refuse(response, 400, 'BadHash');
      this.objects.set(hash, bytes);
      return json(response, {});
    }
    const bytes = this.objects.get(hash);
    if (!bytes) return refuse(response, 404, 'NoSuchKey');
    // A store's own tag is another one than the hub's.
    response.setHeader('etag', '"0123"');
    return send(request, response, bytes, fault);
  }

  private async answerUpload(parts: string[], request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.headers.authorization !== `Bearer ${this.token}`) return refuse(response, 401, '');
    const body = (await bodyOf(request)).toString();
    if (parts.join('/') === 'api/repos/create') {
      const { organization, name, visibility } = JSON.parse(body);
      const repo = `${organization}/${name}`;
      if (this.repositories.has(repo)) return refuse(response, 409, '');
      this.repositories.set(repo, { isPrivate: visibility === 'private', commits: [] });
      return json(response, { url: `${this.endpoint}/${repo}`, id: '1' });
    }
    if (parts[4] === 'preupload') {
      const { files } = JSON.parse(body) as { files: { path: string; size: number }[] };
      const modes = files.map(({ path, size }) => ({ path, uploadMode: size < LARGE ? 'regular' : 'lfs' }));
      return json(response, { files: modes });
    }
    if (parts.at(-1) === 'batch') {
      const { objects } = JSON.parse(body) as { objects: { oid: string; size: number }[] };
      const actions = (oid: string) => ({ upload: { href: `${this.cdnAddress}/${oid}?signature=2` } });
      const answers = objects.map((each) => ({
        ...each,
        ...(!this.objects.has(each.oid) && { actions: actions(each.oid) }),
      }));
      return json(response, { transfer: 'basic', objects: answers });
    }
    const lines = body.split('\n').map((line) => JSON.parse(line));
    const files = new Map<string, Uint8Array>();
    for (const { key, value } of lines) {
      if (key === 'file') files.set(value.path, Buffer.from(value.content, 'base64'));
      if (key === 'lfsFile') files.set(value.path, this.objects.get(value.oid)!);
    }
    const commitOid = this.commit(parts.slice(2, 4).join('/'), files);
    return json(response, { commitOid, commitUrl: `${this.endpoint}/commit/${commitOid}` });
  }
}

function send(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array, fault: Fault | undefined): void {
  const asked = fault?.ignoreRange ? undefined : /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = asked ? Number(asked[1]) : 0;
  if (start >= bytes.length && asked) {
    refuse(response, 416, '');
    return;
  }
  const part = fault?.damage ? new Uint8Array(bytes.length - start) : bytes.subarray(start);
  if (asked) response.setHeader('content-range', `bytes ${start}-${bytes.length - 1}/${bytes.length}`);
  response.writeHead(asked ? 206 : 200, { 'content-length': part.length, 'accept-ranges': 'bytes' });
  if (request.method === 'HEAD') response.end();
  else if (fault?.cutAfter === undefined) response.end(part);
  else response.write(part.subarray(0, fault.cutAfter), () => setTimeout(() => response.destroy(), 20));
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'x-error-code': code, 'x-error-message': 'so says the test' }).end();
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
