import { clock, short } from './progress.js';
import type { DemoReport } from './report.js';

/** What the committed hybrid, made with the full recipe, is called beside a run's own. */
export const COMMITTED = 'committed, full recipe';

/** Beyond so many times the time that was asked for, the report says that it took longer. */
const LATE = 1.1;

/** The report as text for a terminal. */
export function reportText(report: DemoReport): string {
  return [header(report), lossTable(report), facts(report), smartBars(report), samples(report), footer(report)].join(
    '\n\n',
  );
}

function header({ adapter, recipe, stages, gap }: DemoReport): string {
  const steps = stages.map(({ stage, steps: count, batchSize }) => `${stage} ${count}×${batchSize}`).join(', ');
  const how =
    recipe.name === 'full'
      ? 'the full recipe'
      : `sized to this adapter and ${recipe.budgetSeconds} s: ${short(adapter.forwardTokensPerSecond)} tokens/s forward`;
  const target = `${percent(gap.closed.distilled)} of the gap closed by distillation (to reach: ${percent(gap.target)})`;
  return `${adapter.description || adapter.vendor}; ${how}\nsteps × rows: ${steps}\n${target}`;
}

function lossTable({ losses, gap, cache, teacher, hybrid }: DemoReport): string {
  const closed = (loss: number) => percent((losses.initial.composed - loss) / gap.nats);
  const share = `${cache.sharePercent.toFixed(1)}%`;
  const nats = (value: number | null) => (value === null ? '-' : value.toFixed(4));
  const rows: string[][] = [
    ['model', 'initialised', 'trained', 'gap closed', 'KV cache a token, float16'],
    ['teacher', '', nats(losses.teacher), '', `${cache.teacherBytesPerToken} B`],
    ['all MLA, after ILD', nats(losses.initial.mla), nats(losses.mla), '', ''],
    ['all Mamba2, after ILD', nats(losses.initial.mamba2), nats(losses.mamba2), '', '0 B'],
    [
      'composed by SMART',
      nats(losses.initial.composed),
      nats(losses.composed),
      closed(losses.composed),
      `${cache.bytesPerToken} B, ${share}`,
    ],
    ['distilled', '', nats(losses.distilled), closed(losses.distilled), `${cache.bytesPerToken} B, ${share}`],
    ['tuned (DPO)', '', nats(losses.tuned), closed(losses.tuned), `${cache.bytesPerToken} B, ${share}`],
  ];
  if (losses.committed !== null) {
    // Its own gap began elsewhere, so no share of this run's is given.
    rows.push([COMMITTED, '', nats(losses.committed), '', '']);
  }
  const title = `validation loss, nats a token, over ${losses.validationTokens} tokens; parameters ${short(teacher.parameters)} → ${short(hybrid.parameters)}`;
  return `${title}\n${grid(rows)}`;
}

function facts({ preferences, decoding, cache }: DemoReport): string {
  const { before, after } = preferences;
  const rows = [
    ['preferences', 'before DPO', 'after'],
    ['accuracy', percent(before.accuracy), percent(after.accuracy)],
    ['accuracy a token', percent(before.accuracyPerToken), percent(after.accuracyPerToken)],
    ['margin, nats', before.margin.toFixed(2), after.margin.toFixed(2)],
    [
      'reward over the reference',
      '0',
      `${preferences.reward.toFixed(3)} (${percent(preferences.rewardAccuracy)} positive)`,
    ],
  ];
  const rate = (value: number) => `${value.toFixed(0)} tokens/s`;
  const speed = `decoding one row near ${decoding.context} tokens: teacher ${rate(decoding.teacherTokensPerSecond)}, hybrid ${rate(decoding.hybridTokensPerSecond)}`;
  const states = `recurrent states ${bytes(cache.stateBytes)} a row, whatever its length; the cache is the smaller one from ${cache.breakEvenTokens} tokens on`;
  return `${grid(rows)}\n\n${speed}\n${states}`;
}

const BAR = 30;

function smartBars({ smart }: DemoReport): string {
  const most = Math.max(...smart.scores.map(Math.abs), 1e-9);
  const lines = smart.scores.map((score, layer) => {
    const bar = '#'.repeat(Math.round((BAR * Math.max(0, score)) / most));
    const kind = smart.placement.includes(layer) ? 'MLA   ' : 'Mamba2';
    return `  ${String(layer).padStart(2)}  ${kind}  ${score.toFixed(4).padStart(8)}  ${bar}`;
  });
  return `SMART: what each layer gains as MLA, nats a token (KL of all Mamba2: ${smart.baseDivergence.toFixed(3)})\n${lines.join('\n')}`;
}

const WIDTH = 36;

function samples({ samples: { prompt, teacher, hybrid, committed } }: DemoReport): string {
  const titles = ['teacher', 'this hybrid', 'committed hybrid'];
  const texts = [teacher, hybrid, committed ?? 'not there yet'];
  const columns = texts.map((text, i) => [titles[i]!, '-'.repeat(WIDTH), ...wrap(text, WIDTH)]);
  const height = Math.max(...columns.map((column) => column.length));
  const lines = Array.from({ length: height }, (_, line) =>
    columns
      .map((column) => (column[line] ?? '').padEnd(WIDTH))
      .join('  ')
      .trimEnd(),
  );
  return `${JSON.stringify(prompt)} goes on\n${lines.join('\n')}`;
}

function footer({ seconds, recipe, hybrid, files }: DemoReport): string {
  // Every stage makes a few steps, however little time there is.
  const late = recipe.name === 'fitted' && seconds > LATE * recipe.budgetSeconds;
  const asked = late ? `, more than the ${recipe.budgetSeconds} s asked for` : '';
  return `${clock(seconds)} in all${asked}. To repeat it: --steps ${recipe.steps}. The hybrid: ${hybrid.folder}; plots: ${files.plots.join(', ')}`;
}

/** Columns of a table, the first to the left and numbers to the right, with a rule under the head. */
function grid(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd();
  const rule = widths.map((width) => '-'.repeat(width)).join('  ');
  return [line(rows[0]!), rule, ...rows.slice(1).map(line)].join('\n');
}

/** A text in lines of at most `width` characters, broken at spaces where there are any. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    for (const word of paragraph.split(' ').flatMap((one) => one.match(new RegExp(`.{1,${width}}`, 'gu')) ?? [''])) {
      if (line !== '' && line.length + 1 + word.length > width) {
        lines.push(line);
        line = word;
      } else line = line === '' ? word : `${line} ${word}`;
    }
    lines.push(line);
  }
  return lines;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

function bytes(count: number): string {
  return count < 4096 ? `${count} B` : `${(count / 1024).toFixed(1)} KiB`;
}
