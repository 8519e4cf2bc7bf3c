/**
 * Node's modules and the native `webgpu`, loaded on first use. The name is put together at run time and the comments are
 * there so that bundlers for browsers don't try to resolve it: everything but files and Dawn works without any of them.
 */
const load = (name: string): Promise<unknown> => import(/* @vite-ignore */ /* webpackIgnore: true */ name);

export const nodeFs = () => load('node:fs/promises') as Promise<typeof import('node:fs/promises')>;
export const nodeFsSync = () => load('node:fs') as Promise<typeof import('node:fs')>;
export const nodeModule = () => load('node:module') as Promise<typeof import('node:module')>;
export const nodeOs = () => load('node:os') as Promise<typeof import('node:os')>;
export const nodePath = () => load('node:path') as Promise<typeof import('node:path')>;
export const nodeUrl = () => load('node:url') as Promise<typeof import('node:url')>;
export const nodeZlib = () => load('node:zlib') as Promise<typeof import('node:zlib')>;
export const dawn = () => load('webgpu') as Promise<typeof import('webgpu')>;
