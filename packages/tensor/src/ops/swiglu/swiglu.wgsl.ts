import { defineKernel, linearMain } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

// exp overflows float32 past 88; 1/(1 + e^87) is the smallest normal number, so that nothing representable is lost.
const SIGMOID = 'let s = 1.0 / (1.0 + exp(-max(a, F(-87.0))));';

/** y = silu(gate)·up. */
export const forwardKernel = defineKernel({
  name: 'swiglu',
  bindings: { gate: 'read', up: 'read', y: 'write' },
  params: { count: 'u32' },
  vectors: rowVectors('gate', 'up', 'y'),
  source: ({ constants }) =>
    vectorHelpers(constants['width']) +
    linearMain('p.count', `  let a = F(gate[i]);\n  ${SIGMOID}\n  y[i] = y_t(a * s * F(up[i]));`),
});

/** Both gradients, or the one that is bound. */
export const gradientKernel = defineKernel({
  name: 'swiglu_gradient',
  bindings: { g: 'read', gate: 'read', up: 'read', d_gate: 'write', d_up: 'write' },
  params: { count: 'u32' },
  vectors: rowVectors('g', 'gate', 'up', 'd_gate', 'd_up'),
  source: ({ constants, has }) =>
    vectorHelpers(constants['width']) +
    linearMain(
      'p.count',
      `
  let a = F(gate[i]);
  ${SIGMOID}
  let upstream = F(g[i]);
${has('d_up') ? '  d_up[i] = d_up_t(upstream * a * s);' : ''}
${has('d_gate') ? '  d_gate[i] = d_gate_t(upstream * F(up[i]) * s * (1.0 + a * (1.0 - s)));' : ''}`,
    ),
});
