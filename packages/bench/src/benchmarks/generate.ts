import { generate, HybridModel, type ModelSpec } from '@zebra/runtime';
import type { Device } from '@zebra/tensor';
import { randomWeights } from '../gpu/random-weights.js';
import type { Benchmark, Case, Precision } from '../runner/case.js';
import { randomIds } from './inputs.js';
import { benchModels, cacheBytes, forwardFlops, weightBytes } from './models.js';
import { randomModel, teacherSpec } from './teacher.js';

interface Generation {
  readonly shape: string;
  readonly spec: ModelSpec;
  readonly dtype: Precision;
  readonly rows: number;
  readonly prompt: number;
  readonly added: number;
  readonly model: (device: Device) => HybridModel;
}

function generateCase({ shape, spec, dtype, rows, prompt, added, model: make }: Generation): Case {
  const { perToken, constant } = cacheBytes(spec);
  return {
    shape,
    work: {
      // The last token is not run through the model.
      flops: forwardFlops(spec, rows, prompt + added - 1, { headTokens: rows * added }),
      // Each step reads the weights, and what is cached so far.
      bytes: added * (weightBytes(spec, dtype) + rows * (perToken * (prompt + added / 2) + 2 * constant)),
      precision: dtype,
      tokens: rows * added,
    },
    prepare(device) {
      const model = make(device);
      const prompts = Array.from({ length: rows }, (_, row) => randomIds([prompt], model.vocabularySize, row));
      return {
        async run() {
          let tokens = 0;
          for await (const step of generate(model, prompts, { maxNewTokens: added })) tokens += step.tokens.length;
          if (tokens !== rows * added) throw new Error(`generate gave ${tokens} of ${rows * added} tokens`);
        },
        dispose: () => model.dispose(),
      };
    },
  };
}

/** Whole calls of `generate()`, greedy: the prompts, the recording of a step, and its replays, each read back. */
export const generateBenchmark: Benchmark = {
  name: 'generate',
  cases(scale) {
    const [prompt, added] = scale.large ? [128, 64] : [32, 32];
    const teachers = [1, 8].map((rows) =>
      generateCase({
        shape: `teacher B${rows} prompt ${prompt} + ${added} float32`,
        ...{ spec: teacherSpec, dtype: 'float32', rows, prompt, added },
        model: (device) => randomModel(device, teacherSpec),
      }),
    );
    if (!scale.large) return teachers;
    const large = benchModels(scale).flatMap(({ label, dtype, spec: specOf }) => {
      const spec = specOf(prompt + added);
      return [1, 32].map((rows) =>
        generateCase({
          shape: `${label} B${rows} prompt ${prompt} new ${added} ${dtype}`,
          ...{ spec, dtype, rows, prompt, added },
          model: (device) => new HybridModel(device, spec, randomWeights(device, spec, { matrices: dtype })),
        }),
      );
    });
    return [...teachers, ...large];
  },
};
