/** How far a transfer is, all its files taken together. */
export interface HubProgress {
  readonly phase: 'download' | 'upload';
  /** Files that are complete. */
  readonly filesDone: number;
  readonly files: number;
  /** Bytes that are there, those of earlier runs included. */
  readonly bytesDone: number;
  readonly bytesTotal: number;
  /** Over the last ten seconds; 0 before anything moved. */
  readonly bytesPerSecond: number;
  /** At that rate; undefined before anything moved. */
  readonly secondsLeft: number | undefined;
}

const REPORT_EVERY = 100;
const WINDOW = 10_000;

/** Adds up the bytes of several files, and reports at most ten times a second. */
export class ProgressMeter {
  private readonly done = new Map<string, number>();
  private readonly complete = new Set<string>();
  private samples: { time: number; moved: number }[] = [];
  /** Bytes moved by this process; what lay there before does not count for the rate. */
  private moved = 0;
  private reported = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly phase: HubProgress['phase'],
    private readonly sizes: ReadonlyMap<string, number>,
    private readonly report: ((progress: HubProgress) => void) | undefined,
  ) {}

  /** Says how many bytes of a file are there, and how many of them just came. */
  set(name: string, bytes: number, came = 0): void {
    this.done.set(name, bytes);
    this.moved += came;
    this.tell(false);
  }

  /** Says that more bytes of a file arrived. */
  add(name: string, came: number): void {
    this.set(name, Math.min(this.sizes.get(name) ?? 0, (this.done.get(name) ?? 0) + came), came);
  }

  /** Says that a file is complete. */
  finish(name: string): void {
    this.done.set(name, this.sizes.get(name) ?? 0);
    this.complete.add(name);
    this.tell(this.complete.size === this.sizes.size);
  }

  private tell(always: boolean): void {
    const now = performance.now();
    if (!this.report || (!always && now - this.reported < REPORT_EVERY)) return;
    this.reported = now;
    this.samples.push({ time: now, moved: this.moved });
    while (this.samples.length > 2 && now - this.samples[1]!.time > WINDOW) this.samples.shift();
    const { time, moved } = this.samples[0]!;
    const rate = now > time ? (1000 * (this.moved - moved)) / (now - time) : 0;
    const bytesTotal = sum(this.sizes.values());
    const bytesDone = sum(this.done.values());
    this.report({
      phase: this.phase,
      filesDone: this.complete.size,
      files: this.sizes.size,
      bytesDone,
      bytesTotal,
      bytesPerSecond: rate,
      secondsLeft: bytesDone >= bytesTotal ? 0 : rate > 0 ? (bytesTotal - bytesDone) / rate : undefined,
    });
  }
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
