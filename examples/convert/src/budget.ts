/** The parts of a run, in their order. */
export const STAGES = [
  'open',
  'teacher',
  'mla',
  'mamba2',
  'smart',
  'distillation',
  'pairs',
  'preferences',
  'text',
] as const;
export type StageName = (typeof STAGES)[number];

/** The parts that train, and so take as long as they are given. */
export type TrainingStage = 'mla' | 'mamba2' | 'distillation' | 'preferences';

/** What each part is called on the progress line. */
export const TITLES: Readonly<Record<StageName, string>> = {
  open: 'Corpora and teacher',
  teacher: "The teacher's loss",
  mla: 'ILD of the MLA student',
  mamba2: 'ILD of the Mamba2 student',
  smart: 'SMART sensitivity scores',
  distillation: 'Distillation of the hybrid',
  pairs: 'Preference pairs',
  preferences: 'DPO',
  text: 'Text and report',
};

/**
 * How the time for training is shared out. Mamba2 starts much further away than MLA, and its layers learn faster one by
 * one than together; DPO only has to move a margin.
 */
export const TRAINING_SHARES: Readonly<Record<TrainingStage, number>> = {
  mla: 0.14,
  mamba2: 0.48,
  distillation: 0.32,
  preferences: 0.06,
};

interface Entry {
  /** Seconds that the part takes, or is expected to. */
  seconds: number;
  /** The share of its seconds that is not training. */
  fixed: number;
  state: 'ahead' | 'running' | 'done';
}

/** How far a run is. */
export interface Pace {
  /** From 0 to 1, by time. */
  readonly share: number;
  readonly secondsLeft: number;
}

const isTraining = (stage: StageName): stage is TrainingStage => stage in TRAINING_SHARES;

/**
 * Shares a run's time out among its parts: what trains gets what the rest is expected to leave. It is asked anew before
 * every training stage, so that a machine that turns out slower gets fewer steps and not a longer run.
 */
export class Budget {
  /** Seconds that the run is meant to take. */
  readonly seconds: number;
  private readonly now: () => number;
  private readonly begun: number;
  private readonly entries: Map<StageName, Entry>;
  private current: StageName | undefined;
  private currentBegun = 0;
  private shown = 0;

  /** @param now a clock in seconds */
  constructor(seconds: number, now: () => number = () => performance.now() / 1000) {
    this.seconds = seconds;
    this.now = now;
    this.begun = now();
    this.entries = new Map(STAGES.map((stage) => [stage, { seconds: 2, fixed: 2, state: 'ahead' }]));
    this.spread();
  }

  /** Seconds since the run began. */
  get elapsed(): number {
    return this.now() - this.begun;
  }

  /** Says how long the part of a stage that is not training is expected to take. */
  expect(stage: StageName, seconds: number): void {
    const entry = this.entry(stage);
    entry.fixed = seconds;
    if (!isTraining(stage)) entry.seconds = seconds;
    this.spread();
  }

  /** Says how long the training of a stage takes, once its steps are counted. */
  settle(stage: TrainingStage, trainingSeconds: number): void {
    const entry = this.entry(stage);
    const spent = this.current === stage ? this.now() - this.currentBegun : 0;
    entry.seconds = Math.max(entry.fixed, spent) + trainingSeconds;
  }

  /** The stage that runs from here on; the one before it is done. */
  begin(stage: StageName): void {
    this.end();
    this.current = stage;
    this.currentBegun = this.now();
    this.entry(stage).state = 'running';
  }

  /** The stage at hand is done. */
  end(): void {
    if (!this.current) return;
    const entry = this.entry(this.current);
    entry.state = 'done';
    entry.seconds = this.now() - this.currentBegun;
    this.current = undefined;
    this.spread();
  }

  /** Seconds that the running stage may train for: its share of what all parts that do not train leave. */
  trainingSeconds(stage: TrainingStage): number {
    const spent = this.current === stage ? this.now() - this.currentBegun : 0;
    const left = this.seconds - this.elapsed + Math.min(spent, this.entry(stage).fixed);
    return Math.max(0, this.sharesOf(left).get(stage) ?? 0);
  }

  /** Seconds that each part took, of those that are done. */
  get spent(): Readonly<Partial<Record<StageName, number>>> {
    const done = [...this.entries].filter(([, { state }]) => state === 'done');
    return Object.fromEntries(done.map(([stage, { seconds }]) => [stage, seconds]));
  }

  /** How far the run is, if the running stage is so far (0 to 1). */
  pace(progress: number): Pace {
    let left = 0;
    for (const [stage, { seconds, state }] of this.entries) {
      if (state === 'ahead') left += seconds;
      if (stage === this.current) left += seconds * (1 - Math.min(1, Math.max(0, progress)));
    }
    const { elapsed } = this;
    // A new estimate may mean that less is done than was thought; the bar waits then.
    this.shown = Math.max(this.shown, elapsed / (elapsed + left));
    return { share: this.shown, secondsLeft: left };
  }

  /** Gives training stages that lie ahead their expected seconds. */
  private spread(): void {
    for (const [stage, seconds] of this.sharesOf(this.seconds - this.elapsed)) {
      const entry = this.entry(stage);
      if (entry.state === 'ahead') entry.seconds = entry.fixed + Math.max(0, seconds);
    }
  }

  /** What every training stage that is not done gets of the seconds left. */
  private sharesOf(secondsLeft: number): Map<TrainingStage, number> {
    let forTraining = secondsLeft;
    let shares = 0;
    const open: TrainingStage[] = [];
    for (const [stage, { fixed, state }] of this.entries) {
      if (state === 'done') continue;
      forTraining -= fixed;
      if (!isTraining(stage)) continue;
      shares += TRAINING_SHARES[stage];
      open.push(stage);
    }
    return new Map(open.map((stage) => [stage, (forTraining * TRAINING_SHARES[stage]) / shares]));
  }

  private entry(stage: StageName): Entry {
    return this.entries.get(stage) as Entry;
  }
}
