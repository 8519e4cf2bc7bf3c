import { blockMain, defineKernel, wideWorkgroup } from '../../device/kernel.js';
import { rowLanesMain, rowMax, rowVectors, rowWorkgroup, vectorHelpers } from '../row/row-lanes.wgsl.js';

/** y = x·constant·a·b, over `y` itself where no `x` is bound. */
export const scaledKernel = defineKernel({
  name: 'scaled',
  bindings: { x: 'read', a: 'read', b: 'read', y: 'write' },
  params: { count: 'u32', constant: 'f32' },
  vectors: rowVectors('x', 'y'),
  workgroup: wideWorkgroup,
  source: (variant) => {
    const { has } = variant;
    return (
      vectorHelpers(variant.constants['width']) +
      blockMain(variant, 'p.count', (at) =>
        [
          ...at.map((i, k) => `  let x${k} = F(${has('x') ? 'x' : 'y'}[${i}]);`),
          `  let factor = p.constant${has('a') ? ' * f32(a[0])' : ''}${has('b') ? ' * f32(b[0])' : ''};`,
          ...at.map((i, k) => `  y[${i}] = y_t(x${k} * factor);`),
        ].join('\n'),
      )
    );
  },
});

/** The largest magnitude of all values. */
export const peakKernel = defineKernel({
  name: 'peak',
  bindings: { g: 'read', peak: 'write' },
  params: { rows: 'u32', units: 'u32' },
  workgroup: rowWorkgroup,
  source: (variant) =>
    rowMax(variant) +
    rowLanesMain(
      variant,
      `
  var highs = 0.0;
  for (var c = lane; c < end; c += LANES) { highs = max(highs, abs(f32(g[c]))); }
  let high = row_max(highs, lid);
  if (inside && lane == 0u) { peak[0] = high; }`,
    ),
});

/**
 * WGSL for the factor on a row's gradient: the upstream `g[n]`, measured against the largest of all where one is
 * bound, times `p.scale`. A peak that is not finite gives NaN, which the products carry on.
 */
export const upstream = (has: (binding: string) => boolean): string => {
  if (!has('g')) return 'p.scale';
  return has('peak') ? 'select(f32(g[n]) / peak[0], 0.0, peak[0] == 0.0) * p.scale' : 'f32(g[n]) * p.scale';
};
