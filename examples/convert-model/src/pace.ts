/** Steps whose times count for the rate. */
const WINDOW = 20;

/** How far the training of a run is. */
export interface TrainingPace {
  /** From 0 to 1, by steps of all stages. */
  readonly share: number;
  /** At the rate of the last steps; undefined before there is one. */
  readonly secondsLeft?: number;
}

/**
 * How far a run of several stages is, and how long it still takes. Steps of stages that lie ahead are taken to last as
 * long as those at hand.
 */
export class StepPace {
  private readonly total: number;
  private readonly now: () => number;
  private times: number[] = [];
  private before = 0;

  /**
   * @param total steps of all stages
   * @param now a clock in seconds
   */
  constructor(total: number, now: () => number = () => performance.now() / 1000) {
    this.total = total;
    this.now = now;
  }

  /** A stage begins, with so many steps in the stages before it. */
  begin(before: number): void {
    this.before = before;
    this.times = [];
  }

  /** So many steps of the stage are done. The time to the first one, which compiles, does not count. */
  step(done: number): TrainingPace {
    this.times.push(this.now());
    if (this.times.length > WINDOW + 1) this.times.shift();
    const all = this.before + done;
    const share = all / this.total;
    const count = this.times.length - 1;
    if (count === 0) return { share };
    return { share, secondsLeft: ((this.total - all) * (this.times[count]! - this.times[0]!)) / count };
  }
}
