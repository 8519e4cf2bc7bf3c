import { type HostTensor, hostTensor } from '../../core/host.js';
import type { AttentionAttributes } from './sizes.js';

type Inputs = readonly (HostTensor | undefined)[];

/** Sizes and the mask of one call, on the host. */
function view(inputs: Inputs, { valueSize }: AttentionAttributes) {
  const [q, k, v, segments, keySegments, keyLength] = inputs as [HostTensor, HostTensor, HostTensor, ...Inputs];
  const [batch, queries, heads, keySize] = q.shape as [number, number, number, number];
  const [, keys, keyHeads] = k.shape as [number, number, number];
  const width = v.shape[3]!;
  const length = Math.min(Math.max(keyLength?.data[0] ?? keys, queries), keys);
  const keyNumbers = keySegments ?? segments;
  /** Whether query t of row b attends to key j. */
  const attends = (b: number, t: number, j: number): boolean => {
    const own = length - queries + t;
    if (j >= own) return j === own;
    return !segments || segments.data[b * queries + t] === keyNumbers!.data[b * keys + j];
  };
  const queryAt = (b: number, t: number, h: number) => ((b * queries + t) * heads + h) * keySize;
  const outputAt = (b: number, t: number, h: number) => ((b * queries + t) * heads + h) * (valueSize ?? width);
  const keyRow = (b: number, j: number, h: number) => (b * keys + j) * keyHeads + Math.floor(h / (heads / keyHeads));
  return {
    q,
    k,
    v,
    batch,
    queries,
    heads,
    keySize,
    keys,
    width,
    valueSize: valueSize ?? width,
    attends,
    queryAt,
    outputAt,
    keyRow,
  };
}

type View = ReturnType<typeof view>;

function dot(a: Float64Array, i: number, b: Float64Array, j: number, n: number): number {
  let total = 0;
  for (let d = 0; d < n; d++) total += a[i + d]! * b[j + d]!;
  return total;
}

/** The keys one query attends to with their probabilities, and the log of the softmax's denominator. */
function probabilities(at: View, b: number, t: number, h: number, scale: number) {
  const row: { j: number; p: number }[] = [];
  for (let j = 0; j < at.keys; j++) {
    if (!at.attends(b, t, j)) continue;
    row.push({
      j,
      p: scale * dot(at.q.data, at.queryAt(b, t, h), at.k.data, at.keyRow(b, j, h) * at.keySize, at.keySize),
    });
  }
  const most = row.reduce((m, { p }) => Math.max(m, p), Number.NEGATIVE_INFINITY);
  const lse = most + Math.log(row.reduce((sum, { p }) => sum + Math.exp(p - most), 0));
  for (const entry of row) entry.p = Math.exp(entry.p - lse);
  return { row, lse };
}

/** Float64 twin of attention: outputs [B,Tq,H,Dv] and lse [B,H,Tq]. */
export function forward(inputs: Inputs, attributes: AttentionAttributes): HostTensor[] {
  const at = view(inputs, attributes);
  const y = hostTensor([at.batch, at.queries, at.heads, at.valueSize]);
  const lse = hostTensor([at.batch, at.heads, at.queries]);
  for (let b = 0; b < at.batch; b++) {
    for (let h = 0; h < at.heads; h++) {
      for (let t = 0; t < at.queries; t++) {
        const softmax = probabilities(at, b, t, h, attributes.scale);
        lse.data[(b * at.heads + h) * at.queries + t] = softmax.lse;
        const to = at.outputAt(b, t, h);
        for (const { j, p } of softmax.row) {
          const from = at.keyRow(b, j, h) * at.width;
          for (let d = 0; d < at.valueSize; d++) y.data[to + d]! += p * at.v.data[from + d]!;
        }
      }
    }
  }
  return [y, lse];
}

/** Gradients of q, k and v; none of v where only a part of its rows is the value. */
export function backward(
  inputs: Inputs,
  attributes: AttentionAttributes,
  gradients: Inputs,
): (HostTensor | undefined)[] {
  const at = view(inputs, attributes);
  const g = gradients[0]!.data;
  const [dq, dk, dv] = [at.q, at.k, at.v].map(({ shape }) => hostTensor(shape)) as [HostTensor, HostTensor, HostTensor];
  for (let b = 0; b < at.batch; b++) {
    for (let h = 0; h < at.heads; h++) {
      for (let t = 0; t < at.queries; t++) {
        const out = at.outputAt(b, t, h);
        const query = at.queryAt(b, t, h);
        const entries = probabilities(at, b, t, h, attributes.scale).row.map(({ j, p }) => {
          const key = at.keyRow(b, j, h);
          return { key, p, dp: dot(g, out, at.v.data, key * at.width, at.valueSize) };
        });
        const delta = entries.reduce((sum, { p, dp }) => sum + p * dp, 0);
        for (const { key, p, dp } of entries) {
          const ds = p * (dp - delta) * attributes.scale;
          for (let d = 0; d < at.valueSize; d++) dv.data[key * at.width + d]! += p * g[out + d]!;
          for (let d = 0; d < at.keySize; d++) {
            dq.data[query + d]! += ds * at.k.data[key * at.keySize + d]!;
            dk.data[key * at.keySize + d]! += ds * at.q.data[query + d]!;
          }
        }
      }
    }
  }
  return [dq, dk, at.valueSize === at.width ? dv : undefined];
}
