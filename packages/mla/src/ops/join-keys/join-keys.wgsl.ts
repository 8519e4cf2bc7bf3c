import { defineKernel, linearMain } from '@zebra/tensor';
import { vectorsOf } from '../vectors.js';

const params = { count: 'u32', heads: 'u32', nope: 'u32', rope: 'u32', value: 'u32' } as const;

const F = (width: unknown): string => (width === 4 ? 'vec4<f32>' : 'f32');

/** Keys and values of all heads, one unit an invocation: `nope`, `rope` and `value` units make a head. */
export const joinKeysKernel = defineKernel({
  name: 'mla_join_keys',
  bindings: { kv: 'read', rope: 'read', k: 'write', v: 'write' },
  params,
  vectors: vectorsOf('kv', 'rope', 'k', 'v'),
  source: ({ constants }) =>
    linearMain(
      'p.count',
      `
  let key = p.nope + p.rope;
  let head = i / (key + p.value);
  let c = i % (key + p.value);
  let source = head * (p.nope + p.value);
  if (c < p.nope) { k[head * key + c] = k_t(kv[source + c]); }
  else if (c < key) { k[head * key + c] = k_t(${F(constants['width'])}(rope[head / p.heads * p.rope + c - p.nope])); }
  else { v[head * p.value + c - key] = v_t(kv[source + c - p.rope]); }`,
    ),
});

/** Gradient of the up-projection's output: a head's key without its rotary part, then its value. */
export const upGradientKernel = defineKernel({
  name: 'mla_join_keys_gradient_kv',
  bindings: { gk: 'read', gv: 'read', d: 'write' },
  params,
  vectors: vectorsOf('gk', 'gv', 'd'),
  source: ({ has }) =>
    linearMain(
      'p.count',
      `
  let head = i / (p.nope + p.value);
  let c = i % (p.nope + p.value);
  if (c < p.nope) { d[i] = d_t(${has('gk') ? 'gk[head * (p.nope + p.rope) + c]' : '0.0'}); }
  else { d[i] = d_t(${has('gv') ? 'gv[head * p.value + c - p.nope]' : '0.0'}); }`,
    ),
});

/** Gradient of the shared rotary key: the sum over the heads, in their order. */
export const ropeGradientKernel = defineKernel({
  name: 'mla_join_keys_gradient_rope',
  bindings: { gk: 'read', d: 'write' },
  params,
  vectors: vectorsOf('gk', 'd'),
  source: ({ constants }) =>
    linearMain(
      'p.count',
      `
  let token = i / p.rope;
  let key = p.nope + p.rope;
  var at = token * p.heads * key + p.nope + i % p.rope;
  var total = ${F(constants['width'])}(0);
  for (var head = 0u; head < p.heads; head++) {
    total += ${F(constants['width'])}(gk[at]);
    at += key;
  }
  d[i] = d_t(total);`,
    ),
});
