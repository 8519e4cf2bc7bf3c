import type { DType } from '../../core/dtype.js';
import { blockMain, defineKernel, linearMain, wideWorkgroup } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

/** Elements in one word of 32 bits. */
export function elementsOfWord(dtype: DType): number {
  return dtype === 'float16' || dtype === 'bfloat16' ? 2 : 1;
}

/**
 * Casts words to words. Both tensors are bound as `u32` and converted by integer arithmetic: so float16 needs no
 * `shader-f16` and bfloat16 no type of its own, rounding is to nearest even everywhere, and NaN, infinities and
 * subnormal numbers survive drivers that flush them. An invocation writes one whole word, so that no two share one.
 */
export const castKernel = defineKernel({
  name: 'cast',
  bindings: { x: 'read', y: 'write' },
  params: { count: 'u32', words: 'u32' },
  source: ({ constants }) => {
    const from = constants['from'] as DType;
    const to = constants['to'] as DType;
    const element = (e: string) => `pack_element(load_element(${e}))`;
    const word =
      elementsOfWord(to) === 1
        ? element('i')
        : // The word past an odd last element is zero.
          `${element('2u * i')} | (select(0u, ${element('min(2u * i + 1u, p.count - 1u)')}, 2u * i + 1u < p.count) << 16u)`;
    return `${HALVES}\n${loadFunction(from)}\n${packFunction(from, to)}\n${linearMain('p.words', `  y[i] = ${word};`)}`;
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
  workgroup: wideWorkgroup,
  source: (variant) =>
    vectorHelpers(variant.constants['width']) +
    blockMain(variant, 'p.count', (at) =>
      [...at.map((i, k) => `  let x${k} = x[${i}];`), ...at.map((i, k) => `  y[${i}] = y_t(x${k});`)].join('\n'),
    ),
});

/** WGSL function that gives the bits of a float32 for float dtypes, the value itself for integers. */
function loadFunction(from: DType): string {
  if (elementsOfWord(from) === 1) return 'fn load_element(e: u32) -> u32 { return x[e]; }';
  const half = '(x[e / 2u] >> (16u * (e % 2u))) & 0xffffu';
  const bits = from === 'bfloat16' ? `(${half}) << 16u` : `float16_to_float32(${half})`;
  return `fn load_element(e: u32) -> u32 { return ${bits}; }`;
}

function packFunction(from: DType, to: DType): string {
  const fromInteger = from === 'int32' || from === 'uint32';
  const toInteger = to === 'int32' || to === 'uint32';
  const head = 'fn pack_element(given: u32) -> u32 {';
  if (toInteger) {
    if (fromInteger) return `${head} return given; }`;
    // WGSL's own conversion cuts towards zero and clamps.
    return `${head} return bitcast<u32>(${to === 'int32' ? 'i32' : 'u32'}(bitcast<f32>(given))); }`;
  }
  const number = from === 'int32' ? 'f32(bitcast<i32>(given))' : 'f32(given)';
  const bits = fromInteger ? `bitcast<u32>(${number})` : 'given';
  if (to === 'float32') return `${head} return ${bits}; }`;
  return `${head} return float32_to_${to}(${bits}); }`;
}

/** Conversions between the bits of float32 and those of the two 16-bit formats. */
export const HALVES = /* wgsl */ `
fn float16_to_float32(h: u32) -> u32 {
  let sign = (h & 0x8000u) << 16u;
  let magnitude = h & 0x7fffu;
  if (magnitude >= 0x7c00u) { return sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13u); }
  if (magnitude >= 0x400u) { return sign | ((magnitude << 13u) + 0x38000000u); }
  // Subnormal in float16, normal in float32: the fraction counts units of 2^-24.
  return sign | bitcast<u32>(f32(magnitude) * 5.9604644775390625e-8);
}

fn float32_to_float16(f: u32) -> u32 {
  let sign = (f >> 16u) & 0x8000u;
  let magnitude = f & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    // A NaN whose upper payload is empty must not turn into infinity.
    let payload = (magnitude >> 13u) & 0x3ffu;
    return sign | 0x7c00u | select(payload, 0x200u, payload == 0u);
  }
  if (magnitude >= 0x47800000u) { return sign | 0x7c00u; }
  if (magnitude >= 0x38800000u) {
    // Normal in float16: move the exponent, add half a unit (less one for even), cut; the carry may reach infinity.
    let moved = magnitude - 0x38000000u;
    return sign | ((moved + 0xfffu + ((moved >> 13u) & 1u)) >> 13u);
  }
  if (magnitude < 0x33000000u) { return sign; }
  let shift = 126u - (magnitude >> 23u);
  let fraction = (magnitude & 0x7fffffu) | 0x800000u;
  return sign | ((fraction + (1u << (shift - 1u)) - 1u + ((fraction >> shift) & 1u)) >> shift);
}

fn float32_to_bfloat16(f: u32) -> u32 {
  let upper = f >> 16u;
  if ((f & 0x7fffffffu) > 0x7f800000u) { return upper | select(0u, 0x40u, (upper & 0x7fu) == 0u); }
  return (f + 0x7fffu + (upper & 1u)) >> 16u;
}`;
