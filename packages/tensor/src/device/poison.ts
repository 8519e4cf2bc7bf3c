import { defineKernel, linearMain } from './kernel.js';

/** Fills memory with a pattern that is NaN as float32 and as float16, and an absurd index as an integer. */
export const poisonKernel = defineKernel({
  name: 'poison',
  bindings: { x: 'write' },
  params: { count: 'u32' },
  itemwise: () => ['x'],
  source: () => linearMain('p.count', '  x[i] = 0x7fc07fc0u;'),
});
