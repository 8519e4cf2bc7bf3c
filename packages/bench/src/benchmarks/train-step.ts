import { countParameters, HybridModel, type ModelSpec } from '@zebra/runtime';
import { crossEntropy, type Device, tensor } from '@zebra/tensor';
import { randomWeights } from '../gpu/random-weights.js';
import type { Benchmark, Case, Precision } from '../runner/case.js';
import { randomIds } from './inputs.js';
import { benchModels, forwardFlops } from './models.js';
import { distillation, recordStep, type Step } from './step.js';
import { randomModel, teacherSpec } from './teacher.js';

/** Weights forward and backward, their gradients, and what AdamW reads and writes. */
const stepBytes = (spec: ModelSpec) => countParameters(spec) * 4 * (3 + 8);

const running = (step: Step, inputs: readonly { dispose(): void }[]) => ({
  run: () => step.run(1e-5),
  dispose() {
    step.dispose();
    for (const input of inputs) input.dispose();
  },
});

const idsOf = (device: Device, spec: ModelSpec, rows: number, length: number, seed = 1) =>
  tensor(device, randomIds([rows, length], spec.config.vocabularySize, seed), [rows, length]);

function trainCase(
  label: string,
  spec: ModelSpec,
  [rows, length]: readonly [number, number],
  dtype: Precision,
  modelOf: (device: Device) => HybridModel,
): Case {
  return {
    shape: `${label} B${rows} T${length} AdamW ${dtype}`,
    work: {
      flops: 3 * forwardFlops(spec, rows, length),
      bytes: stepBytes(spec),
      precision: dtype,
      tokens: rows * length,
    },
    prepare(device) {
      const model = modelOf(device);
      const [ids, targets] = [1, 2].map((seed) => idsOf(device, spec, rows, length, seed));
      const step = recordStep(device, model, () =>
        crossEntropy({ hidden: model.forward(ids!), head: model.headWeight, targets: targets! }),
      );
      return running(step, [ids!, targets!, model]);
    },
  };
}

/** One training step: forward, loss, backward and AdamW in one program, as the trainer records it. */
export const trainStepBenchmark: Benchmark = {
  name: 'train-step',
  cases(scale) {
    const teacher = trainCase('teacher', teacherSpec, [scale.large ? 32 : 4, 256], 'float32', (device) =>
      randomModel(device, teacherSpec),
    );
    const [llama] = scale.large ? benchModels(scale) : [];
    if (!llama) return [teacher];
    const spec = llama.spec(2048);
    const make = (device: Device) => new HybridModel(device, spec, randomWeights(device, spec));
    return [teacher, trainCase(llama.label, spec, [4, 2048], llama.dtype, make)];
  },
};

/** The same with a teacher's logits as targets: its forward pass, the student's both ways, KL over the vocabulary. */
export const distillationStepBenchmark: Benchmark = {
  name: 'distillation-step',
  cases(scale) {
    const [teacher, student] = benchModels(scale);
    if (!teacher || !student) return [];
    const [rows, length] = scale.large ? [4, 2048] : [2, 64];
    const [teacherSpec, spec] = [teacher.spec(length), student.spec(length)];
    const { dtype } = student;
    return [
      {
        shape: `${student.label} from ${teacher.label} B${rows} T${length} AdamW ${dtype}`,
        work: {
          flops: 3 * forwardFlops(spec, rows, length) + forwardFlops(teacherSpec, rows, length),
          bytes: stepBytes(spec) + countParameters(teacherSpec) * (dtype === 'float16' ? 2 : 4),
          precision: dtype,
          tokens: rows * length,
        },
        prepare(device) {
          const frozen = new HybridModel(device, teacherSpec, randomWeights(device, teacherSpec, { matrices: dtype }));
          const model = new HybridModel(device, spec, randomWeights(device, spec));
          const ids = idsOf(device, spec, rows, length);
          const step = recordStep(device, model, () => distillation(frozen, model, ids));
          return running(step, [ids, model, frozen]);
        },
      },
    ];
  },
};
