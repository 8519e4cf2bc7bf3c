import type { Device } from '@zebra/tensor';

/** What one stage took. */
export interface Stage {
  readonly name: string;
  readonly seconds: number;
  /** Most memory on the device so far in the run, as the library counts it, and at the stage's end. */
  readonly devicePeakBytes: number;
  readonly deviceBytes: number;
  /** Most memory of the process during the stage. */
  readonly hostPeakBytes: number;
  readonly [more: string]: unknown;
}

/** How often the process's memory is looked at. */
const SAMPLE_MS = 50;

/** Runs stages one after the other and keeps what each took. */
export class Stages {
  readonly done: Stage[] = [];
  private readonly device: Device;
  private readonly write: (line: string) => void;

  constructor(device: Device, write: (line: string) => void) {
    this.device = device;
    this.write = write;
  }

  /** @param more what is to be reported beside the times, from the stage's result */
  async run<T>(
    name: string,
    f: () => Promise<T>,
    more: (result: T) => Record<string, unknown> = () => ({}),
  ): Promise<T> {
    let hostPeakBytes = process.memoryUsage.rss();
    const look = () => {
      hostPeakBytes = Math.max(hostPeakBytes, process.memoryUsage.rss());
    };
    const timer = setInterval(look, SAMPLE_MS);
    const begun = performance.now();
    try {
      const result = await f();
      await this.device.synchronize();
      look();
      const seconds = (performance.now() - begun) / 1000;
      const { peakBytes: devicePeakBytes, liveBytes: deviceBytes } = this.device.statistics();
      const extra = more(result);
      this.done.push({ name, seconds, devicePeakBytes, deviceBytes, hostPeakBytes, ...extra });
      const sizes = `device ${size(deviceBytes)}, at most ${size(devicePeakBytes)}; process ${size(hostPeakBytes)}`;
      this.write(`${name.padEnd(22)} ${seconds.toFixed(1).padStart(7)} s   ${sizes}${described(extra)}`);
      return result;
    } finally {
      clearInterval(timer);
    }
  }
}

/** `1.25 GiB`, or `12.5 MiB` of what is smaller. */
const size = (bytes: number): string =>
  bytes < 2 ** 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(2)} GiB`;

function described(extra: Record<string, unknown>): string {
  const shown = Object.entries(extra).filter(([, value]) => typeof value === 'number' || typeof value === 'string');
  return shown.length === 0 ? '' : `   ${shown.map(([name, value]) => `${name} ${short(value)}`).join(', ')}`;
}

const short = (value: unknown): string =>
  typeof value === 'number' ? String(Number(value.toPrecision(5))) : String(value);
