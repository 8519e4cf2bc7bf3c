import type { DType } from '../../core/dtype.js';
import { blockMain, defineKernel, linearMain, wideWorkgroup } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

/** Elements in one word of 32 bits. */
export function elementsOfWord(dtype: DType): number {
  return dtype === 'float16' || dtype === 'bfloat16' ? 2 : 1;
}

/** Elements that the vector variant loads, converts and stores at once: 8 or 16 bytes. */
export const CAST_LANES = 4;

/** Such quads that an invocation of the vector variant takes, a workgroup's width apart. */
export const CAST_QUADS = 2;

const isHalf = (dtype: DType): boolean => elementsOfWord(dtype) === 2;

/**
 * Casts words to words. Both tensors are bound as `u32` and converted in 32 bits: so float16 needs no `shader-f16` and
 * bfloat16 no type of its own, rounding is to nearest even everywhere, and NaN, infinities and subnormal numbers survive
 * drivers that flush them. An invocation writes whole words, so that no two share one.
 *
 * `vector`: quads of elements, neighbouring invocations on neighbouring quads, so that loads and stores are of 16 bytes
 * (8 on the narrow side) and contiguous; two quads an invocation and large workgroups, since at memory bandwidth a GPU
 * could not start workgroups of less fast enough. The conversions have no branches: at 3 TB/s there is time for about
 * thirty integer operations an element.
 */
export const castKernel = defineKernel({
  name: 'cast',
  bindings: { x: 'read', y: 'write' },
  params: { count: 'u32', words: 'u32' },
  vectors: ({ constants }) => {
    if (constants['vector'] !== true) return {} as Record<string, never>;
    const width = (dtype: unknown) => (isHalf(dtype as DType) ? 2 : 4);
    return { x: width(constants['from']), y: width(constants['to']) };
  },
  workgroup: ({ constants }) => (constants['vector'] === true ? 256 : 64),
  source: ({ constants }) => {
    const from = constants['from'] as DType;
    const to = constants['to'] as DType;
    if (constants['vector'] === true) return vectorSource(from, to);
    const element = (e: string) => `convert(load_element(${e}))`;
    const word = isHalf(to)
      ? // The word past an odd last element is zero.
        `${element('2u * i')} | (select(0u, ${element('min(2u * i + 1u, p.count - 1u)')}, 2u * i + 1u < p.count) << 16u)`
      : element('i');
    return `${loadFunction(from)}\n${convertFunction(from, to, 'u32')}\n${linearMain('p.words', `  y[i] = ${word};`)}`;
  },
});

/**
 * Casts between float32 and float16 on GPUs that compute in both, by the conversions of the hardware: the integer
 * arithmetic of {@link castKernel} would bound a GPU, not its memory. GPUs round to nearest even and keep infinities,
 * subnormal numbers and that a NaN is one.
 */
export const nativeCastKernel = defineKernel({
  name: 'cast_native',
  bindings: { x: 'read', y: 'write' },
  params: { count: 'u32' },
  vectors: rowVectors('x', 'y'),
  itemwise: () => ['x', 'y'],
  workgroup: wideWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    blockMain(variant, 'p.count', (at) =>
      [...at.map((i, k) => `  let x${k} = x[${i}];`), ...at.map((i, k) => `  y[${i}] = y_t(x${k});`)].join('\n'),
    ),
});

/** `p.count` counts quads. */
function vectorSource(from: DType, to: DType): string {
  const load = isHalf(from)
    ? 'let w = x[i]; return vec4<u32>(w.x & 0xffffu, w.x >> 16u, w.y & 0xffffu, w.y >> 16u);'
    : 'return x[i];';
  const pack = isHalf(to) ? 'vec2<u32>(v.x | (v.y << 16u), v.z | (v.w << 16u))' : 'v';
  return /* wgsl */ `
${convertFunction(from, to, 'vec4<u32>')}
fn load_quad(i: u32) -> vec4<u32> { ${load} }
fn store_quad(i: u32, v: vec4<u32>) { y[i] = ${pack}; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
  let first = (wid.x + wid.y * nwg.x) * (${CAST_QUADS}u * WORKGROUP) + lid;
  if (first >= p.count) { return; }
  let second = first + WORKGROUP;
  let one = load_quad(first);
  let other = load_quad(min(second, p.count - 1u));
  store_quad(first, convert(one));
  if (second < p.count) { store_quad(second, convert(other)); }
}`;
}

/** WGSL function that gives the bits of an element, those of a half in the lower 16. */
function loadFunction(from: DType): string {
  const bits = isHalf(from) ? '(x[e / 2u] >> (16u * (e % 2u))) & 0xffffu' : 'x[e]';
  return `fn load_element(e: u32) -> u32 { return ${bits}; }`;
}

/** The types of the conversions: one element at a time, or four. */
type Width = 'u32' | 'vec4<u32>';

/** WGSL function `convert` from the bits of one dtype to those of another. */
function convertFunction(from: DType, to: DType, type: Width): string {
  const float = type.replace('u32', 'f32');
  const signed = type.replace('u32', 'i32');
  const fromInteger = from === 'int32' || from === 'uint32';
  const toInteger = to === 'int32' || to === 'uint32';
  if (fromInteger && toInteger) return `fn convert(given: ${type}) -> ${type} { return given; }`;
  const number = from === 'int32' ? `${float}(bitcast<${signed}>(given))` : `${float}(given)`;
  const single = fromInteger ? `bitcast<${type}>(${number})` : isHalf(from) ? `${from}_to_float32(given)` : 'given';
  // WGSL's own conversion to integers cuts towards zero and clamps.
  const whole = (integer: string) => `bitcast<${type}>(${integer}(bitcast<${float}>(${single})))`;
  const result = toInteger
    ? whole(to === 'int32' ? signed : type)
    : to === 'float32'
      ? single
      : `float32_to_${to}(${single})`;
  return `${conversions(type)}\nfn convert(given: ${type}) -> ${type} { return ${result}; }`;
}

/** WGSL functions between the bits of float32 and those of the two 16-bit formats, without branches. */
export function conversions(type: Width): string {
  const float = type.replace('u32', 'f32');
  const u = (value: string) => (type === 'u32' ? `${value}u` : `${type}(${value}u)`);
  return /* wgsl */ `
fn bfloat16_to_float32(h: ${type}) -> ${type} { return h << ${u('16')}; }

fn float16_to_float32(h: ${type}) -> ${type} {
  let sign = (h & ${u('0x8000')}) << ${u('16')};
  let magnitude = h & ${u('0x7fff')};
  let moved = magnitude << ${u('13')};
  // Subnormal in float16, normal in float32: the fraction counts units of 2^-24.
  let small = bitcast<${type}>(${float}(magnitude) * ${float}(5.9604644775390625e-8));
  let large = select(moved + ${u('0x38000000')}, moved | ${u('0x7f800000')}, magnitude >= ${u('0x7c00')});
  return sign | select(large, small, magnitude < ${u('0x400')});
}

fn float32_to_float16(f: ${type}) -> ${type} {
  let sign = (f >> ${u('16')}) & ${u('0x8000')};
  let magnitude = f & ${u('0x7fffffff')};
  // Normal in float16: move the exponent, add half a unit (less one for even), cut; the carry may reach infinity.
  let normal = (magnitude - ${u('0x38000000')} + ${u('0xfff')} + ((magnitude >> ${u('13')}) & ${u('1')})) >> ${u('13')};
  // Subnormal: the last place of 0.5 is 2^-24, the unit of the fraction, so that the addition rounds to it.
  let small = bitcast<${type}>(bitcast<${float}>(magnitude) + ${float}(0.5)) - ${u('0x3f000000')};
  // A NaN whose upper payload is empty must not turn into infinity: it is made a quiet one.
  let payload = ${u('0x200')} | ((magnitude >> ${u('13')}) & ${u('0x3ff')});
  let special = ${u('0x7c00')} | select(${u('0')}, payload, magnitude > ${u('0x7f800000')});
  let finite = select(normal, small, magnitude < ${u('0x38800000')});
  return sign | select(finite, special, magnitude >= ${u('0x47800000')});
}

fn float32_to_bfloat16(f: ${type}) -> ${type} {
  let rounded = (f + ${u('0x7fff')} + ((f >> ${u('16')}) & ${u('1')})) >> ${u('16')};
  let quiet = (f >> ${u('16')}) | ${u('0x40')};
  return select(rounded, quiet, (f & ${u('0x7fffffff')}) > ${u('0x7f800000')});
}`;
}
