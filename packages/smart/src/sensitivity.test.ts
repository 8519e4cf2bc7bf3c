import { klDivergence, scope, type Tensor, tensor } from '@zebra/tensor';
import { composeLayers, type LayeredCausalLM } from '@zebra/tensor/nn';
import { linearModel, testDevice } from '@zebra/tensor/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CalibrationBatch, sensitivityScores } from './index.js';

const device = await testDevice();
const SIZES = { vocabularySize: 37, hiddenSize: 12, layerCount: 4 };
let before = 0;
beforeEach(() => {
  before = device.statistics().liveBuffers;
});
afterEach(() => {
  expect(device.statistics().liveBuffers).toBe(before);
});

function makeBatch(seed: number): CalibrationBatch & { dispose(): void } {
  const ids = tensor(
    device,
    Int32Array.from({ length: 10 }, (_, i) => (i * 7 + seed) % 37),
    [2, 5],
  );
  const targets = tensor(
    device,
    Int32Array.from({ length: 10 }, (_, i) => (i % 5 === 4 ? -100 : 1)),
    [2, 5],
  );
  return {
    ids,
    targets,
    dispose() {
      ids.dispose();
      targets.dispose();
    },
  };
}

describe('sensitivityScores', () => {
  it('are what swapping layer by layer gives', async () => {
    const [teacher, base, alternative] = [1, 2, 3].map((seed) => linearModel(device, { ...SIZES, seed })) as [
      LayeredCausalLM & { dispose(): void },
      LayeredCausalLM & { dispose(): void },
      LayeredCausalLM & { dispose(): void },
    ];
    const batches = [makeBatch(0), makeBatch(5)];
    const progress: string[] = [];
    const found = await sensitivityScores({
      teacher,
      base,
      alternative,
      batches,
      onProgress: ({ batch, layer }) => progress.push(`${batch}.${layer}`),
    });
    const divergenceOf = async (model: LayeredCausalLM) => {
      let total = 0;
      for (const { ids, targets } of batches) {
        using value = scope(() =>
          klDivergence({
            teacher: { hidden: teacher.forward(ids), head: teacher.headWeight },
            student: { hidden: model.forward(ids), head: model.headWeight },
            targets: targets as Tensor,
          }),
        );
        total += await value.item();
      }
      return total / batches.length;
    };
    expect(found.baseDivergence).toBeCloseTo(await divergenceOf(base), 5);
    for (let layer = 0; layer < SIZES.layerCount; layer++) {
      const sources = Array.from({ length: SIZES.layerCount }, (_, i) => (i === layer ? alternative : base));
      const swapped = await divergenceOf(composeLayers(base, sources));
      expect(found.swappedDivergences[layer]).toBeCloseTo(swapped, 5);
      expect(found.scores[layer]).toBeCloseTo(found.baseDivergence - swapped, 5);
    }
    expect(progress).toEqual(['0.0', '0.1', '0.2', '0.3', '1.0', '1.1', '1.2', '1.3']);
    for (const item of [teacher, base, alternative, ...batches]) item.dispose();
  });

  it('are zero where the alternative is the base itself', async () => {
    const teacher = linearModel(device, { ...SIZES, seed: 1 });
    const base = linearModel(device, { ...SIZES, seed: 2 });
    const batch = makeBatch(1);
    const { scores } = await sensitivityScores({ teacher, base, alternative: base, batches: [batch] });
    expect(scores.every((score) => score === 0)).toBe(true);
    for (const item of [teacher, base, batch]) item.dispose();
  });

  it('refuse models that do not fit and an empty calibration set', async () => {
    const teacher = linearModel(device, { ...SIZES, seed: 1 });
    const shallow = linearModel(device, { ...SIZES, layerCount: 3, seed: 2 });
    await expect(sensitivityScores({ teacher, base: teacher, alternative: shallow, batches: [] })).rejects.toThrow(
      /alternative has 3 layers/,
    );
    await expect(sensitivityScores({ teacher, base: teacher, alternative: teacher, batches: [] })).rejects.toThrow(
      /empty/,
    );
    teacher.dispose();
    shallow.dispose();
  });
});
