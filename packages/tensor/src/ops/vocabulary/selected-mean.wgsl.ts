import { defineKernel, linearMain } from '../../device/kernel.js';
import { rowLanesMain, rowSum, rowWorkgroup } from '../row/row-lanes.wgsl.js';
import { SELECTED, SELECTION_PARAMS } from './selection.js';

/** factor · mean of the selected values, and factor / count; both 0 where nothing is selected. */
export const meanKernel = defineKernel({
  name: 'selected_mean',
  bindings: { x: 'read', selection: 'read', y: 'write', slope: 'write' },
  params: { rows: 'u32', units: 'u32', factor: 'f32', ...SELECTION_PARAMS },
  workgroup: rowWorkgroup,
  source: (variant) =>
    SELECTED +
    rowSum(variant) +
    rowLanesMain(
      variant,
      `
  var sums = 0.0;
  var counts = 0.0;
  for (var c = lane; c < end; c += LANES) {
    ${variant.has('selection') ? 'if (selected(selection[c])) { sums += f32(x[c]); counts += 1.0; }' : 'sums += f32(x[c]); counts += 1.0;'}
  }
  let sum = row_sum(sums, lid);
  let count = row_sum(counts, lid);
  if (inside && lane == 0u) {
    let inverse = select(0.0, p.factor / count, count > 0.0);
    slope[0] = inverse;
    y[0] = y_t(sum * inverse);
  }`,
    ),
});

/** The gradient of each value: the upstream times factor / count where it is selected, else 0. */
export const meanGradientKernel = defineKernel({
  name: 'selected_mean_gradient',
  bindings: { g: 'read', selection: 'read', slope: 'read', d: 'write' },
  params: { count: 'u32', ...SELECTION_PARAMS },
  source: (variant) =>
    SELECTED +
    linearMain(
      'p.count',
      `  d[i] = d_t(select(0.0, f32(g[0]) * slope[0], ${variant.has('selection') ? 'selected(selection[i])' : 'true'}));`,
    ),
});
