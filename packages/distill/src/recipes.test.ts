import { linearModel, type OwnedModel, testDevice } from '@zebra/tensor/testing';
import { packDocuments, type StepMetrics } from '@zebra/tensor/train';
import { describe, expect, it } from 'vitest';
import { distill, distillLayers, PUBLISHED_DISTILLATION, PUBLISHED_LAYER_DISTILLATION } from './recipes.js';

const SIZES = { vocabularySize: 13, hiddenSize: 8, layerCount: 2 };
const device = await testDevice();

const data = () =>
  packDocuments(
    Array.from({ length: 9 }, (_, i) =>
      Uint16Array.from({ length: 5 + i }, (_, t) => (i * 7 + t * 3) % SIZES.vocabularySize),
    ),
    { batchSize: 2, length: 16, seed: 1, boundaries: 'reset' },
  );

async function all(run: AsyncGenerator<StepMetrics, unknown, void>): Promise<StepMetrics[]> {
  const steps: StepMetrics[] = [];
  for await (const step of run) steps.push(step);
  return steps;
}

async function weights(model: OwnedModel): Promise<Map<string, number[]>> {
  const values = new Map<string, number[]>();
  for (const [name, parameter] of model.namedParameters()) values.set(name, [...(await parameter.read())]);
  return values;
}

describe.each([
  ['distillLayers', distillLayers],
  ['distill', distill],
] as const)('%s', (name, recipe) => {
  it('brings the loss down, trains what it should, leaves the teacher alone and frees what it took', async () => {
    const teacher = linearModel(device, { ...SIZES, seed: 1 });
    const student = linearModel(device, { ...SIZES, seed: 2 });
    const [teacherBefore, before] = [await weights(teacher), await weights(student)];
    await device.synchronize();
    const { liveBuffers } = device.statistics();
    const metrics = await all(recipe({ teacher, student, data: data(), steps: 30, learningRate: 0.05 }));
    expect(device.statistics().liveBuffers).toBe(liveBuffers);
    expect(metrics).toHaveLength(30);
    // The final norm, another than the teacher's here, is not trained by distillLayers, so that its loss cannot reach 0.
    expect(metrics[29]!.loss).toBeLessThan(0.7 * metrics[0]!.loss);
    expect(await weights(teacher)).toEqual(teacherBefore);
    for (const [parameter, values] of await weights(student)) {
      const trained = name === 'distill' || parameter.startsWith('model.layers.');
      if (trained) expect(values, parameter).not.toEqual(before.get(parameter));
      else expect(values, parameter).toEqual(before.get(parameter));
    }
    teacher.dispose();
    student.dispose();
  });

  it('warms up, then follows a cosine to 0 from the published rate unless told otherwise', async () => {
    const teacher = linearModel(device, { ...SIZES, seed: 1 });
    const student = linearModel(device, { ...SIZES, seed: 2 });
    const run = { teacher, student, data: data(), steps: 8 };
    const rates = async (options: object) =>
      (await all(recipe({ ...run, ...options }))).map((step) => step.learningRate);
    const peak = name === 'distill' ? 8e-5 : 2e-4;
    const standard = await rates({});
    expect(standard[0]).toBe(peak);
    for (let i = 1; i < 8; i++) {
      expect(standard[i]).toBeCloseTo(peak * 0.5 * (1 + Math.cos((Math.PI * (i - 1)) / 7)), 12);
    }
    expect((await rates({ learningRate: 1, warmUp: 4 })).slice(0, 5)).toEqual([0.25, 0.5, 0.75, 1, 1]);
    expect(await rates({ learningRate: 1, schedule: () => 0.5 })).toEqual(new Array(8).fill(0.5));
    teacher.dispose();
    student.dispose();
  });
});

describe('distill', () => {
  it('trains only the parameters it is given', async () => {
    const teacher = linearModel(device, { ...SIZES, seed: 1 });
    const student = linearModel(device, { ...SIZES, seed: 2 });
    const before = await weights(student);
    const parameters = student.layerParameters(1);
    await all(distill({ teacher, student, data: data(), steps: 3, learningRate: 0.02, parameters }));
    for (const [name, values] of await weights(student)) {
      if (parameters.has(name)) expect(values).not.toEqual(before.get(name));
      else expect(values).toEqual(before.get(name));
    }
    teacher.dispose();
    student.dispose();
  });

  it('says what a data source lacks', async () => {
    const model = linearModel(device, { ...SIZES, seed: 1 });
    const source = {
      specs: { x: { shape: [1], dtype: 'float32' as const } },
      next: () => ({ x: [1] }),
      state: () => 0,
      restore: () => {},
    };
    await expect(all(distill({ teacher: model, student: model, data: source, steps: 1 }))).rejects.toThrow(
      /have no `ids`/,
    );
    model.dispose();
  });
});

describe('the published recipes', () => {
  it('clip the gradients of a loss a token as the reference clips those of its loss a sequence', async () => {
    for (const { maxGradientNorm, epsilon, length } of Object.values(PUBLISHED_DISTILLATION)) {
      expect(maxGradientNorm! * length).toBe(1);
      expect(epsilon! * length).toBe(1e-8);
    }
    // Both AdamW steps move the weights alike: scaled gradients with a scaled clip and ε give the same update.
    const teacher = linearModel(device, { ...SIZES, seed: 1 });
    const length = 2048;
    const moved: number[][] = [];
    for (const factor of [1, length]) {
      const student = linearModel(device, { ...SIZES, seed: 2 });
      const optimizer = { maxGradientNorm: factor / length, epsilon: (factor * 1e-8) / length };
      const run = { teacher, student, data: data(), steps: 3, learningRate: 1e-3, optimizer };
      await all(distill({ ...run, divergenceWeight: factor }));
      moved.push([...(await student.namedParameters().get('model.layers.0.weight')!.read())]);
      student.dispose();
    }
    // A few roundings apart in weights near 0.2 that moved by some 1e-3.
    for (const [i, value] of moved[0]!.entries()) expect(moved[1]![i]).toBeCloseTo(value, 5);
    teacher.dispose();
  });

  it('distil layers on the first fifth of the tokens', () => {
    for (const size of ['1B', '3B', '8B'] as const) {
      expect(PUBLISHED_LAYER_DISTILLATION[size].tokens).toBe(0.2 * PUBLISHED_DISTILLATION[size].tokens);
    }
  });
});
