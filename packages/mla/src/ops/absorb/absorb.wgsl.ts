import { defineKernel, type KernelVariant, linearMain } from '@zebra/tensor';
import { vectorsOf } from '../vectors.js';

const params = {
  count: 'u32',
  rows: 'u32',
  heads: 'u32',
  group: 'u32',
  up: 'u32',
  nope: 'u32',
  latent: 'u32',
  query: 'u32',
  units: 'u32',
} as const;

/** WGSL for each of the tokens that an invocation owns; `$` stands for the token's number. */
function each(variant: KernelVariant, text: string): string {
  return Array.from({ length: Number(variant.constants['tokens']) }, (_, t) => text.replaceAll('$', String(t))).join(
    '\n',
  );
}

const F = (variant: KernelVariant): string => (variant.constants['width'] === 4 ? 'vec4<f32>' : 'f32');

/** `units` results a head; the tokens `first` … of an invocation share what it loads of the weight. */
const PLACE = `
  let c = i % p.units;
  let head = i / p.units % p.heads;
  let first = i / (p.units * p.heads) * TOKENS;`;

const header = (variant: KernelVariant): string => `const TOKENS: u32 = ${Number(variant.constants['tokens'])}u;\n`;

/** y = [Σ_i q[i] · W_UK[i, ·] | rotary part of q], for each head. */
export const absorbQueriesKernel = defineKernel({
  name: 'mla_absorb_queries',
  bindings: { q: 'read', weight: 'read', y: 'write' },
  params,
  vectors: vectorsOf('weight', 'y'),
  source: (variant) => {
    const vector = variant.constants['width'] === 4;
    const rotary = (at: string) =>
      vector
        ? `y_t(vec4<f32>(f32(q[${at}]), f32(q[${at} + 1u]), f32(q[${at} + 2u]), f32(q[${at} + 3u])))`
        : `y_t(q[${at}])`;
    return (
      header(variant) +
      linearMain(
        'p.count',
        `${PLACE}
${each(variant, `  let q$ = (min(first + $u, p.rows - 1u) * p.heads + head) * p.query;\n  var sum$ = ${F(variant)}(0);`)}
  if (c >= p.latent) {
    let rotary = p.nope + (c - p.latent) * ${vector ? 4 : 1}u;
${each(variant, `    if (first + $u < p.rows) { y[((first + $u) * p.heads + head) * p.units + c] = ${rotary('q$ + rotary')}; }`)}
    return;
  }
  var w = head / p.group * p.up * p.latent + c;
  for (var j = 0u; j < p.nope; j++) {
    let u = ${F(variant)}(weight[w]);
${each(variant, '    sum$ += f32(q[q$ + j]) * u;')}
    w += p.latent;
  }
${each(variant, '  if (first + $u < p.rows) { y[((first + $u) * p.heads + head) * p.units + c] = y_t(sum$); }')}`,
      )
    );
  },
});

/** y[j] = W_UV[j, ·] · x, for each head: the context in latent space becomes a head's value. */
export const expandValuesKernel = defineKernel({
  name: 'mla_expand_values',
  bindings: { x: 'read', weight: 'read', y: 'write' },
  params,
  vectors: vectorsOf('x', 'weight'),
  source: (variant) =>
    header(variant) +
    linearMain(
      'p.count',
      `${PLACE}
  let w = (head / p.group * p.up + p.nope + c) * p.latent;
${each(variant, `  let x$ = (min(first + $u, p.rows - 1u) * p.heads + head) * p.latent;\n  var sum$ = ${F(variant)}(0);`)}
  for (var j = 0u; j < p.latent; j++) {
    let u = ${F(variant)}(weight[w + j]);
${each(variant, `    sum$ += ${F(variant)}(x[x$ + j]) * u;`)}
  }
${each(
  variant,
  `  if (first + $u < p.rows) { y[((first + $u) * p.heads + head) * p.units + c] = y_t(${
    variant.constants['width'] === 4 ? '(sum$.x + sum$.y) + (sum$.z + sum$.w)' : 'sum$'
  }); }`,
)}`,
    ),
});
