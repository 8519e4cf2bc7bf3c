import { defineKernel, type KernelVariant, MatrixUnits, matrixDirectives } from '@zebra/tensor';
import { CHUNK } from '../gates.wgsl.js';
import { OPERAND_PARAMS } from './forward.wgsl.js';
import {
  cutsOf,
  eachVector,
  FUNCTIONS,
  floats,
  floatsAt,
  halves,
  halvesAt,
  lay,
  product,
  range,
  rounds,
  type ScanConstants,
  subgroupsMain,
  sumsOf,
  THREADS,
  vectorsOf,
} from './tiles.wgsl.js';

/** Workgroup memory of the walk over the chunks' edges, in parts. */
function edgesMemory({ rows, columns }: ScanConstants) {
  const u = halves(0, CHUNK, rows);
  const v = halves(u.size, CHUNK, columns);
  const added = floats(v.at + v.size, rows, columns);
  return { u, v, added, size: added.at + added.size };
}

/** Bytes of workgroup memory. */
export const edgesBytes = (constants: ScanConstants) => 16 * edgesMemory(constants).size;

/**
 * The states that enter each chunk and, in the workgroups of z = 1, the gradients that are carried into each chunk from
 * its right, both [B, H, chunks, P, N]: one workgroup a head of a sequence (or some rows and columns of its state), with
 * the state in float32 registers. With
 * `initial` it starts from that; with `initial_gradient` it leaves the gradient of that there.
 */
export const matrixEdgesKernel = defineKernel({
  name: 'mamba2_matrix_edges',
  bindings: {
    x: 'read',
    b: 'read',
    c: 'read',
    dy: 'read',
    gates: 'read',
    initial: 'read',
    states: 'write',
    carried: 'write',
    initial_gradient: 'write',
  },
  params: { ...OPERAND_PARAMS, dy_at: 'u32', dy_step: 'u32' },
  directives: matrixDirectives,
  vectors: ({ has }): Record<string, 4> => ({
    x: 4,
    b: 4,
    c: 4,
    dy: 4,
    gates: 4,
    states: 4,
    carried: 4,
    ...(has('initial') && { initial: 4 }),
    ...(has('initial_gradient') && { initial_gradient: 4 }),
  }),
  workgroup: THREADS,
  source: (variant) => {
    const constants = variant.constants as unknown as ScanConstants;
    return source(constants, new MatrixUnits(constants, variant), variant);
  },
});

function source(constants: ScanConstants, units: MatrixUnits, { has }: KernelVariant): string {
  const { headDim, stateSize, rows, columns: cols } = constants;
  const { parts, blocks } = cutsOf(constants);
  const m = edgesMemory(constants);
  const sums = sumsOf('added', rows, cols);
  const along = (region: typeof m.u) => ({ region, alongK: false });
  const either = (reverse: string, forward: string) => `if (reverse) { ${reverse} } else { ${forward} }`;
  const fetchU = eachVector(CHUNK, rows, (u) => {
    const from = (binding: string) =>
      `next_u${u} = ${binding}[${binding}_at + (t0 + row) * p.${binding}_step + column];`;
    return `next_u${u} = vec4<u32>(); if (row < tokens) { ${either(from('dy'), from('x'))} }`;
  });
  const fetchV = eachVector(CHUNK, cols, (u) => {
    const from = (binding: string, factor: string) =>
      `next_v${u} = scaled(${binding}[${binding}_at + (t0 + row) * p.${binding}_step + column], ${factor});`;
    return `next_v${u} = vec4<u32>();
      if (row < tokens) {
        let gate = gates[gate_at + row * p.heads];
        ${either(from('c', 'from_start(gate)'), from('b', 'between(gate, next_end, row) * gate.x'))}
      }`;
  });
  const fetch = (step: string) => /* wgsl */ `
    if (${step} < p.chunks) {
      let t0 = select(${step}, p.chunks - 1u - ${step}, reverse) * ${CHUNK}u;
      let tokens = min(p.length - t0, ${CHUNK}u);
      let gate_at = (sequence * p.length + t0) * p.heads + h;
      next_end = gates[gate_at + (tokens - 1u) * p.heads];
${fetchU}
${fetchV}
    }`;
  const stateAt = `let at = ((head * ${headDim}u + part * ${rows}u + row) * ${stateSize}u + block * ${cols}u) / 4u + column * 2u;`;
  const edgeAt = `let at = edge + row * ${stateSize / 8}u + column;`;
  const body = /* wgsl */ `
  let reverse = wid.z == 1u;
  let block = item % ${blocks}u;
  let part = item / ${blocks}u % ${parts}u;
  let head = item / ${blocks * parts}u;
  let h = head % p.heads;
  let sequence = head / p.heads;
  let x_at = p.x_at + sequence * p.length * p.x_step + ((h / p.group) * ${parts}u + part) * ${rows / 8}u;
  let b_at = p.b_at + sequence * p.length * p.b_step + (h / p.group) * ${stateSize / 8}u + block * ${cols / 8}u;
  let c_at = p.c_at + sequence * p.length * p.c_step + h * ${stateSize / 8}u + block * ${cols / 8}u;
  let dy_at = p.dy_at + sequence * p.length * p.dy_step + (h * ${parts}u + part) * ${rows / 8}u;
${range(rounds(rows, cols))
  .map((u) => `  var low${u} = vec4<f32>(); var high${u} = vec4<f32>();`)
  .join('\n')}
${
  has('initial')
    ? `  if (!reverse) {
${eachVector(rows, cols, (u) => `${stateAt} low${u} = initial[at]; high${u} = initial[at + 1u];`)}
  }`
    : ''
}
${vectorsOf('next_u', CHUNK, rows)}
${vectorsOf('next_v', CHUNK, cols)}
  var next_end = vec4<f32>();
${sums.map((name) => `  ${units.declare(name)}`).join('\n')}
  ${fetch('0u')}
  for (var step = 0u; step < p.chunks; step++) {
    let left = from_start(next_end);
${eachVector(CHUNK, rows, (u) => `${halvesAt(m.u)} = next_u${u};`)}
${eachVector(CHUNK, cols, (u) => `${halvesAt(m.v)} = next_v${u};`)}
    let edge_chunk = head * p.chunks + select(step, p.chunks - 1u - step, reverse);
    let edge = (edge_chunk * ${headDim}u + part * ${rows}u) * ${stateSize / 8}u + block * ${cols / 8}u;
${eachVector(
  rows,
  cols,
  (u) => `${edgeAt} ${either(`carried[at] = packed(low${u}, high${u});`, `states[at] = packed(low${u}, high${u});`)}`,
)}
    workgroupBarrier();
    ${fetch('(step + 1u)')}
${sums.map((name) => `    ${units.clear(name)}`).join('\n')}
${product(units, { rows, columns: cols, depth: CHUNK, left: along(m.u), right: along(m.v), into: ['added'] })}
${lay(units, 'added', rows, cols, m.added)}
    workgroupBarrier();
${eachVector(
  rows,
  cols,
  (u) => `low${u} = low${u} * left + ${floatsAt(m.added, 0)}; high${u} = high${u} * left + ${floatsAt(m.added, 1)};`,
)}
  }
${
  has('initial_gradient')
    ? `  if (reverse) {
${eachVector(rows, cols, (u) => `${stateAt} initial_gradient[at] = low${u}; initial_gradient[at + 1u] = high${u};`)}
  }`
    : ''
}`;
  return `${units.declarations()}
var<workgroup> memory: array<vec4<u32>, ${m.size}>;
${FUNCTIONS}${subgroupsMain(units, body)}`;
}
