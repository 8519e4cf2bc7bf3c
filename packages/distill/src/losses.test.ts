import { scope, type Tensor, tensor, valueAndGradients } from '@zebra/tensor';
import { linearModel, type OwnedModel, testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { distillationLoss } from './distillation.js';
import { layerDistillationLoss, layerDistillationParameters } from './layer-distillation.js';

const SIZES = { vocabularySize: 11, hiddenSize: 6, layerCount: 3 };
const IDS = [3, 1, 4, 1, 5, 9, 2, 6];

/** float32 sums of at most some tens of terms, on devices whose exp and sqrt are good to a few units in the last place. */
const TOLERANCE = 1e-5;

const device = await testDevice();

function models(seed = 2): { teacher: OwnedModel; student: OwnedModel; ids: Tensor; dispose: () => void } {
  const teacher = linearModel(device, { ...SIZES, seed: 1 });
  const student = linearModel(device, { ...SIZES, seed: seed });
  const ids = tensor(device, Int32Array.from(IDS), [2, 4]);
  const dispose = () => {
    for (const owned of [teacher, student, ids]) owned.dispose();
  };
  return { teacher, student, ids, dispose };
}

const within = (got: number, wanted: number) =>
  expect(Math.abs(got - wanted) / Math.abs(wanted)).toBeLessThan(TOLERANCE);

async function item(f: () => Tensor): Promise<number> {
  using value = scope(f);
  return await value.item();
}

/** Mean over rows of ‖a_i − b_i‖₂, in float64. */
async function meanDistance(a: Tensor, b: Tensor): Promise<number> {
  const [x, y] = [await a.read(), await b.read()];
  let total = 0;
  for (let row = 0; row < x.length; row += SIZES.hiddenSize) {
    let squares = 0;
    for (let i = row; i < row + SIZES.hiddenSize; i++) squares += (x[i]! - y[i]!) ** 2;
    total += Math.sqrt(squares);
  }
  return total / (x.length / SIZES.hiddenSize);
}

/** What the loss should be, from what went through each layer. */
async function expectedLayerLoss(
  { teacher, student, ids }: ReturnType<typeof models>,
  mixerWeight: number,
): Promise<number> {
  const inputs: Tensor[] = [];
  const outputs: Tensor[] = [];
  const mixed: Tensor[] = [];
  const made = [inputs, outputs, mixed];
  const final = teacher.forward(ids, {
    observe: (_, { input, output, mixerOutput }) => {
      inputs.push(input);
      outputs.push(output);
      mixed.push(mixerOutput);
    },
  });
  let total = 0;
  for (let layer = 0; layer < SIZES.layerCount; layer++) {
    const last = layer === SIZES.layerCount - 1;
    const { output, mixerOutput } = student.forwardLayer(layer, inputs[layer]!, {});
    const hidden = last ? student.finalNorm(output) : output;
    total += await meanDistance(hidden, last ? final : outputs[layer]!);
    total += mixerWeight * (await meanDistance(mixerOutput, mixed[layer]!));
    made.push([output, mixerOutput, ...(last ? [hidden] : [])]);
  }
  for (const one of [...made.flat(), final]) one.dispose();
  return total;
}

describe('layerDistillationLoss', () => {
  it.each([0, 0.7])(
    'is the sum of mean distances of every layer to its teacher, mixers weighted %s',
    async (mixerWeight) => {
      const both = models();
      const wanted = await expectedLayerLoss(both, mixerWeight);
      const { teacher, student, ids } = both;
      within(await item(() => layerDistillationLoss(teacher, student, { ids }, { mixerWeight })), wanted);
      both.dispose();
    },
  );

  it('sends no gradient across layers', async () => {
    const { teacher, student, ids, dispose } = models();
    const names = [...layerDistillationParameters(student).keys()];
    const before = await gradients(teacher, student, ids);
    // What layer 2 does has no say in layers 0 and 1, though layer 2's own gradient changes.
    const moved = student.namedParameters().get('model.layers.2.weight')!;
    moved.write(Float32Array.from(await moved.read(), (value) => 3 * value));
    const after = await gradients(teacher, student, ids);
    names.forEach((name, index) => {
      if (name.startsWith('model.layers.2.')) expect(after[index]).not.toEqual(before[index]);
      else expect(after[index]).toEqual(before[index]);
    });
    dispose();
  });

  it('is 0 for a student that is its teacher, with gradients of 0', async () => {
    const { teacher, student, ids, dispose } = models(1);
    expect(await item(() => layerDistillationLoss(teacher, student, { ids }))).toBe(0);
    for (const gradient of await gradients(teacher, student, ids)) {
      expect(gradient.every((value) => value === 0)).toBe(true);
    }
    dispose();
  });

  it('has the same gradients with layers recomputed', async () => {
    const { teacher, student, ids, dispose } = models();
    const plain = await gradients(teacher, student, ids);
    expect(await gradients(teacher, student, ids, { checkpointLayers: true })).toEqual(plain);
    dispose();
  });

  it('trains the layers alone, and refuses a student of another shape', () => {
    const { teacher, student, ids, dispose } = models();
    const names = [...layerDistillationParameters(student).keys()];
    expect(names).toHaveLength(SIZES.layerCount);
    expect(names.every((name) => name.startsWith('model.layers.'))).toBe(true);
    const shallow = linearModel(device, { ...SIZES, layerCount: 2, seed: 3 });
    expect(() => layerDistillationLoss(teacher, shallow, { ids })).toThrow(
      /teacher has 3 layers of size 6, the student 2/,
    );
    shallow.dispose();
    dispose();
  });
});

async function gradients(
  teacher: OwnedModel,
  student: OwnedModel,
  ids: Tensor,
  options: { checkpointLayers?: boolean } = {},
): Promise<Float32Array[]> {
  const parameters = [...layerDistillationParameters(student).values()];
  const { value, gradients: found } = valueAndGradients(
    () => layerDistillationLoss(teacher, student, { ids }, options),
    parameters,
  );
  value.dispose();
  const values: Float32Array[] = [];
  for (const gradient of found) {
    values.push((await gradient!.read()) as Float32Array);
    gradient!.dispose();
  }
  return values;
}

/** log softmax of each row of hidden · headᵀ / temperature, in float64. */
async function logProbabilities(model: OwnedModel, ids: Tensor, temperature = 1): Promise<Float64Array[]> {
  using hidden = scope(() => model.forward(ids));
  const [h, head] = [await hidden.read(), await model.headWeight.read()];
  return Array.from({ length: ids.size }, (_, row) => {
    const logits = Float64Array.from({ length: SIZES.vocabularySize }, (_, v) => {
      let dot = 0;
      for (let i = 0; i < SIZES.hiddenSize; i++)
        dot += h[row * SIZES.hiddenSize + i]! * head[v * SIZES.hiddenSize + i]!;
      return dot / temperature;
    });
    const largest = Math.max(...logits);
    const sum = Math.log(logits.reduce((total, value) => total + Math.exp(value - largest), 0)) + largest;
    return logits.map((value) => value - sum);
  });
}

async function expectedDivergence(
  teacher: OwnedModel,
  student: OwnedModel,
  ids: Tensor,
  temperature?: number,
): Promise<number> {
  const [p, q] = [await logProbabilities(teacher, ids, temperature), await logProbabilities(student, ids, temperature)];
  const rows = p.map((row, i) => row.reduce((sum, value, v) => sum + Math.exp(value) * (value - q[i]![v]!), 0));
  return rows.reduce((sum, value) => sum + value, 0) / rows.length;
}

describe('distillationLoss', () => {
  it.each([1, 2])('is the mean KL divergence over tokens at temperature %s', async (temperature) => {
    const { teacher, student, ids, dispose } = models();
    const wanted = await expectedDivergence(teacher, student, ids, temperature);
    within(await item(() => distillationLoss(teacher, student, { ids }, { temperature })), wanted);
    dispose();
  });

  it('adds cross-entropy by its weight, over the tokens that have a target', async () => {
    const { teacher, student, ids, dispose } = models();
    const wanted = [1, 4, 1, -100, 9, 2, 6, -100];
    using targets = tensor(device, Int32Array.from(wanted), [2, 4]);
    const rows = await logProbabilities(student, ids);
    const counted = wanted.flatMap((target, i) => (target < 0 ? [] : [-rows[i]![target]!]));
    const entropy = counted.reduce((sum, value) => sum + value, 0) / counted.length;
    const expected = 0.5 * (await expectedDivergence(teacher, student, ids)) + 0.25 * entropy;
    const options = { divergenceWeight: 0.5, crossEntropyWeight: 0.25 };
    within(await item(() => distillationLoss(teacher, student, { ids, targets }, options)), expected);
    expect(() => distillationLoss(teacher, student, { ids }, options)).toThrow(/needs targets/);
    dispose();
  });

  it('refuses models of different vocabularies', () => {
    const { teacher, ids, dispose } = models();
    const other = linearModel(device, { ...SIZES, vocabularySize: 12, seed: 3 });
    expect(() => distillationLoss(teacher, other, { ids })).toThrow(/the teacher has 11 tokens, the student 12/);
    other.dispose();
    dispose();
  });
});
