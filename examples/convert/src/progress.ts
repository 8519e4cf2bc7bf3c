/** Where a progress line is drawn: `process.stderr`, as a rule. */
export interface ProgressStream {
  readonly isTTY?: boolean;
  readonly columns?: number;
  write(text: string): unknown;
}

/** What the line shows. */
export interface ProgressState {
  readonly title: string;
  /** How much is done, from 0 to 1, and how long the rest takes, where that is known. */
  readonly pace: { readonly share: number; readonly secondsLeft?: number };
  /** Steps, losses, rates: whatever the stage has to say. */
  readonly detail?: string;
}

const BAR = 20;
const REDRAW_MS = 100;
const PLAIN_MS = 15_000;

/**
 * One line that is drawn over and over on a terminal. Elsewhere (a log file) a plain line now and then and at the
 * beginning of each stage.
 */
export class Progress {
  private readonly stream: ProgressStream;
  private readonly now: () => number;
  private drawn = Number.NEGATIVE_INFINITY;
  private title = '';

  constructor(stream: ProgressStream, now: () => number = () => performance.now()) {
    this.stream = stream;
    this.now = now;
  }

  show(state: ProgressState): void {
    const fresh = state.title !== this.title;
    const wait = this.stream.isTTY ? REDRAW_MS : PLAIN_MS;
    if (!fresh && this.now() - this.drawn < wait) return;
    this.drawn = this.now();
    this.title = state.title;
    const text = progressText(state);
    if (this.stream.isTTY) this.stream.write(`\r\x1b[2K${text.slice(0, (this.stream.columns ?? 100) - 1)}`);
    else this.stream.write(`${text}\n`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.stream.isTTY) this.stream.write('\r\x1b[2K');
  }
}

/** `[#####...............]  25%  ILD of the MLA student  12/35  loss 3.210  1.1k tokens/s  2:41 left` */
export function progressText({ title, pace, detail }: ProgressState): string {
  const share = Math.min(1, Math.max(0, pace.share));
  const filled = Math.round(BAR * share);
  const bar = `[${'#'.repeat(filled)}${'.'.repeat(BAR - filled)}]`;
  const parts = [
    bar,
    `${String(Math.floor(100 * share)).padStart(3)}%`,
    title,
    detail,
    pace.secondsLeft === undefined ? undefined : `${clock(pace.secondsLeft)} left`,
  ];
  return parts.filter((part) => part).join('  ');
}

/** `2:41` */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

/** `950`, `1.2k`, `34k`, `5.6M` */
export function short(value: number): string {
  for (const [size, suffix] of [
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (value >= size) return `${(value / size).toFixed(value < 10 * size ? 1 : 0)}${suffix}`;
  }
  return value.toFixed(value < 10 ? 1 : 0);
}
