import { defineKernel, linearMain } from '@zebra/tensor';
import { vectorsOf } from '../vectors.js';

const vectors = vectorsOf('rows', 'latent', 'rope');
const params = { count: 'u32', row: 'u32', latent: 'u32' } as const;

/** Where unit `i` of the rows stands: `c` in its row; `l` in the latents or, past `p.latent`, `r` in the rotary parts. */
const PLACE = `
  let t = i / p.row;
  let c = i % p.row;
  let l = t * p.latent + c;
  let r = t * (p.row - p.latent) + c - p.latent;`;

/** rows → latent and rope; a row is `row` units, of which the first `latent` are the latent. */
export const splitKernel = defineKernel({
  name: 'mla_split_latent',
  bindings: { rows: 'read', latent: 'write', rope: 'write' },
  params,
  vectors,
  source: () =>
    linearMain('p.count', `${PLACE}\n  if (c < p.latent) { latent[l] = rows[i]; } else { rope[r] = rows[i]; }`),
});

/** latent and rope → rows; either may be missing and is then zero. */
export const joinKernel = defineKernel({
  name: 'mla_join_latent',
  bindings: { latent: 'read', rope: 'read', rows: 'write' },
  params,
  vectors,
  source: ({ has }) =>
    linearMain(
      'p.count',
      `${PLACE}
  if (c < p.latent) { rows[i] = rows_t(${has('latent') ? 'latent[l]' : '0.0'}); }
  else { rows[i] = rows_t(${has('rope') ? 'rope[r]' : '0.0'}); }`,
    ),
});
