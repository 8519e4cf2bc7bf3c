import type { KernelVariant } from './kernel.js';

/** Sizes of the matrices that a kernel multiplies on the matrix units: [m, k] · [k, n], for one subgroup. */
export interface MatrixUnitSizes {
  readonly matrixM: number;
  readonly matrixN: number;
  readonly matrixK: number;
  /** Invocations of a subgroup: the kernel's workgroups are [lanes, subgroups]. */
  readonly lanes: number;
}

/** The roles of a matrix: float16 operands [m, k] and [k, n], and float32 sums [m, n]. */
export type MatrixRole = 'Left' | 'Right' | 'Result';

/** How the rows of a matrix lie in memory: one after the other, or as columns. */
export type MatrixOrder = 'row_major' | 'col_major';

/**
 * Element types of the array that matrices are loaded from and stored to. Offsets and strides count its elements; what
 * lies there is float16 for operands and float32 for results whatever the type is called.
 */
type MatrixMemory = 'f16' | 'vec4<f16>' | 'u32' | 'vec4<u32>' | 'f32' | 'vec4<f32>';

/** A module-scope array that matrices are loaded from or stored to. */
export interface MatrixArray {
  /** Its name in WGSL. */
  readonly name: string;
  readonly type: MatrixMemory;
}

/** WGSL directives of a kernel that uses the matrix units; none where they are emulated. */
export function matrixDirectives({ matrixEmulated }: Pick<KernelVariant, 'matrixEmulated'>): readonly string[] {
  if (matrixEmulated) return ['enable f16;'];
  return [
    'enable f16;',
    'enable chromium_experimental_subgroup_matrix;',
    // The index of a subgroup is local_invocation_id.y, which the analysis cannot know to be uniform in a subgroup.
    'diagnostic(off, chromium.subgroup_matrix_uniformity);',
  ];
}

/**
 * Writes WGSL for the matrix units, or, on adapters without them, plain WGSL that computes the same: every invocation
 * of a subgroup then holds whole matrices. That is slow, and it is for tests: staging, tiling, masks and barriers of a
 * kernel are the same in both. It is also stricter: subgroups do not run in step, so a missing barrier shows.
 *
 * Matrices go by name, a name stands for one matrix in the whole kernel, and names are declared where WGSL would have
 * them declared. Use one object for a kernel's source: write the body first, and put {@link MatrixUnits.declarations}
 * in front of it.
 */
export class MatrixUnits {
  readonly sizes: MatrixUnitSizes;
  readonly emulated: boolean;
  private readonly functions = new Map<string, string>();
  private readonly slots = new Map<string, number>();

  constructor(sizes: MatrixUnitSizes, variant: Pick<KernelVariant, 'matrixEmulated'>) {
    this.sizes = sizes;
    this.emulated = variant.matrixEmulated;
  }

  /** Types `Left`, `Right` and `Result`, or what stands in for them and the functions that the written body calls. */
  declarations(): string {
    const { matrixM: m, matrixN: n, matrixK: k } = this.sizes;
    if (!this.emulated) {
      return `
alias Left = subgroup_matrix_left<f16, ${k}, ${m}>;
alias Right = subgroup_matrix_right<f16, ${n}, ${k}>;
alias Result = subgroup_matrix_result<f32, ${n}, ${m}>;`;
    }
    // One array with an index that is data: matrices in variables of their own take a compiler minutes. Of vectors,
    // since a software adapter writes its zeros out one by one, and the time it takes to compile them grows faster still.
    return `
var<private> matrix_lane: u32;
var<private> matrix_one: u32;
var<private> matrix_values: array<vec4<f32>, ${(Math.max(1, this.slots.size) * this.slotSize) / 4}>;
${[...this.functions.values()].join('\n')}`;
  }

  /**
   * The first statement of `main`.
   *
   * @param lane WGSL expression of the invocation's index in its subgroup
   * @param positive WGSL expression that is never 0, which the compiler cannot know (the number of workgroups): the
   *   emulation's loops are kept from being written out with it, which takes a software adapter many seconds
   */
  begin(lane: string, positive: string): string {
    return this.emulated ? `matrix_lane = ${lane}; matrix_one = select(0u, 1u, ${positive} > 0u);` : '';
  }

  /**
   * A statement that declares the variable `name`, a `Result` of zeros. The zeros are written out: in a loop, a matrix
   * that is declared without them still holds the sums of the round before on some drivers (seen on an H100).
   */
  declare(name: string): string {
    return this.emulated ? this.clear(name) : `var ${name}: Result = Result();`;
  }

  /** A statement that sets a declared `Result` to zeros. */
  clear(name: string): string {
    if (!this.emulated) return `${name} = Result();`;
    const { matrixM: m, matrixN: n } = this.sizes;
    this.functions.set(
      'clear',
      `fn matrix_clear(at: u32) { for (var i = 0u; i < ${(m * n) / 4}u * matrix_one; i++) { matrix_values[at / 4u + i] = vec4<f32>(); } }`,
    );
    return `matrix_clear(${this.slot(name)});`;
  }

  /** A statement that loads a matrix into the new constant `name`. */
  load(name: string, role: MatrixRole, order: MatrixOrder, from: MatrixArray, offset: string, stride: string): string {
    return `${this.emulated ? '' : 'let '}${this.reload(name, role, order, from, offset, stride)}`;
  }

  /** A statement that loads a matrix into the declared variable `name`. */
  reload(
    name: string,
    role: MatrixRole,
    order: MatrixOrder,
    from: MatrixArray,
    offset: string,
    stride: string,
  ): string {
    if (!this.emulated) return `${name} = subgroupMatrixLoad<${role}, ${order}>(&${from.name}, ${offset}, ${stride});`;
    return `${this.loader(role, order, from)}(${this.slot(name)}, ${offset}, ${stride});`;
  }

  /** A statement that adds left · right to the variable `sum`. All three are names. */
  multiply(sum: string, left: string, right: string): string {
    if (!this.emulated) return `${sum} = subgroupMatrixMultiplyAccumulate(${left}, ${right}, ${sum});`;
    const { matrixM: m, matrixN: n, matrixK: k } = this.sizes;
    this.functions.set(
      'multiply',
      `fn matrix_multiply(left: u32, right: u32, sum: u32) {
  for (var r = 0u; r < ${m}u * matrix_one; r++) { for (var c = 0u; c < ${n / 4}u * matrix_one; c++) {
    var total = matrix_values[(sum + r * ${n}u) / 4u + c];
    for (var i = 0u; i < ${k / 4}u * matrix_one; i++) {
      let row = matrix_values[(left + r * ${k}u) / 4u + i];
${[0, 1, 2, 3].map((e) => `      total += row[${e}] * matrix_values[(right + (i * 4u + ${e}u) * ${n}u) / 4u + c];`).join('\n')}
    }
    matrix_values[(sum + r * ${n}u) / 4u + c] = total;
  } }
}`,
    );
    return `matrix_multiply(${this.slot(left)}, ${this.slot(right)}, ${this.slot(sum)});`;
  }

  /** A statement that stores the variable `name`, a `Result`, row by row. Barriers before and after are the kernel's. */
  store(name: string, to: MatrixArray, offset: string, stride: string): string {
    if (!this.emulated) return `subgroupMatrixStore<row_major>(&${to.name}, ${offset}, ${name}, ${stride});`;
    const { matrixM: m, matrixN: n, lanes } = this.sizes;
    const own = `matrix_store_${to.name}`;
    const wide = to.type.startsWith('vec4') ? 4 : 1;
    const value = `matrix_values[(at + r * ${n}u + c) / 4u]`;
    const floats = wide === 1 ? `${value}[c % 4u]` : value;
    const bits = to.type === 'u32' || to.type === 'vec4<u32>';
    // The invocations share the work: each holds the whole matrix.
    this.functions.set(
      own,
      `fn ${own}(at: u32, offset: u32, stride: u32) {
  for (var g = matrix_lane; g < ${(m * n) / wide}u * matrix_one; g += ${lanes}u) {
    let r = g / ${n / wide}u;
    let c = g % ${n / wide}u * ${wide}u;
    ${to.name}[offset + r * stride + c / ${wide}u] = ${bits ? `bitcast<${to.type}>(${floats})` : floats};
  }
}`,
    );
    return `${own}(${this.slot(name)}, ${offset}, ${stride});`;
  }

  /**
   * Statements for 0 … count − 1, written out. Where matrices are emulated they become a loop if they differ in numbers
   * alone that grow evenly (names given in the order of such loops do): each statement takes a compiler a while.
   */
  each(count: number, write: (i: number) => string): string {
    const statements = Array.from({ length: count }, (_, i) => write(i));
    return (this.emulated ? rolled(statements) : undefined) ?? statements.join('\n');
  }

  private loader(role: MatrixRole, order: MatrixOrder, from: MatrixArray): string {
    const { matrixM: m, matrixN: n, matrixK: k } = this.sizes;
    const [rows, columns] = role === 'Left' ? [m, k] : role === 'Right' ? [k, n] : [m, n];
    const name = `matrix_load_${role}_${order}_${from.name}`;
    const [element, elements] = role === 'Result' ? floatElement(from) : halfElement(from);
    const [line, along] = order === 'row_major' ? ['r', 'c'] : ['c', 'r'];
    this.functions.set(
      name,
      `fn ${name}(at: u32, offset: u32, stride: u32) {
  for (var r = 0u; r < ${rows}u * matrix_one; r++) { for (var v = 0u; v < ${columns / 4}u * matrix_one; v++) {
    var x: vec4<f32>;
    for (var n = 0u; n < 4u * matrix_one; n++) {
      let c = v * 4u + n;
      let e = (offset + ${line} * stride) * ${elements}u + ${along};
      x[n] = ${element};
    }
    matrix_values[(at + r * ${columns}u) / 4u + v] = x;
  } }
}`,
    );
    return name;
  }

  private get slotSize(): number {
    const { matrixM: m, matrixN: n, matrixK: k } = this.sizes;
    return Math.max(m * n, m * k, k * n);
  }

  /** Where the values of a matrix begin. */
  private slot(name: string): string {
    const known = this.slots.get(name);
    if (known === undefined) this.slots.set(name, this.slots.size);
    return `${(known ?? this.slots.size - 1) * this.slotSize}u`;
  }
}

/** One loop for statements that differ in evenly growing numbers alone; undefined for others. */
function rolled(statements: readonly string[]): string | undefined {
  if (statements.length < 2) return undefined;
  // Odd parts are numbers.
  const split = statements.map((statement) => statement.split(/\b(\d+)u\b/));
  const [first, second] = split as [string[], string[]];
  if (split.some((parts) => parts.length !== first.length)) return undefined;
  const inner = [...statements[0]!.matchAll(/var turn(\d+)/g)].map(([, depth]) => Number(depth));
  const turn = `turn${Math.max(0, ...inner) + 1}`;
  const body: string[] = [];
  for (const [k, part] of first.entries()) {
    const start = Number(part);
    const step = k % 2 === 1 ? Number(second[k]) - start : 0;
    const fits = (parts: string[], i: number) =>
      k % 2 === 1 ? Number(parts[k]) === start + i * step : parts[k] === part;
    if (step < 0 || !split.every(fits)) return undefined;
    body.push(k % 2 === 0 ? part : step === 0 ? `${part}u` : `(${part}u + ${turn} * ${step}u)`);
  }
  return `for (var ${turn} = 0u; ${turn} < ${statements.length}u * matrix_one; ${turn}++) { ${body.join('')} }`;
}

/** WGSL of float16 element `e` of an array, as float32, and how many lie in one element of the array. */
function halfElement({ name, type }: MatrixArray): readonly [string, number] {
  if (type === 'f16') return [`f32(${name}[e])`, 1];
  if (type === 'vec4<f16>') return [`f32(${name}[e / 4u][e % 4u])`, 4];
  if (type === 'u32') return [`unpack2x16float(${name}[e / 2u])[e % 2u]`, 2];
  if (type === 'vec4<u32>') return [`unpack2x16float(${name}[e / 8u][e / 2u % 4u])[e % 2u]`, 8];
  throw new TypeError(`${name}: operands of a matrix product are float16, not ${type}`);
}

/** The same for float32. */
function floatElement({ name, type }: MatrixArray): readonly [string, number] {
  if (type === 'f32') return [`${name}[e]`, 1];
  if (type === 'vec4<f32>') return [`${name}[e / 4u][e % 4u]`, 4];
  if (type === 'u32') return [`bitcast<f32>(${name}[e])`, 1];
  if (type === 'vec4<u32>') return [`bitcast<f32>(${name}[e / 4u][e % 4u])`, 4];
  throw new TypeError(`${name}: results of a matrix product are float32, not ${type}`);
}
