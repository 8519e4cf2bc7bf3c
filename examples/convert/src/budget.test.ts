import { describe, expect, it } from 'vitest';
import { Budget, STAGES, TRAINING_SHARES, type TrainingStage } from './budget.js';

/** A budget with a clock that stands still until it is told. */
function withClock(seconds: number) {
  let now = 0;
  const budget = new Budget(seconds, () => now);
  return { budget, wait: (more: number) => (now += more) };
}

describe('Budget', () => {
  it('gives all time that is not otherwise needed to training, by its shares', () => {
    const { budget, wait } = withClock(100);
    for (const stage of STAGES) budget.expect(stage, 1);
    const fixed = STAGES.length;
    budget.begin('open');
    wait(1);
    budget.begin('teacher');
    wait(1);
    budget.begin('mla');
    expect(budget.trainingSeconds('mla')).toBeCloseTo((100 - fixed) * TRAINING_SHARES.mla, 6);
    const total = Object.values(TRAINING_SHARES).reduce((sum, share) => sum + share, 0);
    expect(total).toBeCloseTo(1, 10);
  });

  it('ends in time when every stage takes what it was given, whatever the rest took', () => {
    const { budget, wait } = withClock(200);
    let elapsed = 0;
    const spend = (seconds: number) => {
      elapsed += seconds;
      wait(seconds);
    };
    for (const stage of STAGES) {
      budget.begin(stage);
      // Twice the two seconds that are expected where nothing is said.
      spend(4);
      if (stage in TRAINING_SHARES) spend(budget.trainingSeconds(stage as TrainingStage));
    }
    budget.end();
    // The last parts after training may be late by what they themselves took too long.
    expect(elapsed).toBeGreaterThan(190);
    expect(elapsed).toBeLessThan(206);
    expect(budget.elapsed).toBe(elapsed);
    expect(Object.keys(budget.spent)).toEqual([...STAGES]);
  });

  it('gives less to later stages after an earlier one took longer, and never less than nothing', () => {
    const { budget, wait } = withClock(100);
    budget.begin('mla');
    const planned = budget.trainingSeconds('mla');
    wait(planned + 60);
    budget.begin('mamba2');
    expect(budget.trainingSeconds('mamba2')).toBeLessThan(20);
    wait(60);
    budget.begin('distillation');
    expect(budget.trainingSeconds('distillation')).toBe(0);
  });

  it('counts up to the end, and never backwards where stages take what was expected', () => {
    const { budget, wait } = withClock(100);
    let share = -1;
    for (const stage of STAGES) {
      budget.begin(stage);
      // What the stage at hand is expected to take.
      const length = budget.pace(0).secondsLeft - budget.pace(1).secondsLeft;
      for (const done of [0, 0.5, 1]) {
        const pace = budget.pace(done);
        expect(pace.share).toBeGreaterThanOrEqual(share - 1e-9);
        share = pace.share;
        if (done < 1) wait(length / 2);
      }
    }
    budget.end();
    expect(budget.pace(1)).toEqual({ share: 1, secondsLeft: 0 });
  });
});
