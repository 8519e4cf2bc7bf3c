import type { DType } from '../core/dtype.js';
import { defineKernel, linearMain } from '../device/kernel.js';
import { conversions, elementsOfWord } from '../ops/cast/cast.wgsl.js';

/** Element types that cross between files and the device. */
export type FloatType = Extract<DType, 'float32' | 'float16' | 'bfloat16'>;

/**
 * Converts `count` elements of `x`, from element `first` on, to those of `y`, and notes in `found` what went by: word
 * 2·item becomes 1 for an infinity or a NaN, word 2·item + 1 for a finite number that the new type turned into an
 * infinity. Many invocations may write such a 1, all the same one.
 */
export const convertKernel = defineKernel({
  name: 'convert',
  bindings: { x: 'read', y: 'write', found: 'write' },
  params: { first: 'u32', count: 'u32', words: 'u32', item: 'u32' },
  source({ constants }) {
    const from = constants['from'] as FloatType;
    const to = constants['to'] as FloatType;
    const word =
      elementsOfWord(to) === 1
        ? 'convert(i)'
        : // The word past an odd last element is zero.
          'convert(2u * i) | (select(0u, convert(min(2u * i + 1u, p.count - 1u)), 2u * i + 1u < p.count) << 16u)';
    return `${conversions('u32')}\n${load(from)}\n${convert(to)}\n${linearMain('p.words', `  y[i] = ${word};`)}`;
  },
});

/** The bits of element `e` as float32. */
function load(from: FloatType): string {
  if (from === 'float32') return 'fn load(e: u32) -> u32 { return x[e]; }';
  const half = '(x[e / 2u] >> (16u * (e % 2u))) & 0xffffu';
  const bits = from === 'bfloat16' ? `(${half}) << 16u` : `float16_to_float32(${half})`;
  return `fn load(e: u32) -> u32 { return ${bits}; }`;
}

function convert(to: FloatType): string {
  const infinity = { float32: '0x7f800000u', float16: '0x7c00u', bfloat16: '0x7f80u' }[to];
  const narrow = to === 'float32' ? 'given' : `float32_to_${to}(given)`;
  return /* wgsl */ `
fn convert(e: u32) -> u32 {
  let given = load(p.first + e);
  let result = ${narrow};
  if ((given & 0x7f800000u) == 0x7f800000u) { found[2u * p.item] = 1u; }
  else if ((result & ${infinity}) == ${infinity}) { found[2u * p.item + 1u] = 1u; }
  return result;
}`;
}
