import type { Running } from './case.js';
import { type Summary, summarise } from './statistics.js';

// Why not tinybench or mitata: they time one call at a time. A call here only queues work, so calls have to be timed in
// bunches that are long enough for the wait at their end (0.1 to 1 ms) not to matter, and the time of queueing apart.

/** How long a case is measured. */
export interface Budget {
  /** Milliseconds of counted samples. */
  readonly total: number;
  /** Milliseconds that a sample lasts at least; runs are bunched until it does. */
  readonly sample: number;
  /**
   * Milliseconds of warming up, at least. A GPU that waited for a compiler runs at a fraction of its clock for a while.
   * Default: as long as it takes to find how many runs make a sample.
   */
  readonly warm?: number;
  readonly minSamples: number;
  readonly maxSamples: number;
}

/** The wait for the device and the clocks; apart, so that the measuring can be tested without either. */
export interface Surroundings {
  synchronize(): Promise<void>;
  /** Milliseconds. */
  now(): number;
  /** Milliseconds of processor time of this process, all threads together. */
  cpu(): number;
}

/** Times of one run, in milliseconds. */
export interface Timing extends Summary {
  /** Median time that the host takes to queue a run; undefined for runs that wait for the device themselves. */
  readonly host: number | undefined;
  /** Median processor time of a run, all threads together: on a software adapter the work itself, whoever else computes. */
  readonly cpu: number;
  /** Spread of that. */
  readonly cpuSpread: number;
  /** The first run, with the compilation of pipelines that drivers put off until then. */
  readonly first: number;
  readonly samples: number;
  readonly runsPerSample: number;
  /** Bytes of the device's memory that the case held at most: inputs, weights, what programs share, and the pool. */
  readonly memory?: number;
}

const MOST_RUNS = 4096;

/** Runs a case until its budget is spent: once cold, then longer and longer bunches to warm up, then the samples. */
export async function measure(
  running: Running,
  budget: Budget,
  { synchronize, now, cpu }: Surroundings,
): Promise<Timing> {
  const sample = async (runs: number) => {
    const [begin, cpuBegin] = [now(), cpu()];
    let waits = false;
    for (let i = 0; i < runs; i++) {
      const pending = running.run();
      if (pending) {
        waits = true;
        await pending;
      }
    }
    const queued = now();
    await synchronize();
    return { total: now() - begin, cpu: cpu() - cpuBegin, host: waits ? undefined : queued - begin };
  };

  const first = (await sample(1)).total;
  let runs = 1;
  let warmed = 0;
  for (let warm = await sample(runs); ; warm = await sample(runs)) {
    warmed += warm.total;
    if (warm.total >= budget.sample || runs >= MOST_RUNS) {
      if (warmed >= (budget.warm ?? 0)) break;
      continue;
    }
    // Short bunches overrate a run, for the wait at their end: grow by ten at most and look again.
    const growth = Math.min(10, (1.2 * budget.sample) / Math.max(warm.total, 1e-3));
    runs = Math.min(MOST_RUNS, Math.ceil(runs * growth));
  }

  const totals: number[] = [];
  const hosts: number[] = [];
  const cpus: number[] = [];
  for (let spent = 0; totals.length < budget.maxSamples; ) {
    if (spent >= budget.total && totals.length >= budget.minSamples) break;
    const { total, host, cpu } = await sample(runs);
    spent += total;
    totals.push(total / runs);
    cpus.push(cpu / runs);
    if (host !== undefined) hosts.push(host / runs);
  }
  const processor = summarise(cpus);
  return {
    ...summarise(totals),
    host: hosts.length > 0 ? summarise(hosts).median : undefined,
    cpu: processor.median,
    cpuSpread: processor.spread,
    first,
    samples: totals.length,
    runsPerSample: runs,
  };
}
