/** How far weights are on their way between files and the device. */
export interface TransferProgress {
  readonly bytesDone: number;
  /** Bytes in the files, headers excepted. */
  readonly bytesTotal: number;
  /** Over the last ten seconds; 0 before anything moved. */
  readonly bytesPerSecond: number;
  /** At that rate; undefined before anything moved. */
  readonly secondsLeft: number | undefined;
}

const REPORT_EVERY = 100;
const WINDOW = 10_000;

/** Adds up bytes and reports at most ten times a second, and at the end. */
export class TransferMeter {
  private done = 0;
  private reported = Number.NEGATIVE_INFINITY;
  private readonly samples = [{ time: performance.now(), bytes: 0 }];

  constructor(
    private readonly total: number,
    private readonly report: ((progress: TransferProgress) => void) | undefined,
  ) {}

  /** Says that more bytes are through. */
  add(bytes: number): void {
    this.done += bytes;
    const now = performance.now();
    if (!this.report || (this.done < this.total && now - this.reported < REPORT_EVERY)) return;
    this.reported = now;
    this.samples.push({ time: now, bytes: this.done });
    while (this.samples.length > 2 && now - this.samples[1]!.time > WINDOW) this.samples.shift();
    const first = this.samples[0]!;
    const rate = now > first.time ? (1000 * (this.done - first.bytes)) / (now - first.time) : 0;
    this.report({
      bytesDone: this.done,
      bytesTotal: this.total,
      bytesPerSecond: rate,
      secondsLeft: this.done >= this.total ? 0 : rate > 0 ? (this.total - this.done) / rate : undefined,
    });
  }
}
