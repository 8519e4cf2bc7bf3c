import { defineKernel, type KernelVariant } from '../../device/kernel.js';

/** Elements of a weight's row that an invocation takes at once: 16 bytes of float16. */
export const UNIT = 8;

/** Invocations of a workgroup. */
const WORKGROUP = 128;

/** Compile-time constants of {@link projectKernel}. */
export interface ProjectConstants {
  /** Rows of x, padded: 1, 2, 4 or 8. */
  readonly rows: number;
  /** Columns of the output that a group of lanes owns; divides the rows of every weight. */
  readonly columns: number;
  /** Invocations that share a column, neighbours in a workgroup. */
  readonly lanes: number;
  /** Whether those are one subgroup. */
  readonly subgroups: boolean;
  /** Vectors of weights that an invocation asks for before it uses the first: what hides the way to memory. */
  readonly inFlight: number;
  /** Two weights, gate and up: y = silu(gate) · up. */
  readonly gated: boolean;
}

const constantsOf = (variant: Pick<KernelVariant, 'constants'>) => variant.constants as unknown as ProjectConstants;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const lines = (n: number, line: (i: number) => string) => range(n).map(line).join('\n');
const WEIGHTS = ['w0', 'w1', 'w2'] as const;

/** Groups of lanes in a workgroup. */
export const projectGroups = ({ lanes }: Pick<ProjectConstants, 'lanes'>) => WORKGROUP / lanes;

/**
 * y = x · [w0; w1; w2]ᵀ for few rows of x, bound by reading the weights once. A group of lanes owns some rows of a
 * weight and walks along them 8 elements a lane and step, several vectors ahead. float16 comes as `vec4<u32>`.
 *
 * With `norm`, x is normalised on the way (RMSNorm): the factor 1/√(mean x² + ε) of a row is the same for every
 * column, so that it is found beside the products and applied to the sums. `residual` is added at the end.
 */
export const projectKernel = defineKernel({
  name: 'project',
  bindings: {
    x: 'read',
    w0: 'read',
    w1: 'read',
    w2: 'read',
    norm: 'read',
    residual: 'read',
    y: 'write',
  },
  params: {
    m: 'u32',
    /** Rows of each weight, and columns of y. */
    n0: 'u32',
    n1: 'u32',
    n: 'u32',
    /** Vectors of 8 in a row of a weight, from one row of x to the next, and before the first. */
    units: 'u32',
    x_stride: 'u32',
    x_start: 'u32',
    eps: 'f32',
  },
  workgroup: WORKGROUP,
  vectors: () => ({ x: 4, w0: 4, w1: 4, w2: 4, norm: 4 }),
  source: (variant) => {
    const { rows, columns, lanes, gated } = constantsOf(variant);
    const present = WEIGHTS.filter((name) => variant.has(name));
    const normed = variant.has('norm');
    const sums = range(gated ? 2 : 1).flatMap((set) => range(rows * columns).map((i) => sumName(set, i)));
    const first = `min(n, p.n - ${columns}u)`;
    const branch = (name: string, row: string) =>
      walk(
        variant,
        range(columns).map((r) => ({ weight: name, row: `${row} + ${r}u`, set: 0, column: r })),
      );
    const loops = gated
      ? walk(
          variant,
          ['w0', 'w1'].flatMap((weight, set) =>
            range(columns).map((r) => ({ weight, row: `${first} + ${r}u`, set, column: r })),
          ),
        )
      : present
          .map((name, i) => {
            const row = ['first', 'first - p.n0', 'first - p.n0 - p.n1'][i]!;
            const condition = ['first < p.n0', 'first < p.n0 + p.n1', ''][i]!;
            const last = i === present.length - 1;
            return last ? `{ ${branch(name, row)} }` : `if (${condition}) { ${branch(name, row)} } else `;
          })
          .join('');
    return /* wgsl */ `
const LANES: u32 = ${lanes}u;
fn low(v: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)); }
fn high(v: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)); }
fn silu(v: f32) -> f32 {
  let e = exp(-abs(v));
  return v * select(e, 1.0, v >= 0.0) / (1.0 + e);
}
${exchange(variant)}
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let lane = lid % LANES;
  let n = ((wid.x + wid.y * nwg.x) * (WORKGROUP / LANES) + lid / LANES) * ${columns}u;
  // Lanes past the last column go along, for the sake of the others' exchanges, and write nothing.
  let first = ${first};
${lines(rows, (m) => `  let x${m} = p.x_start + min(${m}u, p.m - 1u) * p.x_stride;${normed ? ` var squares${m} = 0.0;` : ''}`)}
${sums.map((name) => `  var ${name} = 0.0;`).join('\n')}
${loops}
${range(gated ? 2 : 1)
  .map((set) => fold(variant, set))
  .join('\n')}
${normed ? lines(rows, (m) => total(variant, `squares${m}`)) : ''}
${store(variant)}
}`;
  },
});

const sumName = (set: number, index: number) => `sum${set}_${index}`;

/** A row of a weight that a group of lanes reads: `set` 1 are the ups of gated products. */
interface Stream {
  readonly weight: string;
  readonly row: string;
  readonly set: number;
  readonly column: number;
}

/** The walk along rows of weights: whole steps of several vectors, then the rest one by one. */
function walk(variant: KernelVariant, streams: readonly Stream[]): string {
  const ahead = Math.max(1, Math.floor(constantsOf(variant).inFlight / streams.length));
  return /* wgsl */ `
${streams.map(({ row }, s) => `  let at${s} = (${row}) * p.units;`).join('\n')}
  var u = lane;
  for (; u + ${ahead - 1}u * LANES < p.units; u += ${ahead}u * LANES) {
${step(variant, streams, ahead)}
  }
${ahead === 1 ? '' : `  for (; u < p.units; u += LANES) {\n${step(variant, streams, 1)}\n  }`}`;
}

function step(variant: KernelVariant, streams: readonly Stream[], ahead: number): string {
  const { rows, columns } = constantsOf(variant);
  const normed = variant.has('norm');
  const loads = range(ahead).flatMap((a) =>
    streams.map(({ weight }, s) => load(variant, weight, `at${s} + u + ${a}u * LANES`, `w${s}_${a}`)),
  );
  const uses = range(ahead).map((a) => {
    const norm = normed ? load(variant, 'norm', `u + ${a}u * LANES`, `g${a}`) : '';
    const each = range(rows).map((m) => {
      const name = `v${a}_${m}`;
      const [low, high] = halves(variant, 'x', name);
      const scaled = normed ? halves(variant, 'norm', `g${a}`).map((g) => ` * ${g}`) : ['', ''];
      const products = streams.map(({ weight, set, column }, s) => {
        const [wLow, wHigh] = halves(variant, weight, `w${s}_${a}`);
        return `${sumName(set, m * columns + column)} += dot(${name}_low, ${wLow}) + dot(${name}_high, ${wHigh});`;
      });
      return /* wgsl */ `
    ${load(variant, 'x', `x${m} + u + ${a}u * LANES`, name)}
    ${normed ? `squares${m} += dot(${low}, ${low}) + dot(${high}, ${high});` : ''}
    let ${name}_low = ${low}${scaled[0]}; let ${name}_high = ${high}${scaled[1]};
    ${products.join('\n    ')}`;
    });
    return norm + each.join('');
  });
  return [...loads, ...uses].map((text) => `    ${text}`).join('\n');
}

/** Loads 8 elements, as one vector of packed halves or two of float32. */
function load({ dtype }: KernelVariant, binding: string, unit: string, name: string): string {
  if (dtype(binding) === 'uint32') return `let ${name} = ${binding}[${unit}];`;
  return `let ${name}_a = ${binding}[2u * (${unit})]; let ${name}_b = ${binding}[2u * (${unit}) + 1u];`;
}

function halves({ dtype }: KernelVariant, binding: string, name: string): readonly [string, string] {
  return dtype(binding) === 'uint32' ? [`low(${name})`, `high(${name})`] : [`${name}_a`, `${name}_b`];
}

/** WGSL function `other(v, mask, lid)`: the value of the lane whose number differs in the bits of `mask`. */
function exchange(variant: KernelVariant): string {
  if (constantsOf(variant).subgroups) {
    return 'fn other(v: f32, mask: u32, lid: u32) -> f32 { return subgroupShuffleXor(v, mask); }';
  }
  return /* wgsl */ `
var<workgroup> exchanged: array<f32, WORKGROUP>;
fn other(v: f32, mask: u32, lid: u32) -> f32 {
  exchanged[lid] = v;
  workgroupBarrier();
  let found = exchanged[lid ^ mask];
  workgroupBarrier();
  return found;
}`;
}

/** The masks of a sum over all lanes, the widest first. */
const masks = (lanes: number) => range(Math.log2(lanes)).map((bit) => lanes >> (bit + 1));

/** Adds a value over all lanes, which all get it. */
function total(variant: KernelVariant, name: string): string {
  return masks(constantsOf(variant).lanes)
    .map((mask) => `  ${name} += other(${name}, ${mask}u, lid);`)
    .join('\n');
}

/**
 * Adds the sums of a set over all lanes, each lane ending with its share of them: at every exchange a lane keeps one
 * half of its values and gives the other away, which takes a value one exchange instead of one for every halving.
 */
function fold(variant: KernelVariant, set: number): string {
  const { rows, columns, lanes } = constantsOf(variant);
  let count = rows * columns;
  const out: string[] = [];
  for (const mask of masks(lanes)) {
    if (count === 1) {
      out.push(`  ${sumName(set, 0)} += other(${sumName(set, 0)}, ${mask}u, lid);`);
      continue;
    }
    count /= 2;
    for (const i of range(count)) {
      const [a, b] = [sumName(set, i), sumName(set, i + count)];
      out.push(
        `  { let upper = (lane & ${mask}u) != 0u; let kept = select(${a}, ${b}, upper); ${a} = kept + other(select(${b}, ${a}, upper), ${mask}u, lid); }`,
      );
    }
  }
  return out.join('\n');
}

/** Writes what a lane ended with. */
function store(variant: KernelVariant): string {
  const { rows, columns, lanes, gated } = constantsOf(variant);
  const values = rows * columns;
  const held = Math.max(1, values / lanes);
  // The bits of the lane that chose its half at each exchange are the high bits of its first value's number.
  const bits = Math.log2(values / held);
  const sharing = lanes >> bits;
  const normed = variant.has('norm');
  const scale = normed
    ? /* wgsl */ `
    var squares = squares0;
    ${range(rows - 1)
      .map((m) => `if (row == ${m + 1}u) { squares = squares${m + 1}; }`)
      .join(' ')}
    let scale = inverseSqrt(squares / f32(p.units * ${UNIT}u) + p.eps);`
    : '';
  const scaled = (text: string) => (normed ? `(${text} * scale)` : text);
  const value = (i: number) => {
    if (!gated) return scaled(sumName(0, i));
    return `silu(${scaled(sumName(0, i))}) * ${scaled(sumName(1, i))}`;
  };
  return /* wgsl */ `
  if (n < p.n && lane % ${sharing}u == 0u) {
${lines(
  held,
  (i) => /* wgsl */ `  {
    let index = lane / ${sharing}u * ${held}u + ${i}u;
    let row = index / ${columns}u;
    let column = n + index % ${columns}u;
    if (row < p.m) {
      ${scale}
      let at = row * p.n + column;
      y[at] = y_t(${value(i)}${variant.has('residual') ? ' + f32(residual[at])' : ''});
    }
  }`,
)}
  }`;
}
