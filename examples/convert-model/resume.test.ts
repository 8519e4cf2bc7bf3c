import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { ProgressState } from 'zebra-example-convert/progress';
import { convertModel } from './src/convert-model.js';
import { readOptions } from './src/options.js';
import { StepPace } from './src/pace.js';

const TEACHER = fileURLToPath(new URL('../train-teacher/teacher', import.meta.url));

interface MetricsLine {
  readonly step: number;
  readonly stage: string;
  readonly loss: number;
}

async function metricsOf(out: string): Promise<MetricsLine[]> {
  const lines = (await readFile(join(out, 'metrics.jsonl'), 'utf8')).trim().split('\n');
  return lines.map((line) => JSON.parse(line) as MetricsLine);
}

it.each(['distil layers', 'distil end to end'])(
  'goes on in "%s" where it was cut off, to the very same hybrid',
  async (title) => {
    const folder = await mkdtemp(join(tmpdir(), 'zebra-convert-resume-'));
    const text = join(folder, 'text.txt');
    await writeFile(
      text,
      Array.from({ length: 30 }, (_, i) => `The state of our union is strong for the ${i}th time.`).join('\n\n'),
    );
    const size = [
      '--rows',
      '1',
      '--length',
      '32',
      '--mla-layers',
      '0,5,11',
      '--compute',
      'float32',
      '--save',
      'float32',
    ];
    const stages = ['--layer-steps', '4', '--steps', '4', '--checkpoint-every', '2'];
    const convert = async (out: string, more: readonly string[], end?: AbortController) => {
      const shown: ProgressState[] = [];
      const options = readOptions([TEACHER, '--out', join(folder, out), '--text', text, ...size, ...stages, ...more])!;
      const show = (state: ProgressState) => {
        shown.push(state);
        if (state.title === title && /^2\/4/.test(state.detail!)) end?.abort(new Error('cut off'));
      };
      await convertModel(options, () => {}, { show, signal: end?.signal });
      return shown;
    };
    const shown = await convert('whole', []);
    expect(shown.filter((state) => state.title === title).map(({ detail }) => detail)).toEqual(
      [1, 2, 3, 4].map((step) => expect.stringMatching(new RegExp(`^${step}/4  loss [0-9.]+  .* tokens/s$`))),
    );
    const whole = await metricsOf(join(folder, 'whole'));
    expect(whole.map(({ step, stage }) => [step, stage])).toEqual(
      Array.from({ length: 8 }, (_, i) => [i + 1, i < 4 ? 'layers' : 'end-to-end']),
    );
    // Nothing is left of the checkpoints once the hybrid is there.
    expect(await readdir(join(folder, 'whole'))).not.toContain('checkpoints');

    await expect(convert('parts', [], new AbortController())).rejects.toThrow('cut off');
    const before = await metricsOf(join(folder, 'parts'));
    expect(before.length).toBeLessThan(8);
    await expect(convert('parts', [])).rejects.toThrow(/holds checkpoints .*--resume/);
    const again = await convert('parts', ['--resume']);
    const first = again.find((state) => state.title === title);
    expect(first?.detail).not.toMatch(/^1\/4/);
    const losses = (lines: readonly MetricsLine[]) => lines.map(({ step, loss }) => [step, loss]);
    expect(losses(await metricsOf(join(folder, 'parts')))).toEqual(losses(whole));
    const weights = (out: string) => readFile(join(folder, out, 'model.safetensors'));
    expect((await weights('parts')).equals(await weights('whole'))).toBe(true);
    await rm(folder, { recursive: true });
  },
);

it('says how far a run of two stages is, and how long it takes at the rate of its last steps', () => {
  let now = 0;
  const pace = new StepPace(10, () => now);
  pace.begin(0);
  now = 30;
  // The first step compiles: its time says nothing about the others.
  expect(pace.step(1)).toEqual({ share: 0.1 });
  now = 32;
  expect(pace.step(2)).toEqual({ share: 0.2, secondsLeft: 16 });
  pace.begin(4);
  now = 60;
  expect(pace.step(1)).toEqual({ share: 0.5 });
  now = 63;
  expect(pace.step(2)).toEqual({ share: 0.6, secondsLeft: 12 });
});
