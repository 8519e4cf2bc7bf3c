import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  HybridModel,
  loadModel,
  modelSpec,
  modelSpecs,
  parseTransformerConfig,
  perplexity,
  saveModel,
} from '@zebra/runtime';
import { keep, Random, tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { parseHTML } from 'linkedom';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadData, sampleOf } from './src/data.js';
import { runDemo } from './src/demo.js';
import { readOptions } from './src/options.js';
import type { DemoRecipe, StageRecipe } from './src/recipe.js';
import type { DemoReport } from './src/report.js';
import { reportText } from './src/table.js';

const CONFIG = {
  model_type: 'llama',
  vocab_size: 1024,
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  bos_token_id: 0,
  eos_token_id: 1,
};
const TOKENIZER = fileURLToPath(new URL('../corpus/tokenizer', import.meta.url));
const SAMPLE = { length: 64, tokens: 256, seed: 3 };

const stage = (steps: number | undefined): StageRecipe => ({
  batchSize: 2,
  learningRate: 3e-3,
  warmUp: 0.05,
  steps,
  least: 2,
  most: 3,
});

const RECIPE: DemoRecipe = {
  name: 'fitted',
  length: 32,
  mixerWeight: 1,
  evaluationLength: SAMPLE.length,
  evaluationRows: 2,
  validationTokens: SAMPLE.tokens,
  calibrationTokens: 128,
  pairs: { train: 4, evaluation: 4, length: 64, beta: 0.1 },
  sampleTokens: 6,
  // One stage has its steps fitted to the time, between two and three; the others are fixed.
  stages: { mla: stage(undefined), mamba2: stage(4), distillation: stage(6), preferences: stage(2) },
};

const device = await testDevice();
let folder: string;
let report: DemoReport;
let shown: string[];
let leaked: number;

/** A random teacher, steep enough that its layers matter. */
async function makeTeacher(path: string): Promise<void> {
  const spec = modelSpec(parseTransformerConfig(CONFIG));
  const random = new Random(5);
  const weights = [...modelSpecs(spec)].map(([name, shape]) => {
    const size = shape.reduce((product, length) => product * length, 1);
    const scale = shape.length === 1 ? 0 : name.includes('embed') ? 0.3 : 1.5 / Math.sqrt(shape[1]!);
    const values = Float32Array.from({ length: size }, () => (shape.length === 1 ? 1 : scale * random.normal()));
    return [name, keep(tensor(device, values, shape))] as const;
  });
  using model = new HybridModel(device, spec, new Map(weights));
  await saveModel(path, model, spec, { configJson: CONFIG, companionsFrom: TOKENIZER });
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'zebra-demo-'));
  const teacher = join(folder, 'teacher');
  await makeTeacher(teacher);
  const options = readOptions(['--teacher', teacher, '--hybrid', join(folder, 'none'), '--out', join(folder, 'out')])!;
  shown = [];
  const before = device.statistics().liveBuffers;
  report = await runDemo(options, {
    device,
    recipe: RECIPE,
    trainTokens: 4000,
    show: ({ title }) => shown.push(title),
  });
  await device.synchronize();
  leaked = device.statistics().liveBuffers - before;
});
afterAll(() => rmSync(folder, { recursive: true }));

const read = (path: string) => readFileSync(join(folder, 'out', path), 'utf8');

describe('the demo', () => {
  it('goes through all of its parts, and frees what it took', () => {
    expect([...new Set(shown)]).toHaveLength(Object.keys(report.parts).length);
    expect(leaked).toBe(0);
  });

  it('reports losses and the gap, the same on paper as returned', () => {
    expect(JSON.parse(read('report.json'))).toEqual(report);
    const { losses, gap } = report;
    const all = [losses.teacher, losses.mla, losses.mamba2, losses.composed, losses.distilled, losses.tuned];
    for (const loss of [...all, ...Object.values(losses.initial)]) expect(loss).toBeGreaterThan(0);
    expect(losses.validationTokens).toBeGreaterThan(0.9 * SAMPLE.tokens);
    expect(losses.committed).toBeNull();
    expect(gap.nats).toBe(losses.initial.composed - losses.teacher);
    expect(gap.closed.distilled).toBe((losses.initial.composed - losses.distilled) / gap.nats);
    for (const share of Object.values(gap.closed)) expect(Number.isFinite(share)).toBe(true);
  });

  it('trains every stage for its steps, and its losses fall', () => {
    const steps = Object.fromEntries(report.stages.map((one) => [one.stage, one.steps]));
    expect(steps).toMatchObject({ mamba2: 4, distillation: 6, preferences: 2 });
    expect([2, 3]).toContain(steps.mla);
    expect(report.recipe.steps).toBe(Object.values(steps).join(','));
    for (const { curve, tokens, seconds, stage: name } of report.stages) {
      expect(tokens).toBeGreaterThan(0);
      expect(seconds).toBeGreaterThan(0);
      if (name === 'mamba2' || name === 'distillation') expect(curve.at(-1)!.loss).toBeLessThan(curve[0]!.loss);
      const lines = read(`metrics/${name}.jsonl`).trim().split('\n');
      expect(lines.map((line) => JSON.parse(line).step)).toEqual(lines.map((_, i) => i + 1));
    }
  });

  it('places one layer of four by the scores, and says what the cache takes', () => {
    const { scores, placement } = report.smart;
    expect(scores).toHaveLength(4);
    expect(placement).toEqual([scores.indexOf(Math.max(...scores))]);
    // r_kv 6 and d_rope 4 in one layer, against 2·2·8 in each of four.
    expect(report.cache.sharePercent).toBeCloseTo((100 * 10) / 128, 10);
    expect(report.decoding.hybridTokensPerSecond).toBeGreaterThan(0);
  });

  it('tells how preferences changed', () => {
    const { before, after, evaluationPairs, trainPairs } = report.preferences;
    expect([trainPairs, evaluationPairs]).toEqual([4, 4]);
    for (const { accuracy, accuracyPerToken, margin } of [before, after]) {
      expect(accuracy).toBeGreaterThanOrEqual(0);
      expect(accuracyPerToken).toBeLessThanOrEqual(1);
      expect(Number.isFinite(margin)).toBe(true);
    }
    expect(report.preferences.reward).toBeCloseTo(0.1 * (after.margin - before.margin), 4);
  });

  it('saves the hybrid that it measured', async () => {
    using hybrid = await loadModel(device, join(folder, 'out', 'hybrid'));
    expect(hybrid.spec.layers.filter((kind) => kind === 'mla')).toHaveLength(1);
    const data = loadData({ tokenizerFolder: TOKENIZER, trainTokens: 100 });
    const sample = sampleOf(data.validation, { ...SAMPLE, length: 256, seed: 1 });
    const { nats } = await perplexity(hybrid, sample, { batchSize: 2, length: SAMPLE.length });
    // Saved in float32, so the very same model.
    expect(nats).toBe(report.losses.tuned);
  });

  it('writes text that begins with the prompt, a table, and plots that are XML', () => {
    const { teacher, hybrid, prompt, committed } = report.samples;
    expect([teacher, hybrid].every((text) => text.startsWith(prompt))).toBe(true);
    expect(committed).toBeNull();
    const text = reportText(report);
    for (const part of ['teacher', 'composed by SMART', 'not there yet', 'MLA', 'tokens/s', '--steps']) {
      expect(text).toContain(part);
    }
    expect(report.files.plots).toHaveLength(6);
    for (const name of report.files.plots) {
      const svg = read(name);
      expect(svg).toMatch(
        /^<\?xml version="1.0" encoding="UTF-8"\?>\n<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/,
      );
      expect(svg).not.toMatch(/NaN|undefined/);
      expect(balanced(svg)).toBe(true);
    }
    const bars = parseHTML(read('smart.svg')).document.querySelectorAll('g[aria-label="bar"] rect');
    expect(bars).toHaveLength(4);
    // Every curve is seen against 0.
    for (const { stage } of report.stages) {
      const { document } = parseHTML(read(`training-${stage}.svg`));
      const ticks = [...document.querySelectorAll('g[aria-label="y-axis tick label"] text')];
      expect(ticks.map(({ textContent }) => Number(textContent))).toContain(0);
    }
    // The losses stand beside the teacher's line, or over it, not under it.
    const labels = [...parseHTML(read('losses.svg')).document.querySelectorAll('g[aria-label="text"]')].at(-1)!;
    expect(labels.getAttribute('text-anchor')).toBe('start');
    expect(labels.getAttribute('stroke')).toBe('white');
    expect(labels.getAttribute('paint-order')).toBe('stroke');
  });
});

/** Whether every tag that opens is closed, in order, with no stray markup left between. */
function balanced(xml: string): boolean {
  const open: string[] = [];
  const rest = xml
    .replace(/<\?.*?\?>/g, '')
    .replace(/<(\/?)([\w:-]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g, (_, close, name, __, empty) => {
      if (close) {
        if (open.pop() !== name) open.push('!');
      } else if (!empty) open.push(name);
      return '';
    });
  return open.length === 0 && !rest.includes('<');
}
