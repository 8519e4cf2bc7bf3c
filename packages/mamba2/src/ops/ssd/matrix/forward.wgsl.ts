import { defineKernel, type KernelVariant, MatrixUnits, matrixDirectives } from '@zebra/tensor';
import { CHUNK } from '../gates.wgsl.js';
import {
  cutsOf,
  eachVector,
  FUNCTIONS,
  fetchRows,
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

/** Where operands lie; offsets and steps from token to token count vectors of 8 halves. */
export const OPERAND_PARAMS = {
  count: 'u32',
  length: 'u32',
  heads: 'u32',
  chunks: 'u32',
  group: 'u32',
  x_at: 'u32',
  x_step: 'u32',
  b_at: 'u32',
  b_step: 'u32',
  c_at: 'u32',
  c_step: 'u32',
} as const;

/** Workgroup memory of the forward scan, in parts. */
function forwardMemory({ rows, columns }: ScanConstants) {
  const x = halves(0, CHUNK, rows);
  const b = halves(x.size, CHUNK, columns);
  const c = halves(b.at + b.size, CHUNK, columns);
  const masked = halves(c.at + c.size, CHUNK, CHUNK);
  const state = halves(masked.at + masked.size, rows, columns);
  // Products take the place of operands that are done with: the scores never that of the state, and what is added to a
  // block of it, but for the last one, neither that of x nor that of the masked scores.
  const scores = floats(b.at, CHUNK, CHUNK);
  const y = floats(b.at, CHUNK, rows);
  const early = floats(b.at, rows, columns);
  const added = floats(y.at + y.size, rows, columns);
  const size = Math.max(state.at + state.size, scores.at + scores.size, added.at + added.size);
  return { x, b, c, masked, state, scores, y, early, added, size };
}

/** Bytes of workgroup memory. */
export const forwardBytes = (constants: ScanConstants) => 16 * (forwardMemory(constants).size + CHUNK);

/**
 * The scan, one workgroup a head of a sequence (or some rows of its state), which walks the chunks with the state in float32 registers, so that
 * every operand is read once and no state is stored. Of a chunk: scores G = C·Bᵀ; y = (G ∘ decays)·x + decayed C·Sᵀ;
 * S ← decay·S + xᵀ·(decayed B). Matrices have no access to elements: decays meet operands on their way into workgroup
 * memory, as factors of at most 1 (δ apart), and D is part of the diagonal of the masked scores. States of more columns
 * than the memory holds go through it block by block: scores and y are sums over the blocks.
 */
export const matrixForwardKernel = defineKernel({
  name: 'mamba2_matrix_forward',
  bindings: { x: 'read', b: 'read', c: 'read', gates: 'read', skip: 'read', state: 'write', y: 'write' },
  params: { ...OPERAND_PARAMS, y_at: 'u32', y_step: 'u32' },
  directives: matrixDirectives,
  vectors: ({ has }): Record<string, 4> => ({ x: 4, b: 4, c: 4, gates: 4, y: 4, ...(has('state') && { state: 4 }) }),
  workgroup: THREADS,
  source: (variant) => {
    const constants = variant.constants as unknown as ScanConstants;
    return source(constants, new MatrixUnits(constants, variant), variant);
  },
});

/** WGSL of the decays of eight neighbours of a row of scores, times δ, with D on the diagonal. */
const MASK = /* wgsl */ `
fn masked_pair(score: f32, mine: vec4<f32>, i: u32, j: u32, d: f32) -> f32 {
  if (j > i) { return 0.0; }
  let other = gate_of[place_of(j)];
  return score * between(other, mine, j) * other.x + select(0.0, d, i == j);
}
fn masked_four(scores: vec4<f32>, mine: vec4<f32>, i: u32, j: u32, d: f32) -> vec4<f32> {
  return vec4<f32>(masked_pair(scores.x, mine, i, j, d), masked_pair(scores.y, mine, i, j + 1u, d),
    masked_pair(scores.z, mine, i, j + 2u, d), masked_pair(scores.w, mine, i, j + 3u, d));
}`;

function source(constants: ScanConstants, units: MatrixUnits, { has }: KernelVariant): string {
  const { headDim, stateSize, rows, columns: cols } = constants;
  const { parts, blocks } = cutsOf(constants);
  const m = forwardMemory(constants);
  const sums = [...sumsOf('g', CHUNK, CHUNK), ...sumsOf('o', CHUNK, rows), ...sumsOf('added', rows, cols)];
  const clear = (names: readonly string[]) => names.map((name) => `    ${units.clear(name)}`).join('\n');
  const along = (region: typeof m.x, alongK: boolean) => ({ region, alongK });
  const eachBlock = (write: (k: number) => string) => range(blocks).map(write).join('\n');
  /** WGSL for all of a block's state: `at` is its place in memory, the first of two vectors of floats. */
  const eachState = (k: number, write: (low: string, high: string) => string) =>
    eachVector(
      rows,
      cols,
      (u) =>
        `let at = (item * ${rows}u + row) * ${stateSize / 4}u + ${(k * cols) / 4}u + column * 2u; ${write(`low${k}_${u}`, `high${k}_${u}`)}`,
    );
  const fetch = (chunk: string) => /* wgsl */ `
    if (${chunk} < p.chunks) {
      let t0 = ${chunk} * ${CHUNK}u;
      let tokens = min(p.length - t0, ${CHUNK}u);
${fetchRows('next_x', rows, 'x', 'x_at + t0 * p.x_step', 'p.x_step')}
${eachBlock((k) =>
  ['b', 'c']
    .map((name) => {
      const place = `${name}_at + t0 * p.${name}_step + ${(k * cols) / 8}u`;
      return fetchRows(`next_${name}${k}_`, cols, name, place, `p.${name}_step`);
    })
    .join('\n'),
)}
      if (lid < ${CHUNK}u) { next_gate = gates[(sequence * p.length + t0 + min(lid, tokens - 1u)) * p.heads + h]; }
    }`;
  /** A block's share of y and of the next state, once its operands are in workgroup memory. */
  const multiplyBlock = (k: number) => /* wgsl */ `
${clear([...(k === 0 ? sumsOf('o', CHUNK, rows) : []), ...sumsOf('added', rows, cols)])}
${product(units, { rows: CHUNK, columns: rows, depth: cols, left: along(m.c, true), right: along(m.state, true), into: ['o'] })}
${k === 0 ? product(units, { rows: CHUNK, columns: rows, depth: CHUNK, left: along(m.masked, true), right: along(m.x, false), into: ['o'] }) : ''}
${product(units, { rows, columns: cols, depth: CHUNK, left: along(m.x, false), right: along(m.b, false), into: ['added'] })}
    workgroupBarrier();`;
  const storeState = (k: number) =>
    eachVector(rows, cols, (u) => `${halvesAt(m.state)} = packed(low${k}_${u}, high${k}_${u});`);
  const body = /* wgsl */ `
  let part = item % ${parts}u * ${rows / 8}u;
  let h = item / ${parts}u % p.heads;
  let sequence = item / (${parts}u * p.heads);
  let x_at = p.x_at + sequence * p.length * p.x_step + (h / p.group) * ${headDim / 8}u + part;
  let b_at = p.b_at + sequence * p.length * p.b_step + (h / p.group) * ${stateSize / 8}u;
  let c_at = p.c_at + sequence * p.length * p.c_step + h * ${stateSize / 8}u;
  let y_at = p.y_at + sequence * p.length * p.y_step + h * ${headDim / 8}u + part;
  let d = f32(skip[h]);
${eachBlock((k) =>
  range(rounds(rows, cols))
    .map((u) => `  var low${k}_${u} = vec4<f32>(); var high${k}_${u} = vec4<f32>();`)
    .join('\n'),
)}
${has('state') ? eachBlock((k) => eachState(k, (low, high) => `${low} = state[at]; ${high} = state[at + 1u];`)) : ''}
${vectorsOf('next_x', CHUNK, rows)}
${eachBlock((k) => `${vectorsOf(`next_b${k}_`, CHUNK, cols)}\n${vectorsOf(`next_c${k}_`, CHUNK, cols)}`)}
  var next_gate = vec4<f32>();
${sums.map((name) => `  ${units.declare(name)}`).join('\n')}
  ${fetch('0u')}
  for (var chunk = 0u; chunk < p.chunks; chunk++) {
    let t0 = chunk * ${CHUNK}u;
    let tokens = min(p.length - t0, ${CHUNK}u);
${eachVector(CHUNK, rows, (u) => `${halvesAt(m.x)} = next_x${u};`)}
${storeState(0)}
    if (lid < ${CHUNK}u) { gate_of[place_of(lid)] = next_gate; }
${clear(sumsOf('g', CHUNK, CHUNK))}
${eachBlock(
  (k) => /* wgsl */ `
${eachVector(CHUNK, cols, (u) => `${halvesAt(m.b)} = next_b${k}_${u}; ${halvesAt(m.c)} = next_c${k}_${u};`)}
    workgroupBarrier();
${product(units, { rows: CHUNK, columns: CHUNK, depth: cols, left: along(m.c, true), right: along(m.b, true), into: ['g'] })}
    workgroupBarrier();`,
)}
    let end = gate_of[place_of(${CHUNK - 1}u)];
    let left = from_start(end);
${lay(units, 'g', CHUNK, CHUNK, m.scores)}
    workgroupBarrier();
${vectorsOf('masked', CHUNK, CHUNK)}
${eachVector(
  CHUNK,
  CHUNK,
  (u) => `let mine = gate_of[place_of(row)]; let j = column * 8u;
      if (j <= row) {
        masked${u} = packed(masked_four(${floatsAt(m.scores, 0)}, mine, row, j, d), masked_four(${floatsAt(m.scores, 1)}, mine, row, j + 4u, d));
      }`,
)}
    workgroupBarrier();
${eachVector(CHUNK, CHUNK, (u) => `${halvesAt(m.masked)} = masked${u};`)}
${eachBlock((k) => {
  const last = k === blocks - 1;
  const added = last ? m.added : m.early;
  return /* wgsl */ `
${k > 0 ? storeState(k) : ''}
${eachVector(
  CHUNK,
  cols,
  (u) => `let gate = gate_of[place_of(row)];
      ${halvesAt(m.b)} = scaled(next_b${k}_${u}, between(gate, end, row) * gate.x);
      ${halvesAt(m.c)} = scaled(next_c${k}_${u}, from_start(gate));`,
)}
    workgroupBarrier();
    ${last ? fetch('(chunk + 1u)') : ''}
${multiplyBlock(k)}
${last ? lay(units, 'o', CHUNK, rows, m.y) : ''}
${lay(units, 'added', rows, cols, added)}
    workgroupBarrier();
${eachVector(
  rows,
  cols,
  (u) =>
    `low${k}_${u} = low${k}_${u} * left + ${floatsAt(added, 0)}; high${k}_${u} = high${k}_${u} * left + ${floatsAt(added, 1)};`,
)}
${last ? '' : '    workgroupBarrier();'}`;
})}
${eachVector(
  CHUNK,
  rows,
  () => `if (row < tokens) {
        y[y_at + (t0 + row) * p.y_step + column] = packed(${floatsAt(m.y, 0)}, ${floatsAt(m.y, 1)});
      }`,
)}
    workgroupBarrier();
  }
${has('state') ? eachBlock((k) => eachState(k, (low, high) => `state[at] = ${low}; state[at + 1u] = ${high};`)) : ''}`;
  return `${units.declarations()}
var<workgroup> memory: array<vec4<u32>, ${m.size}>;
var<workgroup> gate_of: array<vec4<f32>, ${CHUNK}>;
${FUNCTIONS}${MASK}${subgroupsMain(units, body)}`;
}
