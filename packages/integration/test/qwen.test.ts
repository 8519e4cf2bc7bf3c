import { distill, distillLayers } from '@zebra/distill';
import { type HybridLayerKind, type HybridModel, loadModel, saveModel } from '@zebra/runtime';
import { type Device, matmul, scope, type Tensor } from '@zebra/tensor';
import { composeLayers, type LayeredCausalLM } from '@zebra/tensor/nn';
import { testDevice } from '@zebra/tensor/testing';
import { packDocuments, type StepMetrics } from '@zebra/tensor/train';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeStudent } from '../src/qwen/students.js';
import { withFolder } from './support/folders.js';
import { int32, randomIds } from './support/rows.js';
import { CONFIGS, smallModel } from './support/small-model.js';

const LAYERS = 3;
const RANKS = { qLoraRank: 20, kvLoraRank: 14 };
/** What initialisation has to leave out of each family, on every layer. */
const LEFT_OUT = {
  qwen2: ['bias-dropped k_proj.bias', 'bias-dropped q_proj.bias', 'bias-dropped v_proj.bias'],
  qwen3: ['norm-folded k_norm.weight', 'norm-folded q_norm.weight'],
} as const;

let device: Device;
let live = 0;
beforeAll(async () => {
  device = await testDevice();
  live = device.statistics().liveBuffers;
});
afterAll(() => {
  expect(device.statistics().liveBuffers).toBe(live);
});

const allOf = (kind: HybridLayerKind) => new Array<HybridLayerKind>(LAYERS).fill(kind);

async function ends(run: AsyncIterable<StepMetrics>): Promise<[first: number, last: number]> {
  const losses: number[] = [];
  for await (const { loss } of run) losses.push(loss);
  return [losses[0]!, losses.at(-1)!];
}

async function logitsOf(model: LayeredCausalLM, ids: Tensor): Promise<Float32Array> {
  using logits = scope(() => matmul(model.forward(ids), model.headWeight, { transposeB: true }));
  return (await logits.read()) as Float32Array;
}

describe.each(['qwen2', 'qwen3'] as const)('a %s teacher', (family) => {
  it('becomes MLA and Mamba2 students that learn, and a hybrid that is saved and loaded', async () => {
    const before = device.statistics().liveBuffers;
    const teacher = smallModel(device, family, 21);
    const documents = [17, 9, 25, 12, 30].map((length, i) => randomIds(length, 40 + i));
    const pack = () => packDocuments(documents, { batchSize: 2, length: 16, seed: 1, boundaries: 'reset' });
    const run = { teacher, steps: 25, learningRate: 5e-3 };

    const students: HybridModel[] = [];
    for (const kind of ['mla', 'mamba2'] as const) {
      const { model, warnings } = await makeStudent(teacher, { layers: allOf(kind), ...RANKS });
      const said = new Set(warnings.map(({ code, argument }) => `${code} ${argument}`));
      expect([...said].sort()).toEqual(LEFT_OUT[family]);
      expect(warnings).toHaveLength(LAYERS * LEFT_OUT[family].length);
      const [first, last] = await ends(distillLayers({ ...run, student: model, data: pack() }));
      expect(last).toBeLessThan(0.8 * first);
      students.push(model);
    }

    const [mla, mamba2] = students as [HybridModel, HybridModel];
    // The composed hybrid shares its layers' tensors with the students.
    const layers: HybridLayerKind[] = ['mla', 'mamba2', 'mla'];
    const hybrid = composeLayers(
      mamba2,
      layers.map((kind) => (kind === 'mla' ? mla : mamba2)),
    );
    const [first, last] = await ends(distill({ ...run, student: hybrid, data: pack() }));
    expect(last).toBeLessThan(0.8 * first);

    using ids = int32(device, [randomIds(16, 90), randomIds(16, 91)]);
    const logits = await logitsOf(hybrid, ids);
    expect(logits.every(Number.isFinite)).toBe(true);
    // The same placement in a spec of its own, which is what a hybrid is saved with.
    const { model: blank } = await makeStudent(teacher, { layers, ...RANKS });
    await withFolder(async (folder) => {
      await saveModel(folder, hybrid, blank.spec, { configJson: CONFIGS[family] });
      using loaded = await loadModel(device, folder);
      expect(loaded.spec.layers).toEqual(layers);
      expect(await logitsOf(loaded, ids)).toEqual(logits);
    });
    for (const owned of [teacher, mla, mamba2, blank, ids]) owned.dispose();
    expect(device.statistics().liveBuffers).toBe(before);
  });
});
