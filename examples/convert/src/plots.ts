import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { arrow, barY, dot, lineY, plot, ruleX, ruleY, text } from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { TITLES } from './budget.js';
import type { DemoReport, StageReport } from './report.js';
import { COMMITTED } from './table.js';

type PlotOptions = NonNullable<Parameters<typeof plot>[0]>;

const COLOURS = { mla: '#c2410c', mamba2: '#0f766e', plain: '#334155', faint: '#94a3b8' } as const;
const WIDTH = 760;
/** Of a text that a line may cross: the line is broken behind it. */
const HALO = { fill: 'black', stroke: 'white', strokeWidth: 5 } as const;
const FONT = 'system-ui, sans-serif';

/**
 * Draws the report as SVG files: losses of the models (`losses.svg`), the training loss of each stage
 * (`training-<stage>.svg`) and the SMART scores with the placement (`smart.svg`).
 *
 * @returns the files' names
 */
export async function writePlots(folder: string, report: DemoReport): Promise<string[]> {
  const drawn = new Map<string, string>([
    ['losses.svg', lossPlot(report)],
    ['smart.svg', smartPlot(report)],
    ...report.stages.map((stage) => [`training-${stage.stage}.svg`, curvePlot(stage)] as const),
  ]);
  for (const [name, svg] of drawn) await writeFile(join(folder, name), svg);
  return [...drawn.keys()];
}

/** A model's loss: where it began and where it came to. */
interface LossRow {
  readonly name: string;
  readonly from?: number;
  readonly to: number;
}

function lossPlot({ losses, gap }: DemoReport): string {
  const rows: LossRow[] = [
    { name: 'all MLA', from: losses.initial.mla, to: losses.mla },
    { name: 'all Mamba2', from: losses.initial.mamba2, to: losses.mamba2 },
    { name: 'composed', from: losses.initial.composed, to: losses.composed },
    { name: 'distilled', from: losses.composed, to: losses.distilled },
    { name: 'tuned (DPO)', from: losses.distilled, to: losses.tuned },
    ...(losses.committed === null ? [] : [{ name: COMMITTED, to: losses.committed }]),
  ];
  const moved = rows.filter((row) => row.from !== undefined);
  const share = `${(100 * gap.closed.distilled).toFixed(0)}% of the gap closed by distillation`;
  return draw({
    title: `Validation loss: ${share}`,
    height: 70 + 40 * rows.length,
    marginLeft: 140,
    marginRight: 60,
    x: { label: 'nats a token', grid: true, nice: true },
    y: { label: null, domain: rows.map(({ name }) => name) },
    marks: [
      ruleX([losses.teacher], { stroke: COLOURS.plain, strokeDasharray: '4,3' }),
      text([losses.teacher], {
        x: (value: number) => value,
        frameAnchor: 'top',
        dy: -20,
        text: () => `teacher ${losses.teacher.toFixed(3)}`,
      }),
      arrow(moved, { x1: 'from', x2: 'to', y1: 'name', y2: 'name', stroke: COLOURS.faint, headLength: 6, inset: 5 }),
      dot(moved, { x: 'from', y: 'name', r: 4, stroke: COLOURS.plain, fill: 'white' }),
      dot(rows, { x: 'to', y: 'name', r: 4.5, fill: COLOURS.mla }),
      // To the right of its dot, and so of the teacher's line, which few models get below.
      text(rows, {
        x: 'to',
        y: 'name',
        text: ({ to }: LossRow) => to.toFixed(3),
        textAnchor: 'start',
        dy: -12,
        ...HALO,
      }),
    ],
  });
}

function smartPlot({ smart }: DemoReport): string {
  const bars = smart.scores.map((score, layer) => ({ layer, score, mla: smart.placement.includes(layer) }));
  const ends = { x: 'layer', y: 'score', text: ({ mla }: { mla: boolean }) => (mla ? 'MLA' : '') };
  return draw({
    title: 'SMART: what each layer gains as MLA in the all-Mamba2 student',
    height: 300,
    marginLeft: 60,
    x: { label: 'layer', tickSize: 0 },
    y: { label: 'KL divergence saved, nats a token', grid: true, nice: true },
    marks: [
      barY(bars, {
        x: 'layer',
        y: 'score',
        fill: ({ mla }: { mla: boolean }) => (mla ? COLOURS.mla : COLOURS.mamba2),
        insetLeft: 2,
        insetRight: 2,
      }),
      text(
        bars.filter(({ score }) => score >= 0),
        { ...ends, dy: -8 },
      ),
      text(
        bars.filter(({ score }) => score < 0),
        { ...ends, dy: 8 },
      ),
      ruleY([0]),
    ],
  });
}

const LOSSES = {
  mla: 'sum over layers of mean distances',
  mamba2: 'sum over layers of mean distances',
  distillation: 'KL divergence, nats a token',
  preferences: 'DPO loss, nats',
} as const;

function curvePlot({ stage, steps, batchSize, curve }: StageReport): string {
  return draw({
    title: `${TITLES[stage]}: ${steps} steps of ${batchSize} ${stage === 'preferences' ? 'pairs' : 'rows'}`,
    height: 300,
    marginLeft: 60,
    x: { label: 'step', nice: true },
    y: { label: LOSSES[stage], grid: true, nice: true, zero: true },
    marks: [
      lineY(curve, { x: 'step', y: 'loss', stroke: stage === 'mla' ? COLOURS.mla : COLOURS.mamba2, strokeWidth: 1.5 }),
    ],
  });
}

const SVG = 'http://www.w3.org/2000/svg';
const TITLE_HEIGHT = 32;

/** A plot as a file of its own: on a white ground below a title, and with the namespace that makes it SVG. */
function draw({ title, ...options }: PlotOptions & { readonly title: string; readonly height: number }): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const make = (name: string, attributes: Readonly<Record<string, string | number>>) => {
    const element = document.createElementNS(SVG, name);
    for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, String(value));
    return element;
  };
  const height = options.height + TITLE_HEIGHT;
  const outer = make('svg', { xmlns: SVG, width: WIDTH, height, viewBox: `0 0 ${WIDTH} ${height}` });
  const heading = make('text', {
    x: 16,
    y: 22,
    fill: COLOURS.plain,
    'font-family': FONT,
    'font-size': 15,
    'font-weight': 600,
  });
  heading.textContent = title;
  const style = { fontFamily: FONT, fontSize: '12px' };
  const inner = plot({ document, width: WIDTH, marginTop: 36, marginBottom: 44, style, ...options });
  inner.setAttribute('y', String(TITLE_HEIGHT));
  outer.append(make('rect', { width: '100%', height: '100%', fill: 'white' }), heading, inner);
  return `<?xml version="1.0" encoding="UTF-8"?>\n${outer.outerHTML}\n`;
}
