import { blockMain, defineKernel, wideWorkgroup } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

// exp overflows float32 past 88; 1/(1 + e^87) is the smallest normal number, so that nothing representable is lost.
const SIGMOID = 'fn sigmoid(a: F) -> F { return 1.0 / (1.0 + exp(-max(a, F(-87.0)))); }\n';

/** y = silu(gate)·up. */
export const forwardKernel = defineKernel({
  name: 'swiglu',
  bindings: { gate: 'read', up: 'read', y: 'write' },
  params: { count: 'u32' },
  vectors: rowVectors('gate', 'up', 'y'),
  itemwise: () => ['gate', 'up', 'y'],
  workgroup: wideWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SIGMOID +
    blockMain(variant, 'p.count', (at) =>
      [
        ...at.flatMap((i, k) => [`  let a${k} = F(gate[${i}]);`, `  let u${k} = F(up[${i}]);`]),
        ...at.map((i, k) => `  y[${i}] = y_t(a${k} * sigmoid(a${k}) * u${k});`),
      ].join('\n'),
    ),
});

/** Both gradients, or the one that is bound. */
export const gradientKernel = defineKernel({
  name: 'swiglu_gradient',
  bindings: { g: 'read', gate: 'read', up: 'read', d_gate: 'write', d_up: 'write' },
  params: { count: 'u32' },
  vectors: rowVectors('g', 'gate', 'up', 'd_gate', 'd_up'),
  itemwise: () => ['g', 'gate', 'up', 'd_gate', 'd_up'],
  workgroup: wideWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    SIGMOID +
    blockMain(variant, 'p.count', (at) =>
      [
        ...at.flatMap((i, k) => [
          `  let a${k} = F(gate[${i}]);`,
          `  let g${k} = F(g[${i}]);`,
          ...(variant.has('d_gate') ? [`  let u${k} = F(up[${i}]);`] : []),
        ]),
        ...at.flatMap((i, k) => [
          `  let s${k} = sigmoid(a${k});`,
          ...(variant.has('d_up') ? [`  d_up[${i}] = d_up_t(g${k} * a${k} * s${k});`] : []),
          ...(variant.has('d_gate')
            ? [`  d_gate[${i}] = d_gate_t(g${k} * u${k} * s${k} * (1.0 + a${k} * (1.0 - s${k})));`]
            : []),
        ]),
      ].join('\n'),
    ),
});
