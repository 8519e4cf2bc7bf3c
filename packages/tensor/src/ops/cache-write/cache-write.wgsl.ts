import { defineKernel, linearMain } from '../../device/kernel.js';
import { rowVectors } from '../row/row-lanes.wgsl.js';

/** rows[b, at + t] = values[b, t] for positions inside the cache; a row is `units` scalars or 4-vectors. */
export const cacheWriteKernel = defineKernel({
  name: 'cache_write',
  bindings: { rows: 'write', values: 'read', at: 'read' },
  params: { count: 'u32', tokens: 'u32', capacity: 'u32', units: 'u32' },
  vectors: rowVectors('rows', 'values'),
  source: () =>
    linearMain(
      'p.count',
      `
  let unit = i % p.units;
  let token = (i / p.units) % p.tokens;
  let batch = i / (p.units * p.tokens);
  // A negative length becomes a large unsigned number: it is out of bounds as well.
  let position = bitcast<u32>(at[0]) + token;
  if (position >= p.capacity) { return; }
  rows[(batch * p.capacity + position) * p.units + unit] = rows_t(values[i]);`,
    ),
});

/** x += by, on int32. */
export const advanceKernel = defineKernel({
  name: 'advance',
  bindings: { x: 'write' },
  params: { count: 'u32', by: 'i32' },
  source: () => linearMain('p.count', '  x[i] += p.by;'),
});
