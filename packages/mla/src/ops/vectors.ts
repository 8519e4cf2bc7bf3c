import type { Kernel } from '@zebra/tensor';

/** 4 where every size is a multiple of 4, so that rows can be moved as 4-vectors, else 1. */
export function vectorWidth(...sizes: readonly number[]): 1 | 4 {
  return sizes.every((size) => size % 4 === 0) ? 4 : 1;
}

/** Binds the named tensors as 4-vectors in variants of width 4. */
export function vectorsOf(...names: readonly string[]): Kernel['vectors'] {
  return ({ constants }) =>
    constants['width'] === 4 ? Object.fromEntries(names.map((name) => [name, 4 as const])) : {};
}
