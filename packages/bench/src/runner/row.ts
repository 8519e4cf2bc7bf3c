import type { PeerShare } from '../report/peers.js';
import type { Precision, Work } from './case.js';
import type { Timing } from './measure.js';

/** What the adapter was seen to do at most in this run. */
export interface Peaks {
  /** Bytes a second, read and written together. */
  readonly bandwidth: number;
  /** Operations a second; float16 only where the adapter computes in it. */
  readonly arithmetic: Readonly<Partial<Record<Precision, number>>>;
}

/** One result, as the JSON file has it. Times in milliseconds. */
export interface Row {
  readonly name: string;
  readonly shape: string;
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Distance of the quartiles over the median. */
  readonly spread: number;
  readonly samples: number;
  readonly runsPerSample: number;
  readonly first: number;
  readonly host?: number;
  readonly memory?: number;
  readonly cpu: number;
  readonly cpuSpread: number;
  readonly flops: number;
  readonly bytes: number;
  readonly flopsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly tokensPerSecond?: number;
  /** The time that the work takes at the peaks, and which of them says so; absent in the rows that measure the peaks. */
  readonly floor?: number;
  readonly bound?: 'arithmetic' | 'memory';
  /** floor / median. */
  readonly share?: number;
  /** What a peer takes for the same, where `--peers` has it. */
  readonly peer?: PeerShare;
}

/** The least time for some work, in milliseconds, and what it is bound by. */
export function floorOf(work: Work, peaks: Peaks): { readonly floor: number; readonly bound: 'arithmetic' | 'memory' } {
  const { float32 = 0 } = peaks.arithmetic;
  const peak = peaks.arithmetic[work.precision ?? 'float32'] ?? float32;
  const arithmetic = (work.flops / peak) * 1e3;
  const memory = (work.bytes / peaks.bandwidth) * 1e3;
  return arithmetic > memory ? { floor: arithmetic, bound: 'arithmetic' } : { floor: memory, bound: 'memory' };
}

/** The row of a case; without peaks that of a case which measures them. */
export function makeRow(name: string, shape: string, work: Work, timing: Timing, peaks?: Peaks): Row {
  const { host, ...times } = timing;
  const perSecond = (count: number) => (count / timing.median) * 1e3;
  const against = peaks && floorOf(work, peaks);
  return {
    name,
    shape,
    ...times,
    ...(host !== undefined && { host }),
    flops: work.flops,
    bytes: work.bytes,
    flopsPerSecond: perSecond(work.flops),
    bytesPerSecond: perSecond(work.bytes),
    ...(work.tokens !== undefined && { tokensPerSecond: perSecond(work.tokens) }),
    ...(against && { ...against, share: against.floor / timing.median }),
  };
}
