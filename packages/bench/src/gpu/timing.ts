import { type Device, fill, scope, shift } from '@zebra/tensor';

/** The middle of some numbers. */
export const median = (list: readonly number[]): number =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]!;

/** A GPU that waited for a compiler runs at a fraction of its clock for a while: so long it is kept busy first. */
const WARM_MS = 150;

/** Milliseconds from submitting next to nothing to knowing that it is done. */
export async function emptyRoundTrip(device: Device): Promise<number> {
  const x = fill(device, [64], 1);
  const program = device.capture(() => scope(() => void shift(x, 1)));
  const times: number[] = [];
  for (let i = 0; i < 20; i++) {
    const begun = performance.now();
    program.run();
    await device.synchronize();
    times.push(performance.now() - begun);
  }
  program.dispose();
  x.dispose();
  return median(times);
}

/** Options of {@link timeRecorded}. */
export interface TimingOptions {
  /** {@link emptyRoundTrip} of the device. */
  readonly roundTrip: number;
  /** Milliseconds of work in a sample, at least. */
  readonly least: number;
  readonly samples: number;
  /** Only to see that it runs: once, and no warm-up. */
  readonly small: boolean;
}

/**
 * Milliseconds of `run`: the median of samples of so many recorded repetitions that each is long enough, less an empty
 * round trip, on a device that is warm.
 */
export async function timeRecorded(device: Device, run: () => void, options: TimingOptions): Promise<number> {
  const { roundTrip, least, samples, small } = options;
  const once = async (repeat: number, count: number): Promise<number> => {
    const program = device.capture(() => {
      for (let i = 0; i < repeat; i++) scope(run);
    });
    const times: number[] = [];
    const wall = async (): Promise<number> => {
      const begun = performance.now();
      program.run();
      await device.synchronize();
      return performance.now() - begun - roundTrip;
    };
    // The first run pages memory in.
    await wall();
    const warm = performance.now() + (small || count < samples ? 0 : WARM_MS);
    while (performance.now() < warm) await wall();
    for (let i = 0; i < count; i++) times.push(await wall());
    program.dispose();
    return Math.max(1e-4, median(times)) / repeat;
  };
  const guess = await once(1, 2);
  return small ? guess : once(Math.max(1, Math.min(200, Math.ceil(least / guess))), samples);
}
