import { describe, expect, it } from 'vitest';
import { readOptions } from './options.js';
import { clock, Progress, progressText, short } from './progress.js';
import { recipeFor } from './recipe.js';

const pace = { share: 0.25, secondsLeft: 161 };

describe('Progress', () => {
  it('draws one line over and over on a terminal, not more often than needed', () => {
    let now = 0;
    let written = '';
    const stream = { isTTY: true, columns: 60, write: (text: string) => (written += text) };
    const progress = new Progress(stream, () => now);
    progress.show({ title: 'Stage', pace, detail: '1/9' });
    progress.show({ title: 'Stage', pace, detail: '2/9' });
    now += 1000;
    progress.show({ title: 'Stage', pace, detail: `3/9 ${'x'.repeat(80)}` });
    progress.clear();
    expect(written).not.toContain('\n');
    const lines = written.split('\r\x1b[2K');
    expect(lines).toEqual(['', '[#####...............]   25%  Stage  1/9  2:41 left', lines[2], '']);
    expect(lines[2]).toHaveLength(59);
  });

  it('writes plain lines elsewhere: at the beginning of a stage, and now and then', () => {
    let now = 0;
    const lines: string[] = [];
    const progress = new Progress({ write: (text) => lines.push(text) }, () => now);
    progress.show({ title: 'One', pace });
    progress.show({ title: 'One', pace, detail: 'too soon' });
    now += 20_000;
    progress.show({ title: 'One', pace, detail: 'later' });
    progress.show({ title: 'Two', pace });
    progress.clear();
    expect(lines).toHaveLength(3);
    expect(lines[1]).toMatch(/later {2}2:41 left\n$/);
  });

  it('writes numbers short', () => {
    expect([0.5, 12.34, 950, 1234, 34_567, 5_600_000].map(short)).toEqual(['0.5', '12', '950', '1.2k', '35k', '5.6M']);
    expect([0, 59.6, 161, -3].map(clock)).toEqual(['0:00', '1:00', '2:41', '0:00']);
    expect(progressText({ title: 'x', pace: { share: 2, secondsLeft: 0 } })).toContain('100%');
  });
});

describe('readOptions', () => {
  it('has defaults for everything', () => {
    const options = readOptions([])!;
    expect(options).toMatchObject({
      adapter: 'auto',
      full: false,
      seed: 1,
      ropeRows: 'frequency-aware',
      out: 'out/demo',
    });
    expect(options.seconds).toBeLessThan(270);
    expect(options.steps).toBeUndefined();
    expect(readOptions(['--help'])).toBeUndefined();
    expect(readOptions(['--steps', '1,2,3,4'])!.steps).toEqual({ mla: 1, mamba2: 2, distillation: 3, preferences: 4 });
  });

  it.each([
    [['--adapter', 'gpu'], /--adapter takes one of auto, hardware, software, swiftshader, got "gpu"/],
    [['--steps', '1,2,3'], /four numbers/],
    [['--steps', '1,2,3,0'], /--steps takes an integer of at least 1/],
    [['--seconds', '25.5'], /--seconds takes an integer/],
    [['--seconds', '5'], /--seconds takes an integer of at least 20, got "5"/],
    [['--rope-rows', 'first'], /--rope-rows takes one of last, frequency-aware/],
    [['--nonsense'], /^Unknown option '--nonsense'$/],
  ])('refuses %j', (args, message) => {
    expect(() => readOptions(args)).toThrow(message);
  });
});

describe('recipeFor', () => {
  it('grows with the adapter, fits calibration to whole batches, and is fixed when full', () => {
    const fitted = [300, 2000, 9000, 1e6].map((rate) => recipeFor(rate, { full: false, fixed: undefined }));
    for (const [i, recipe] of fitted.entries()) {
      const { calibrationTokens, evaluationLength, evaluationRows, length, stages } = recipe;
      const batch = evaluationLength * Math.min(evaluationRows, calibrationTokens / evaluationLength);
      expect(calibrationTokens % batch).toBe(0);
      expect(stages.mla.steps).toBeUndefined();
      if (i === 0) continue;
      const before = fitted[i - 1]!;
      expect(length * stages.mla.batchSize).toBeGreaterThanOrEqual(before.length * before.stages.mla.batchSize);
      expect(recipe.validationTokens).toBeGreaterThanOrEqual(before.validationTokens);
    }
    const full = [1e5, 1e6].map((rate) => recipeFor(rate, { full: true, fixed: undefined }).stages);
    expect(full[0]).toEqual(full[1]);
    expect(full[0]!.distillation.steps).toBeGreaterThan(1000);
    const fixed = { mla: 1, mamba2: 2, distillation: 3, preferences: 4 };
    expect(recipeFor(2000, { full: false, fixed }).stages.preferences.steps).toBe(4);
  });
});
