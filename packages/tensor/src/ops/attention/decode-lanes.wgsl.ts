import { defineKernel, type KernelVariant, rowMain } from '../../device/kernel.js';
import { DECODE_BINDINGS, DECODE_PARAMS, PART_KEYS } from './decode.wgsl.js';
import { directMaskFunctions } from './mask.wgsl.js';
import { HEADER } from './rows.wgsl.js';

/** Elements of a row that a lane holds: 16 bytes of float16. */
export const LANE_ELEMENTS = 8;

/** Invocations of a workgroup. */
const WORKGROUP = 128;

/** Compile-time constants of {@link decodeLanes}. */
export interface DecodeLanesConstants {
  /** Elements of a query, key and value row; a power of two. */
  readonly size: number;
  /** Query heads of one key head that share what is read. */
  readonly tileHeads: number;
  /** Keys that a group of lanes asks for before it uses the first. */
  readonly ahead: number;
}

const constantsOf = (variant: Pick<KernelVariant, 'constants'>) => variant.constants as unknown as DecodeLanesConstants;
const range = (n: number) => Array.from({ length: n }, (_, i) => i);

/**
 * Decoding at memory bandwidth, for GPUs whose subgroups hold a row: 8 elements a lane, so that a subgroup reads whole
 * rows of neighbouring keys. Each group of lanes keeps a softmax of its own over every n-th key of a part, a few keys
 * at a time; they meet once, at the end. float16 comes as `vec4<u32>`.
 */
export const decodeLanes = defineKernel({
  name: 'attention_decode_lanes',
  bindings: DECODE_BINDINGS,
  params: DECODE_PARAMS,
  workgroup: WORKGROUP,
  vectors: () => ({ q: 4, k: 4, v: 4, partial: 4, totals: 2 }),
  source: (variant) => {
    const { size, tileHeads, ahead } = constantsOf(variant);
    const lanes = size / LANE_ELEMENTS;
    const groups = WORKGROUP / lanes;
    const heads = range(tileHeads);
    const keys = range(ahead);
    const masks = range(Math.log2(lanes)).map((bit) => lanes >> (bit + 1));
    const part = (name: string) => [`${name}_low`, `${name}_high`] as const;
    /** Loads 8 elements of `row` as two float32 vectors, or as packed halves that are unpacked where they are used. */
    const load = (binding: string, row: string, name: string) =>
      variant.dtype(binding) === 'uint32'
        ? `let ${name} = ${binding}[(${row}) * ${lanes}u + lane];`
        : `let ${name}_a = ${binding}[((${row}) * ${lanes}u + lane) * 2u]; let ${name}_b = ${binding}[((${row}) * ${lanes}u + lane) * 2u + 1u];`;
    const unpack = (binding: string, name: string, to: string) => {
      const [low, high] =
        variant.dtype(binding) === 'uint32' ? [`low(${name})`, `high(${name})`] : [`${name}_a`, `${name}_b`];
      return `let ${part(to)[0]} = ${low}; let ${part(to)[1]} = ${high};`;
    };
    return /* wgsl */ `${HEADER}${directMaskFunctions(variant)}
fn low(v: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)); }
fn high(v: vec4<u32>) -> vec4<f32> { return vec4<f32>(unpack2x16float(v.z), unpack2x16float(v.w)); }
var<workgroup> tops: array<f32, ${groups}>;
var<workgroup> counts: array<f32, ${groups}>;
var<workgroup> sums: array<vec4<f32>, ${WORKGROUP * 2}>;
${rowMain(
  'p.count',
  /* wgsl */ `
  let part = row % p.parts;
  let head = row / p.parts % (p.heads / ${tileHeads}u) * ${tileHeads}u;
  let token = row / (p.parts * (p.heads / ${tileHeads}u));
  let t = token % p.tq;
  let b = token / p.tq;
  let key_head = head / p.group;
  let lane = lid % ${lanes}u;
  let group = lid / ${lanes}u;
  ${PART_KEYS}
  ${heads
    .map(
      (h) => `${load('q', `token * p.heads + head + ${h}u`, `raw${h}`)} ${unpack('q', `raw${h}`, `own${h}`)}
  let q${h}_low = own${h}_low * (p.scale * LOG2E); let q${h}_high = own${h}_high * (p.scale * LOG2E);
  var o${h}_low = vec4<f32>(); var o${h}_high = vec4<f32>(); var most${h} = LOWEST; var total${h} = 0.0;`,
    )
    .join('\n  ')}
  // The same number of turns for every lane, as exchanges between lanes want it.
  for (var first = start; first < end; first += ${groups * ahead}u) {
    ${keys
      .map(
        (n) => `let j${n} = first + group + ${n * groups}u;
    let row${n} = (b * p.tk + min(j${n}, end - 1u)) * p.key_heads + key_head;
    ${load('k', `row${n}`, `k${n}`)}
    ${load('v', `row${n}`, `v${n}`)}`,
      )
      .join('\n    ')}
    ${keys
      .map(
        (n) => `${unpack('k', `k${n}`, `key${n}`)}
    let seen${n} = j${n} < end && attends(segment, own, key_segment(b, min(j${n}, end - 1u)), j${n});
    ${heads.map((h) => `var s${h}_${n} = dot(q${h}_low, key${n}_low) + dot(q${h}_high, key${n}_high);`).join(' ')}`,
      )
      .join('\n    ')}
    ${keys
      .flatMap((n) =>
        heads.map(
          (h) =>
            masks.map((mask) => `s${h}_${n} += subgroupShuffleXor(s${h}_${n}, ${mask}u);`).join(' ') +
            ` s${h}_${n} = select(MASKED, s${h}_${n}, seen${n});`,
        ),
      )
      .join('\n    ')}
    ${heads
      .map(
        (h) => `{
      let top = max(most${h}, ${keys.map((n) => `s${h}_${n}`).reduce((x, y) => `max(${x}, ${y})`)});
      let shrink = exp2(most${h} - top);
      most${h} = top; total${h} *= shrink; o${h}_low *= shrink; o${h}_high *= shrink;
      ${keys.map((n) => `s${h}_${n} = exp2(s${h}_${n} - top); total${h} += s${h}_${n};`).join(' ')}
    }`,
      )
      .join('\n    ')}
    ${keys
      .map(
        (n) => `${unpack('v', `v${n}`, `value${n}`)}
    // What is masked may be anything, not a number included.
    let value${n}_seen_low = select(vec4<f32>(), value${n}_low, seen${n}); let value${n}_seen_high = select(vec4<f32>(), value${n}_high, seen${n});
    ${heads.map((h) => `o${h}_low += s${h}_${n} * value${n}_seen_low; o${h}_high += s${h}_${n} * value${n}_seen_high;`).join(' ')}`,
      )
      .join('\n    ')}
  }
  ${heads
    .map(
      (h) => `{
    if (lane == 0u) { tops[group] = most${h}; }
    workgroupBarrier();
    var top = tops[0];
    for (var n = 1u; n < ${groups}u; n++) { top = max(top, tops[n]); }
    let shrink = exp2(most${h} - top);
    sums[lid * 2u] = o${h}_low * shrink;
    sums[lid * 2u + 1u] = o${h}_high * shrink;
    if (lane == 0u) { counts[group] = total${h} * shrink; }
    workgroupBarrier();
    let at = (token * p.heads + head + ${h}u) * p.parts + part;
    if (lid < ${size / 4}u) {
      var sum = sums[lid];
      for (var n = 1u; n < ${groups}u; n++) { sum += sums[lid + n * ${size / 4}u]; }
      partial[at * ${size / 4}u + lid] = sum;
    }
    if (lid == 0u) {
      var total = counts[0];
      for (var n = 1u; n < ${groups}u; n++) { total += counts[n]; }
      totals[at] = vec2<f32>(top, total);
    }
    workgroupBarrier();
  }`,
    )
    .join('\n  ')}`,
)}`;
  },
});
