/**
 * Node's modules, loaded on first use. The name is put together at run time and
 * the comments are there so that bundlers for browsers don't try to resolve it:
 * reading and serialising bytes works without any of them.
 */
const load = (name: string): Promise<unknown> => import(/* @vite-ignore */ /* webpackIgnore: true */ `node:${name}`);

export const nodeFs = () => load('fs/promises') as Promise<typeof import('node:fs/promises')>;
export const nodePath = () => load('path') as Promise<typeof import('node:path')>;
export const nodeUrl = () => load('url') as Promise<typeof import('node:url')>;
