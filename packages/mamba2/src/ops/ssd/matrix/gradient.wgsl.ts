import { defineKernel, type KernelVariant, MatrixUnits, matrixDirectives } from '@zebra/tensor';
import { CHUNK } from '../gates.wgsl.js';
import { OPERAND_PARAMS } from './forward.wgsl.js';
import {
  dealt,
  eachVector,
  FUNCTIONS,
  fetchRows,
  floats,
  floatsAt,
  HALVES,
  halves,
  halvesAt,
  lay,
  MEMORY,
  product,
  range,
  type ScanConstants,
  SIDE,
  SUBGROUPS,
  share,
  subgroupsMain,
  sumsOf,
  THREADS,
  vectorsOf,
} from './tiles.wgsl.js';

/** Vectors of floats of the patch of workgroup memory through which a subgroup looks at one 16 × 16 tile. */
const PATCH = (SIDE * SIDE) / 4;
/** Floats that invocations leave each other. */
const PARTIALS = 2 * THREADS;

/** Workgroup memory of the gradient, in parts: operands; one matrix more, or patches; results in place of operands. */
function gradientMemory({ rows, columns }: ScanConstants) {
  const x = halves(0, CHUNK, rows);
  const b = halves(x.size, CHUNK, columns);
  const c = halves(b.at + b.size, CHUNK, columns);
  const dy = halves(c.at + c.size, CHUNK, rows);
  const more = dy.at + dy.size;
  const edge = halves(more, rows, columns);
  const masked = halves(more, CHUNK, CHUNK);
  const dx = floats(0, CHUNK, rows);
  const dbc = floats(dx.size, CHUNK, columns);
  const size = Math.max(more + Math.max(edge.size, masked.size, SUBGROUPS * PATCH), dbc.at + dbc.size);
  return { x, b, c, dy, edge, masked, more, dx, dbc, size };
}

/** Bytes of workgroup memory. */
export const gradientBytes = (constants: ScanConstants) => 16 * (gradientMemory(constants).size + CHUNK) + 4 * PARTIALS;

/**
 * All gradients of a chunk from the state that enters it and the gradient that is carried into it from its right
 * (`matrixEdgesKernel`), one workgroup a chunk of the heads that share one x and B. With G = C·Bᵀ, H = dy·xᵀ and the
 * decays E (0 above the diagonal): dx = (δ·E∘G + D)ᵀ·dy + carried part, dB = (δ·E∘H)ᵀ·C + carried part,
 * dC = (δ·E∘H)·B + part of the state. What decays get comes from the float32 products E∘G∘H, whose sums over rows and
 * columns cancel to float32's precision.
 *
 * All of them are linear in G and H, so that larger heads are done block by block of their state, `rows` × `columns` a
 * dispatch, one after the other: the first blocks write, later ones add. `edge_at` and the places of operands are those
 * of the block, and `row` and `column` where it begins. D belongs to the blocks of the first columns.
 *
 * Writes `products` and `through` as `matrixGateGradientKernel` reads them.
 */
export const matrixGradientKernel = defineKernel({
  name: 'mamba2_matrix_gradient',
  bindings: {
    x: 'read',
    b: 'read',
    c: 'read',
    dy: 'read',
    gates: 'read',
    skip: 'read',
    states: 'read',
    carried: 'read',
    dx: 'write',
    db: 'write',
    dc: 'write',
    products: 'write',
    through: 'write',
  },
  params: {
    ...OPERAND_PARAMS,
    dy_at: 'u32',
    dy_step: 'u32',
    dx_at: 'u32',
    dx_step: 'u32',
    db_at: 'u32',
    db_step: 'u32',
    dc_at: 'u32',
    dc_step: 'u32',
    edge_at: 'u32',
    row: 'u32',
    column: 'u32',
  },
  directives: matrixDirectives,
  vectors: ({ has }): Record<string, 4> => ({
    x: 4,
    b: 4,
    c: 4,
    dy: 4,
    gates: 4,
    states: 4,
    carried: 4,
    dx: 4,
    products: 4,
    ...(has('db') && { db: 4 }),
    ...(has('dc') && { dc: 4 }),
  }),
  workgroup: THREADS,
  source: (variant) => {
    const constants = variant.constants as unknown as ScanConstants;
    return source(constants, new MatrixUnits(constants, variant), variant);
  },
});

/** WGSL functions for the eight elements of a tile that an invocation looks at. */
const ELEMENTS = /* wgsl */ `
fn dot8(low: vec4<f32>, high: vec4<f32>, v: vec4<u32>) -> f32 { return dot(low, low_of(v)) + dot(high, high_of(v)); }
fn decay_of(mine: vec4<f32>, i: u32, j: u32) -> f32 {
  if (j > i) { return 0.0; }
  return between(gate_of[place_of(j)], mine, j);
}
fn decays(mine: vec4<f32>, i: u32, j: u32) -> vec4<f32> {
  return vec4<f32>(decay_of(mine, i, j), decay_of(mine, i, j + 1u), decay_of(mine, i, j + 2u), decay_of(mine, i, j + 3u));
}
fn deltas(j: u32) -> vec4<f32> {
  return vec4<f32>(gate_of[place_of(j)].x, gate_of[place_of(j + 1u)].x, gate_of[place_of(j + 2u)].x, gate_of[place_of(j + 3u)].x);
}
fn diagonal(i: u32, j: u32) -> vec4<f32> {
  return select(vec4<f32>(), vec4<f32>(1.0), vec4<u32>(j, j + 1u, j + 2u, j + 3u) == vec4<u32>(i));
}`;

function source(constants: ScanConstants, units: MatrixUnits, { has }: KernelVariant): string {
  const { headDim, stateSize, rows, columns: cols } = constants;
  const m = gradientMemory(constants);
  const [db, dc] = [has('db') ? 'db' : 'dx', has('dc') ? 'dc' : 'dx'];
  const of = (name: string) =>
    sumsOf(name, CHUNK, name === 'dx' || name === 'into_x' ? rows : name[0] === 'd' ? cols : CHUNK);
  const sums = ['dx', 'into_x', 'dbs', 'dcs', 'g', 'hs'].flatMap(of);
  const clear = (...names: string[]) =>
    names
      .flatMap(of)
      .map((name) => `    ${units.clear(name)}`)
      .join('\n');
  const along = (region: typeof m.x, alongK: boolean) => ({ region, alongK });
  const multiply = (
    columns: number,
    depth: number,
    left: [typeof m.x, boolean],
    right: [typeof m.x, boolean],
    ...into: string[]
  ) => product(units, { rows: CHUNK, columns, depth, left: along(...left), right: along(...right), into });
  const scores = share(CHUNK, CHUNK);
  const scoreTiles = range(dealt(CHUNK, CHUNK).across);

  // An invocation looks at 8 neighbours of a row of a tile: at row `i`, and from column `j` on.
  const patch = `${m.more}u + local.y * ${PATCH}u`;
  const look = `${patch} + local.x * 2u`;
  const looked = (half: 0 | 1) => `bitcast<vec4<f32>>(memory[${look} + ${half}u])`;
  const show = (name: string) => `    ${units.store(name, MEMORY, patch, `${SIDE / 4}u`)}\n    workgroupBarrier();`;
  /** Adds the inner products of a result's rows with those of an operand to `sum`, tile by tile. */
  const rowProducts = (name: string, columns: number, operand: typeof m.x, sum: string) => {
    const at = share(CHUNK, columns);
    return range(dealt(CHUNK, columns).across)
      .map(
        (t) => `${show(`${name}${t}`)}
    ${sum} += dot8(${looked(0)}, ${looked(1)}, memory[${operand.at}u + (${at.row} + local.x / 2u) * ${operand.pitch}u + (${at.column} + ${t * SIDE}u) / ${HALVES}u + local.x % 2u]);
    workgroupBarrier();`,
      )
      .join('\n');
  };
  const partOfRow = `${scores.row} * 4u + local.x / 2u * 4u + local.y / ${dealt(CHUNK, CHUNK).down}u * 2u + local.x % 2u`;
  const fourParts = (first: number) =>
    `(partial[${first}u + lid * 4u] + partial[${first + 1}u + lid * 4u]) + (partial[${first + 2}u + lid * 4u] + partial[${first + 3}u + lid * 4u])`;

  /** WGSL that writes eight neighbours of a result to a gradient, or adds them to what is there. */
  const write = (to: string, place: string, from: typeof m.dx, adds: string) => /* wgsl */ `let to = ${place};
        var low = ${floatsAt(from, 0)};
        var high = ${floatsAt(from, 1)};
        if (${adds}) { let old = ${to}[to]; low += low_of(old); high += high_of(old); }
        ${to}[to] = packed(low, high);`;

  const body = /* wgsl */ `
  let chunk = item % p.chunks;
  let shared_heads = p.heads / p.group;
  let owner = item / p.chunks % shared_heads;
  let sequence = item / (p.chunks * shared_heads);
  let t0 = chunk * ${CHUNK}u;
  let tokens = min(p.length - t0, ${CHUNK}u);
  let first = sequence * p.length + t0;
  let adds = p.row + p.column > 0u;
${vectorsOf('raw_x', CHUNK, rows)}
${vectorsOf('raw_b', CHUNK, cols)}
${fetchRows('raw_x', rows, 'x', `p.x_at + first * p.x_step + owner * ${headDim / 8}u`, 'p.x_step')}
${fetchRows('raw_b', cols, 'b', `p.b_at + first * p.b_step + owner * ${stateSize / 8}u`, 'p.b_step')}
${sums.map((name) => `  ${units.declare(name)}`).join('\n')}
  for (var member = 0u; member < p.group; member++) {
    let h = owner * p.group + member;
    let d = select(0.0, f32(skip[h]), p.column == 0u);
    let gate_at = first * p.heads + h;
    let end = gates[gate_at + (tokens - 1u) * p.heads];
    let edge_at = p.edge_at + ((sequence * p.heads + h) * p.chunks + chunk) * ${(headDim * stateSize) / 8}u;
${vectorsOf('raw_c', CHUNK, cols)}
${vectorsOf('raw_dy', CHUNK, rows)}
${fetchRows('raw_c', cols, 'c', `p.c_at + first * p.c_step + h * ${stateSize / 8}u`, 'p.c_step')}
${fetchRows('raw_dy', rows, 'dy', `p.dy_at + first * p.dy_step + h * ${headDim / 8}u`, 'p.dy_step')}
${vectorsOf('state', rows, cols)}
    var passed = 0.0;
    workgroupBarrier();
    if (lid < ${CHUNK}u) { gate_of[place_of(lid)] = gates[gate_at + min(lid, tokens - 1u) * p.heads]; }
${eachVector(
  rows,
  cols,
  (u) => `let at = edge_at + row * ${stateSize / 8}u + column;
      let later = carried[at];
      state${u} = states[at];
      passed += dot8(low_of(later), high_of(later), state${u});
      ${halvesAt(m.edge)} = later;`,
)}
    partial[lid] = passed * from_start(end);
    workgroupBarrier();
    // First what crosses the chunk's edges: operands with their decays.
${eachVector(
  CHUNK,
  rows,
  (u) => `let gate = gate_of[place_of(row)];
      ${halvesAt(m.x)} = scaled(raw_x${u}, between(gate, end, row) * gate.x);
      ${halvesAt(m.dy)} = scaled(raw_dy${u}, from_start(gate));`,
)}
${eachVector(
  CHUNK,
  cols,
  (u) => `let gate = gate_of[place_of(row)];
      ${halvesAt(m.b)} = scaled(raw_b${u}, between(gate, end, row) * gate.x);
      ${halvesAt(m.c)} = raw_c${u};`,
)}
    if (lid < tokens) {
      let passing = ${fourParts(0)};
      through[gate_at + lid * p.heads] = passing + select(0.0, through[gate_at + lid * p.heads], adds);
    }
    workgroupBarrier();
${clear('into_x', 'dcs')}
${multiply(rows, cols, [m.b, true], [m.edge, true], 'into_x', 'dx')}
${multiply(cols, rows, [m.x, true], [m.edge, false], 'dbs')}
    workgroupBarrier();
${eachVector(rows, cols, (u) => `${halvesAt(m.edge)} = state${u};`)}
    workgroupBarrier();
${multiply(cols, rows, [m.dy, true], [m.edge, false], 'dcs')}
    workgroupBarrier();
    // Then the chunk by itself.
${eachVector(CHUNK, rows, (u) => `${halvesAt(m.x)} = raw_x${u}; ${halvesAt(m.dy)} = raw_dy${u};`)}
${eachVector(CHUNK, cols, (u) => `${halvesAt(m.b)} = raw_b${u};`)}
    var later = 0.0;
    var earlier = 0.0;
${rowProducts('into_x', rows, m.x, 'later')}
${rowProducts('dcs', cols, m.c, 'earlier')}
    partial[${partOfRow}] = later;
    partial[${THREADS}u + ${partOfRow}] = earlier;
${clear('g', 'hs')}
${multiply(CHUNK, cols, [m.c, true], [m.b, true], 'g')}
${multiply(CHUNK, rows, [m.dy, true], [m.x, true], 'hs')}
    let i = ${scores.row} + local.x / 2u;
    let mine = gate_of[place_of(i)];
    var row_sum = 0.0;
    var own = vec2<f32>();
    var on_diagonal = false;
    workgroupBarrier();
    if (lid < ${CHUNK}u) {
      later = ${fourParts(0)};
      earlier = ${fourParts(THREADS)};
    }
${scoreTiles
  .map(
    (t) => /* wgsl */ `
    let j${t} = ${scores.column} + ${t * SIDE}u + (local.x % 2u) * ${HALVES}u;
${show(`g${t}`)}
    let g_low${t} = ${looked(0)};
    let g_high${t} = ${looked(1)};
    workgroupBarrier();
${show(`hs${t}`)}
    var for_x${t} = vec4<u32>();
    var for_bc${t} = vec4<u32>();
    {
      let h_low = ${looked(0)};
      let h_high = ${looked(1)};
      let e_low = decays(mine, i, j${t});
      let e_high = decays(mine, i, j${t} + 4u);
      let own_low = diagonal(i, j${t});
      let own_high = diagonal(i, j${t} + 4u);
      let delta_low = deltas(j${t});
      let delta_high = deltas(j${t} + 4u);
      for_x${t} = packed(e_low * delta_low * g_low${t} + own_low * d, e_high * delta_high * g_high${t} + own_high * d);
      for_bc${t} = packed(e_low * delta_low * h_low, e_high * delta_high * h_high);
      if (i / ${HALVES}u == j${t} / ${HALVES}u) {
        on_diagonal = true;
        own = vec2<f32>(dot(own_low, g_low${t}) + dot(own_high, g_high${t}), dot(own_low, h_low) + dot(own_high, h_high));
      }
      let pair_low = e_low * g_low${t} * h_low * (1.0 - own_low);
      let pair_high = e_high * g_high${t} * h_high * (1.0 - own_high);
      row_sum += dot(pair_low, delta_low) + dot(pair_high, delta_high);
      memory[${look}] = bitcast<vec4<u32>>(pair_low);
      memory[${look} + 1u] = bitcast<vec4<u32>>(pair_high);
    }
    workgroupBarrier();
    {
      let below = local.x / ${SIDE}u;
      var sum = 0.0;
      for (var k = 0u; k < ${SIDE / 2}u; k++) {
        sum += bitcast<f32>(memory[${patch} + (below * ${SIDE / 2}u + k) * ${SIDE / 4}u + local.x % ${SIDE}u / 4u][local.x % 4u]);
      }
      partial[(${scores.row} / ${SIDE}u * 2u + below) * ${CHUNK}u + ${scores.column} + ${t * SIDE}u + local.x % ${SIDE}u] = sum;
    }
    workgroupBarrier();`,
  )
  .join('\n')}
    var column_sum = 0.0;
    if (lid < ${CHUNK}u) {
      for (var k = 0u; k < ${PARTIALS / CHUNK}u; k++) { column_sum += partial[k * ${CHUNK}u + lid]; }
    }
${scoreTiles.map((t) => `    memory[${m.masked.at}u + i * ${m.masked.pitch}u + j${t} / ${HALVES}u] = for_x${t};`).join('\n')}
    workgroupBarrier();
    partial[${partOfRow}] = row_sum;
    if (on_diagonal) {
      partial[${THREADS}u + i] = own.x;
      partial[${THREADS + CHUNK}u + i] = own.y;
    }
${multiply(rows, CHUNK, [m.masked, false], [m.dy, false], 'dx')}
    workgroupBarrier();
${scoreTiles.map((t) => `    memory[${m.masked.at}u + i * ${m.masked.pitch}u + j${t} / ${HALVES}u] = for_bc${t};`).join('\n')}
    if (lid < tokens) {
      let delta = gate_of[place_of(lid)].x;
      let own_g = partial[${THREADS}u + lid];
      let own_h = partial[${THREADS + CHUNK}u + lid];
      let whole = column_sum + own_g * own_h + select(0.0, later / delta, delta > 1e-30);
      let here = vec4<f32>(whole, ${fourParts(0)} - delta * column_sum + earlier, select(0.0, own_h, p.column == 0u), later);
      products[gate_at + lid * p.heads] = here + select(vec4<f32>(), products[gate_at + lid * p.heads], adds);
    }
    workgroupBarrier();
${multiply(cols, CHUNK, [m.masked, false], [m.c, false], 'dbs')}
${multiply(cols, CHUNK, [m.masked, true], [m.b, false], 'dcs')}
    workgroupBarrier();
${lay(units, 'dcs', CHUNK, cols, m.dbc)}
    workgroupBarrier();
${eachVector(
  CHUNK,
  cols,
  () => `if (row < tokens) {
        ${write(dc, `p.dc_at + (first + row) * p.dc_step + h * ${stateSize / 8}u + column`, m.dbc, 'p.row > 0u')}
      }`,
)}
  }
  workgroupBarrier();
${lay(units, 'dx', CHUNK, rows, m.dx)}
${lay(units, 'dbs', CHUNK, cols, m.dbc)}
  workgroupBarrier();
${eachVector(
  CHUNK,
  rows,
  () => `if (row < tokens) {
        ${write('dx', `p.dx_at + (first + row) * p.dx_step + owner * ${headDim / 8}u + column`, m.dx, 'p.column > 0u')}
      }`,
)}
${eachVector(
  CHUNK,
  cols,
  () => `if (row < tokens) {
        ${write(db, `p.db_at + (first + row) * p.db_step + owner * ${stateSize / 8}u + column`, m.dbc, 'p.row > 0u')}
      }`,
)}`;
  return `${units.declarations()}
var<workgroup> memory: array<vec4<u32>, ${m.size}>;
var<workgroup> gate_of: array<vec4<f32>, ${CHUNK}>;
var<workgroup> partial: array<f32, ${PARTIALS}>;
${FUNCTIONS}${ELEMENTS}${subgroupsMain(units, body)}`;
}
