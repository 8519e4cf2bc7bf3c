import { defineKernel, type KernelVariant, MatrixUnits, matrixDirectives } from '@zebra/tensor';
import { CHUNK } from '../gates.wgsl.js';
import {
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
export function forwardMemory({ headDim, stateSize }: ScanConstants) {
  const x = halves(0, CHUNK, headDim);
  const b = halves(x.size, CHUNK, stateSize);
  const c = halves(b.at + b.size, CHUNK, stateSize);
  const masked = halves(c.at + c.size, CHUNK, CHUNK);
  const state = halves(masked.at + masked.size, headDim, stateSize);
  // Products take the place of operands that are done with: the scores never that of the state.
  const scores = floats(b.at, CHUNK, CHUNK);
  const y = floats(b.at, CHUNK, headDim);
  const added = floats(y.at + y.size, headDim, stateSize);
  return { x, b, c, masked, state, scores, y, added, size: Math.max(state.at + state.size, added.at + added.size) };
}

/**
 * The scan, one workgroup a head of a sequence (or some rows of its state), which walks the chunks with the state in float32 registers, so that
 * every operand is read once and no state is stored. Of a chunk: scores G = C·Bᵀ; y = (G ∘ decays)·x + decayed C·Sᵀ;
 * S ← decay·S + xᵀ·(decayed B). Matrices have no access to elements: decays meet operands on their way into workgroup
 * memory, as factors of at most 1 (δ apart), and D is part of the diagonal of the masked scores.
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
  const { headDim: rows, stateSize: cols, parts } = constants;
  const m = forwardMemory(constants);
  const stateVectors = range(rounds(rows, cols));
  const sums = [...sumsOf('g', CHUNK, CHUNK), ...sumsOf('o', CHUNK, rows), ...sumsOf('added', rows, cols)];
  const clear = (names: readonly string[]) => names.map((name) => `    ${units.clear(name)}`).join('\n');
  const along = (region: typeof m.x, alongK: boolean) => ({ region, alongK });
  const fetch = (chunk: string) => /* wgsl */ `
    if (${chunk} < p.chunks) {
      let t0 = ${chunk} * ${CHUNK}u;
      let tokens = min(p.length - t0, ${CHUNK}u);
${fetchRows('next_x', rows, 'x', 'x_at + t0 * p.x_step', 'p.x_step')}
${fetchRows('next_b', cols, 'b', 'b_at + t0 * p.b_step', 'p.b_step')}
${fetchRows('next_c', cols, 'c', 'c_at + t0 * p.c_step', 'p.c_step')}
      if (lid < ${CHUNK}u) { next_gate = gates[(sequence * p.length + t0 + min(lid, tokens - 1u)) * p.heads + h]; }
    }`;
  const body = /* wgsl */ `
  let part = item % ${parts}u * ${rows / 8}u;
  let h = item / ${parts}u % p.heads;
  let sequence = item / (${parts}u * p.heads);
  let x_at = p.x_at + sequence * p.length * p.x_step + (h / p.group) * ${(parts * rows) / 8}u + part;
  let b_at = p.b_at + sequence * p.length * p.b_step + (h / p.group) * ${cols / 8}u;
  let c_at = p.c_at + sequence * p.length * p.c_step + h * ${cols / 8}u;
  let y_at = p.y_at + sequence * p.length * p.y_step + h * ${(parts * rows) / 8}u + part;
  let d = f32(skip[h]);
${stateVectors.map((u) => `  var low${u} = vec4<f32>(); var high${u} = vec4<f32>();`).join('\n')}
${
  has('state')
    ? eachVector(
        rows,
        cols,
        (u) => `let at = item * ${(rows * cols) / 4}u + unit * 2u; low${u} = state[at]; high${u} = state[at + 1u];`,
      )
    : ''
}
${vectorsOf('next_x', CHUNK, rows)}
${vectorsOf('next_b', CHUNK, cols)}
${vectorsOf('next_c', CHUNK, cols)}
  var next_gate = vec4<f32>();
${sums.map((name) => `  ${units.declare(name)}`).join('\n')}
  ${fetch('0u')}
  for (var chunk = 0u; chunk < p.chunks; chunk++) {
    let t0 = chunk * ${CHUNK}u;
    let tokens = min(p.length - t0, ${CHUNK}u);
${eachVector(CHUNK, rows, (u) => `${halvesAt(m.x)} = next_x${u};`)}
${eachVector(CHUNK, cols, (u) => `${halvesAt(m.b)} = next_b${u}; ${halvesAt(m.c)} = next_c${u};`)}
${eachVector(rows, cols, (u) => `${halvesAt(m.state)} = packed(low${u}, high${u});`)}
    if (lid < ${CHUNK}u) { gate_of[place_of(lid)] = next_gate; }
    workgroupBarrier();
    let end = gate_of[place_of(${CHUNK - 1}u)];
${clear(sumsOf('g', CHUNK, CHUNK))}
${product(units, { rows: CHUNK, columns: CHUNK, depth: cols, left: along(m.c, true), right: along(m.b, true), into: ['g'] })}
    workgroupBarrier();
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
${eachVector(
  CHUNK,
  cols,
  (u) => `let gate = gate_of[place_of(row)];
      ${halvesAt(m.b)} = scaled(next_b${u}, between(gate, end, row) * gate.x);
      ${halvesAt(m.c)} = scaled(next_c${u}, from_start(gate));`,
)}
    workgroupBarrier();
    ${fetch('(chunk + 1u)')}
${clear([...sumsOf('o', CHUNK, rows), ...sumsOf('added', rows, cols)])}
${product(units, { rows: CHUNK, columns: rows, depth: cols, left: along(m.c, true), right: along(m.state, true), into: ['o'] })}
${product(units, { rows: CHUNK, columns: rows, depth: CHUNK, left: along(m.masked, true), right: along(m.x, false), into: ['o'] })}
${product(units, { rows, columns: cols, depth: CHUNK, left: along(m.x, false), right: along(m.b, false), into: ['added'] })}
    workgroupBarrier();
${lay(units, 'o', CHUNK, rows, m.y)}
${lay(units, 'added', rows, cols, m.added)}
    workgroupBarrier();
${eachVector(
  CHUNK,
  rows,
  () => `if (row < tokens) {
        y[y_at + (t0 + row) * p.y_step + column] = packed(${floatsAt(m.y, 0)}, ${floatsAt(m.y, 1)});
      }`,
)}
    let left = from_start(end);
${eachVector(
  rows,
  cols,
  (u) => `low${u} = low${u} * left + ${floatsAt(m.added, 0)}; high${u} = high${u} * left + ${floatsAt(m.added, 1)};`,
)}
    workgroupBarrier();
  }
${
  has('state')
    ? eachVector(
        rows,
        cols,
        (u) => `let at = item * ${(rows * cols) / 4}u + unit * 2u; state[at] = low${u}; state[at + 1u] = high${u};`,
      )
    : ''
}`;
  return `${units.declarations()}
var<workgroup> memory: array<vec4<u32>, ${m.size}>;
var<workgroup> gate_of: array<vec4<f32>, ${CHUNK}>;
${FUNCTIONS}${MASK}${subgroupsMain(units, body)}`;
}
