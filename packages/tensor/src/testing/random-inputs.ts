import { type HostTensor, hostTensor } from '../core/host.js';
import type { Shape } from '../core/shape.js';

/** A small seeded generator of uniform numbers in [0, 1) (mulberry32), for tests. */
export function uniformSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Standard normal values, rounded to float32 so that host and device start from the same numbers. */
export function normalValues(shape: Shape, random: () => number): HostTensor {
  const out = hostTensor(shape);
  for (let i = 0; i < out.data.length; i++) {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    out.data[i] = Math.fround(radius * Math.cos(2 * Math.PI * random()));
  }
  return out;
}
