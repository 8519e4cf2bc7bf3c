import { defineKernel, type KernelVariant, linearMain } from '../../device/kernel.js';

/** What limits the keys of a query beyond causality: nothing, the number of valid keys, or segments (and that number). */
export type MaskKind = 'none' | 'length' | 'segments';

/** Scalars that every attention kernel takes. `scale` is the factor on the scores; the `…At` are offsets in `mask`. */
export const SIZE_PARAMS = {
  count: 'u32',
  batch: 'u32',
  tq: 'u32',
  tk: 'u32',
  heads: 'u32',
  key_heads: 'u32',
  group: 'u32',
  length_at: 'u32',
  key_segments_at: 'u32',
  first_key_at: 'u32',
  end_query_at: 'u32',
  query_run_at: 'u32',
  key_run_at: 'u32',
  /** Always 1. */
  unit: 'u32',
  scale: 'f32',
} as const;

/** Runs of one segment are followed so far: as long as any kernel's step. */
const LONGEST_RUN = 128;

/**
 * WGSL functions that the kernels ask: which keys a query may see. `mask` is one int32 buffer, so that kernels stay
 * within 8 bindings: segments of queries [B,Tq], of keys [B,Tk], the first key of each query [B,Tq], the end of the
 * queries of each key [B,Tk], the number of valid keys [1], the ends of the runs of one segment that begin at each query
 * [B,Tq] and at each key [B,Tk] (see {@link maskKernel}); or that number alone.
 */
export function maskFunctions(kind: MaskKind): string {
  // The number of valid keys is data: bounded, so that no index leaves the buffers.
  const length = kind === 'none' ? 'p.tk' : 'u32(clamp(mask[p.length_at], i32(p.tq), i32(p.tk)))';
  const base = /* wgsl */ `
/** Key index of query 0. */
fn key_base() -> u32 { return ${length} - p.tq; }
`;
  if (kind !== 'segments') {
    return /* wgsl */ `${base}
fn first_key(b: u32, t: u32) -> u32 { return 0u; }
fn end_query(b: u32, j: u32) -> u32 { return p.tq; }
fn query_segment(b: u32, t: u32) -> i32 { return 0; }
fn key_segment(b: u32, j: u32) -> i32 { return 0; }
fn attends(query_segment: i32, own: u32, key_segment: i32, j: u32) -> bool { return j <= own; }
`;
  }
  return /* wgsl */ `${base}
fn first_key(b: u32, t: u32) -> u32 { return u32(mask[p.first_key_at + b * p.tq + t]); }
fn end_query(b: u32, j: u32) -> u32 { return u32(mask[p.end_query_at + b * p.tk + j]); }
/** Where the run of one segment ends that query t, or key j, begins: at most ${LONGEST_RUN} further on. */
fn query_run(b: u32, t: u32) -> u32 { return u32(mask[p.query_run_at + b * p.tq + t]); }
fn key_run(b: u32, j: u32) -> u32 { return u32(mask[p.key_run_at + b * p.tk + j]); }
fn query_segment(b: u32, t: u32) -> i32 { return mask[b * p.tq + t]; }
fn key_segment(b: u32, j: u32) -> i32 { return mask[p.key_segments_at + b * p.tk + j]; }
/** A token always attends to itself, so that the softmax is never empty. */
fn attends(query_segment: i32, own: u32, key_segment: i32, j: u32) -> bool {
  return j == own || (j < own && key_segment == query_segment);
}
`;
}

/**
 * Gathers what masks a call in one buffer, with the range of keys of each query and of queries of each key: documents
 * of a packed row are skipped whole. Ranges are bounds only: segments need not be contiguous, kernels still compare.
 */
export const maskKernel = defineKernel({
  name: 'attention_mask',
  bindings: { segments: 'read', keys: 'read', length: 'read', y: 'write' },
  params: {
    count: 'u32',
    batch: 'u32',
    tq: 'u32',
    tk: 'u32',
    length_at: 'u32',
    key_segments_at: 'u32',
    first_key_at: 'u32',
    end_query_at: 'u32',
    query_run_at: 'u32',
    key_run_at: 'u32',
  },
  source: ({ has }) => {
    const keys = has('keys') ? 'keys' : 'segments';
    return linearMain(
      'p.count',
      /* wgsl */ `
  let length = ${has('length') ? 'u32(clamp(length[0], i32(p.tq), i32(p.tk)))' : 'p.tk'};
  let base = length - p.tq;
  if (i == 0u) { y[p.length_at] = i32(length); }
  if (i < p.batch * p.tq) {
    let b = i / p.tq;
    let own = base + i % p.tq;
    let mine = segments[i];
    var j = 0u;
    while (j < own && ${keys}[b * p.tk + j] != mine) { j++; }
    y[i] = mine;
    y[p.first_key_at + i] = i32(j);
    let t = i % p.tq;
    var run = t + 1u;
    while (run < min(t + ${LONGEST_RUN}u, p.tq) && segments[b * p.tq + run] == mine) { run++; }
    y[p.query_run_at + i] = i32(run);
    return;
  }
  let at = i - p.batch * p.tq;
  let b = at / p.tk;
  let j = at % p.tk;
  let mine = ${keys}[at];
  // Queries before the key's own token never see it; its own token always does.
  let first = select(0u, j - base, j > base);
  let least = select(first, min(first + 1u, p.tq), j >= base);
  var end = p.tq;
  while (end > least && segments[b * p.tq + end - 1u] != mine) { end--; }
  y[p.key_segments_at + at] = mine;
  y[p.end_query_at + at] = i32(end);
  var run = j + 1u;
  while (run < min(j + ${LONGEST_RUN}u, p.tk) && ${keys}[b * p.tk + run] == mine) { run++; }
  y[p.key_run_at + at] = i32(run);`,
    );
  },
});

/** The same questions answered from the tensors themselves, for few queries: nothing is gathered or skipped. */
export function directMaskFunctions({ has }: Pick<KernelVariant, 'has'>): string {
  const length = has('length') ? 'u32(clamp(length[0], i32(p.tq), i32(p.tk)))' : 'p.tk';
  const keys = has('key_segments') ? 'key_segments' : 'segments';
  const segmented = has('segments');
  return /* wgsl */ `
fn key_base() -> u32 { return ${length} - p.tq; }
fn query_segment(b: u32, t: u32) -> i32 { return ${segmented ? 'segments[b * p.tq + t]' : '0'}; }
fn key_segment(b: u32, j: u32) -> i32 { return ${segmented ? `${keys}[b * p.tk + j]` : '0'}; }
fn attends(query_segment: i32, own: u32, key_segment: i32, j: u32) -> bool {
  return j == own || (j < own && key_segment == query_segment);
}
`;
}
