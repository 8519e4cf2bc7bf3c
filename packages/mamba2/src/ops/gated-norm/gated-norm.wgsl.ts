import { defineKernel, type KernelVariant, linearMain } from '@zebra/tensor';

/** Lanes that share a group on hardware. */
const LANES = 16;

export const GATED_NORM_PARAMS = {
  count: 'u32',
  size: 'u32',
  groups: 'u32',
  z_offset: 'u32',
  z_stride: 'u32',
  dz_offset: 'u32',
  dz_stride: 'u32',
  epsilon: 'f32',
} as const;

/** WGSL of the logistic function. */
export const SIGMOID = /* wgsl */ `
fn sigmoid(v: f32) -> f32 {
  let t = exp(-abs(v));
  return select(t, 1.0, v >= 0.0) / (1.0 + t);
}`;

/**
 * One group (a head of a token) to an invocation on CPU adapters, to sixteen lanes on hardware. `body` sees `i` (the
 * group), `lane`, `STEP` and the places of the group's first elements.
 */
function groupMain(variant: KernelVariant, sums: number, body: string): string {
  const where = /* wgsl */ `
  let head = i % p.groups;
  let token = i / p.groups;
  let at = i * p.size;
  let z_at = p.z_offset + token * p.z_stride + head * p.size;
  let dz_at = p.dz_offset + token * p.dz_stride + head * p.size;
  let w_at = head * p.size;`;
  if (variant.software) {
    return `const STEP = 1u;${SIGMOID}${linearMain('p.count', `  let lane = 0u;\n  let end = p.size;${where}${body}`)}`;
  }
  const per = variant.workgroup / LANES;
  return /* wgsl */ `const STEP = ${LANES}u;${SIGMOID}
var<workgroup> partial: array<f32, ${sums * variant.workgroup}>;
fn share(index: u32, lid: u32, value: f32) { partial[index * WORKGROUP + lid] = value; }
fn total(index: u32, lid: u32) -> f32 {
  var sum = 0.0;
  for (var k = 0u; k < ${LANES}u; k++) { sum += partial[index * WORKGROUP + (lid / ${LANES}u) * ${LANES}u + k]; }
  return sum;
}
@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let group = (wid.x + wid.y * nwg.x) * ${per}u + lid / ${LANES}u;
  // Lanes past the end go along to the barrier and write nothing.
  let i = min(group, p.count - 1u);
  let end = select(0u, p.size, group < p.count);
  let lane = lid % ${LANES}u;${where}${body}
}`;
}

/** Puts the barrier between the sharing and the summing of all totals. */
function withTotals(variant: KernelVariant, values: readonly string[], names: readonly string[]): string {
  if (variant.software) return values.map((value, k) => `  let ${names[k]} = ${value};`).join('\n');
  const share = values.map((value, k) => `  share(${k}u, lid, ${value});`).join('\n');
  const read = names.map((name, k) => `  let ${name} = total(${k}u, lid);`).join('\n');
  return `${share}\n  workgroupBarrier();\n${read}`;
}

const workgroup = ({ software }: Omit<KernelVariant, 'workgroup'>) => (software ? 16 : 128);

/** Groups of one workgroup. */
export const groupsPerWorkgroup = (software: boolean) => (software ? 16 : 128 / LANES);

/** v = y·silu(z), out = v / √(mean v² + ε)·weight over each group. */
export const gatedNormKernel = defineKernel({
  name: 'mamba2_gated_norm',
  bindings: { y: 'read', z: 'read', weight: 'read', out: 'write' },
  params: GATED_NORM_PARAMS,
  workgroup,
  source: (variant) =>
    groupMain(
      variant,
      1,
      /* wgsl */ `
  var squares = 0.0;
  for (var k = lane; k < end; k += STEP) {
    let gate = f32(z[z_at + k]);
    let v = f32(y[at + k]) * gate * sigmoid(gate);
    squares += v * v;
  }
${withTotals(variant, ['squares'], ['sum'])}
  let r = inverseSqrt(sum / f32(p.size) + p.epsilon);
  for (var k = lane; k < end; k += STEP) {
    let gate = f32(z[z_at + k]);
    out[at + k] = out_t(f32(y[at + k]) * gate * sigmoid(gate) * r * f32(weight[w_at + k]));
  }`,
    ),
});

/** Gradients of y and z, and each group's 1/√(mean v² + ε) for the gradient of the weight. */
export const gatedNormGradientKernel = defineKernel({
  name: 'mamba2_gated_norm_gradient',
  bindings: { y: 'read', z: 'read', weight: 'read', g: 'read', dy: 'write', dz: 'write', scales: 'write' },
  params: GATED_NORM_PARAMS,
  workgroup,
  source: (variant) =>
    groupMain(
      variant,
      2,
      /* wgsl */ `
  var squares = 0.0;
  var products = 0.0;
  for (var k = lane; k < end; k += STEP) {
    let gate = f32(z[z_at + k]);
    let v = f32(y[at + k]) * gate * sigmoid(gate);
    squares += v * v;
    products += v * f32(g[at + k]) * f32(weight[w_at + k]);
  }
${withTotals(variant, ['squares', 'products'], ['sum', 'inner'])}
  let r = inverseSqrt(sum / f32(p.size) + p.epsilon);
  let pull = r * r * inner / f32(p.size);
  for (var k = lane; k < end; k += STEP) {
    let gate = f32(z[z_at + k]);
    let value = f32(y[at + k]);
    let s = sigmoid(gate);
    let dv = r * (f32(g[at + k]) * f32(weight[w_at + k]) - value * gate * s * pull);
    dy[at + k] = dy_t(dv * gate * s);
    dz[dz_at + k] = dz_t(dv * value * s * (1.0 + gate * (1.0 - s)));
  }
  if (lane == 0u && end > 0u) { scales[i] = r; }`,
    ),
});

/** Tokens that one invocation of the weight's gradient sums. */
export const ROW_BLOCK = 32;

/** Share of a block of tokens in the gradient of the weight, [blocks, d_inner]. */
export const gatedNormWeightKernel = defineKernel({
  name: 'mamba2_gated_norm_weight',
  bindings: { y: 'read', z: 'read', g: 'read', scales: 'read', shares: 'write' },
  params: { ...GATED_NORM_PARAMS, tokens: 'u32' },
  source: () =>
    `${SIGMOID}${linearMain(
      'p.count',
      /* wgsl */ `
  let width = p.size * p.groups;
  let c = i % width;
  let first = (i / width) * ${ROW_BLOCK}u;
  var sum = 0.0;
  for (var token = first; token < min(first + ${ROW_BLOCK}u, p.tokens); token++) {
    let gate = f32(z[p.z_offset + token * p.z_stride + c]);
    sum += f32(g[token * width + c]) * f32(y[token * width + c]) * gate * sigmoid(gate) * scales[token * p.groups + c / p.size];
  }
  shares[i] = sum;`,
    )}`,
});
