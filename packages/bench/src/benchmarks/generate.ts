import { generate } from '@zebra/runtime';
import type { Benchmark, Case } from '../runner/case.js';
import { randomIds } from './inputs.js';
import { cacheBytesPerToken, forwardFlops, parameterCount, randomModel, teacherSpec } from './teacher.js';

function generateCase(rows: number, prompt: number, added: number): Case {
  const parameters = parameterCount(teacherSpec);
  return {
    shape: `teacher B${rows} prompt ${prompt} + ${added} float32`,
    work: {
      // The last token is not run through the model.
      flops: forwardFlops(teacherSpec, parameters, rows, prompt + added - 1),
      // Each step reads the weights, and the keys and values so far.
      bytes: added * (4 * parameters + rows * cacheBytesPerToken(teacherSpec) * (prompt + added / 2)),
      tokens: rows * added,
    },
    prepare(device) {
      const model = randomModel(device, teacherSpec);
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
  cases: ({ large }) => [1, 8].map((rows) => (large ? generateCase(rows, 128, 64) : generateCase(rows, 32, 32))),
};
