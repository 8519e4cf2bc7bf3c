import { defineKernel, linearMain, wideWorkgroup } from '../../device/kernel.js';
import { rowVectors, vectorHelpers } from '../row/row-lanes.wgsl.js';

// Ids are data: one outside the vocabulary reads the nearest row that there is.
const CLAMP = 'fn bounded(id: i32) -> u32 { return min(u32(max(id, 0)), p.vocabulary - 1u); }\n';

/** y[i] = table[ids[i]]. */
export const forwardKernel = defineKernel({
  name: 'embedding',
  bindings: { rows: 'read', ids: 'read', y: 'write' },
  params: { count: 'u32', units: 'u32', vocabulary: 'u32' },
  vectors: rowVectors('rows', 'y'),
  workgroup: wideWorkgroup,
  source: () => CLAMP + linearMain('p.count', '  y[i] = y_t(rows[bounded(ids[i / p.units]) * p.units + i % p.units]);'),
});

/**
 * Links each token to the next one with the same id: links[2i] is that token, or the number of tokens; links[2i + 1]
 * is 1 where token i is the first of its id. Every invocation compares its token with all others.
 */
export const linkKernel = defineKernel({
  name: 'embedding_link',
  bindings: { ids: 'read', links: 'write' },
  params: { tokens: 'u32', vocabulary: 'u32' },
  source: () =>
    CLAMP +
    linearMain(
      'p.tokens',
      `
  let id = bounded(ids[i]);
  var following = p.tokens;
  var is_first = 1u;
  // All lanes read the same id at the same time, which costs a GPU one load.
  for (var j = 0u; j < p.tokens; j++) {
    if (bounded(ids[j]) == id) {
      if (j < i) { is_first = 0u; }
      if (j > i) { following = min(following, j); }
    }
  }
  links[2u * i] = following;
  links[2u * i + 1u] = is_first;`,
    ),
});

/** The same links from one pass, last token first, by a single invocation: less work than all pairs on a CPU. */
export const serialLinkKernel = defineKernel({
  name: 'embedding_link_serial',
  bindings: { ids: 'read', links: 'write', seen: 'write' },
  params: { tokens: 'u32', vocabulary: 'u32' },
  workgroup: 1,
  source: () =>
    CLAMP +
    linearMain(
      '1u',
      `
  for (var k = p.tokens; k > 0u; k--) {
    let token = k - 1u;
    let id = bounded(ids[token]);
    // \`seen\` starts as zeros, so it holds a token plus one.
    let later = seen[id];
    links[2u * token] = select(later - 1u, p.tokens, later == 0u);
    links[2u * token + 1u] = 1u;
    if (later != 0u) { links[2u * later - 1u] = 0u; }
    seen[id] = k;
  }`,
    ),
});

/** Tokens of one id that a GPU looks up before it reads their gradients: each waits for the one before it. */
const AHEAD = 8;

/**
 * Adds up the gradients of all tokens of one id, in their order, by the invocations of its first token; to what is there
 * with the constant `accumulate`.
 */
export const gradientKernel = defineKernel({
  name: 'embedding_gradient',
  bindings: { g: 'read', ids: 'read', links: 'read', d: 'write' },
  params: { count: 'u32', units: 'u32', tokens: 'u32', vocabulary: 'u32' },
  vectors: rowVectors('g', 'd'),
  workgroup: wideWorkgroup,
  source: ({ constants, software }) => {
    const ks = Array.from({ length: AHEAD }, (_, k) => k);
    const loop = software
      ? 'for (var at = token; at < p.tokens; at = following(at)) { sum += F(g[at * p.units + unit]); }'
      : `
  var at = token;
  while (at < p.tokens) {
    let t0 = at;
${ks
  .slice(1)
  .map((k) => `    let t${k} = following(t${k - 1});`)
  .join('\n')}
${ks.map((k) => `    var g${k} = F(0);\n    if (t${k} < p.tokens) { g${k} = F(g[t${k} * p.units + unit]); }`).join('\n')}
${ks.map((k) => `    sum += g${k};`).join('\n')}
    at = following(t${AHEAD - 1});
  }`;
    return (
      vectorHelpers(constants['width']) +
      CLAMP +
      `
fn following(token: u32) -> u32 {
  if (token >= p.tokens) { return token; }
  return links[2u * token];
}
` +
      linearMain(
        'p.count',
        `
  let token = i / p.units;
  if (links[2u * token + 1u] == 0u) { return; }
  let unit = i % p.units;
  let place = bounded(ids[token]) * p.units + unit;
  var sum = ${constants['accumulate'] ? 'F(d[place])' : 'F(0)'};
  ${loop}
  d[place] = d_t(sum);`,
      )
    );
  },
});
