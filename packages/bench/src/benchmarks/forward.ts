import { HybridModel } from '@zebra/runtime';
import { matmul, scope, slice, tensor } from '@zebra/tensor';
import { randomWeights } from '../gpu/random-weights.js';
import type { Benchmark, Case } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { randomIds } from './inputs.js';
import { benchModels, cacheBytes, forwardFlops, type NamedModel, weightBytes } from './models.js';

function forwardCase({ label, dtype, spec: specOf }: NamedModel, rows: number, length: number, logits: boolean): Case {
  const spec = specOf(length);
  const headTokens = logits ? rows * length : rows;
  const bytes = weightBytes(spec, dtype) + headTokens * spec.config.vocabularySize * (dtype === 'float16' ? 2 : 4);
  return {
    shape: `${label} B${rows} T${length}${logits ? ' with logits' : ''} ${dtype}`,
    work: {
      flops: forwardFlops(spec, rows, length, { headTokens }),
      bytes,
      precision: dtype,
      tokens: rows * length,
    },
    prepare(device) {
      const model = new HybridModel(device, spec, randomWeights(device, spec, { matrices: dtype }));
      const ids = tensor(device, randomIds([rows, length], model.vocabularySize), [rows, length]);
      return recorded(device, [ids, model], () => {
        const hidden = model.forward(ids);
        const read = logits ? hidden : slice(hidden, 1, length - 1, 1);
        return [matmul(read, model.headWeight, { transposeB: true })];
      });
    },
  };
}

/** A pass over rows without a cache, recorded: logits of the last tokens, or of all. Weights in the model's dtype. */
export const forwardBenchmark: Benchmark = {
  name: 'forward',
  cases(scale) {
    const [rows, length] = scale.large ? [4, 2048] : [2, 64];
    const [llama, hybrid] = benchModels(scale);
    if (!llama || !hybrid) return [];
    return [
      forwardCase(llama, rows, length, false),
      forwardCase(llama, rows, length, true),
      forwardCase(hybrid, rows, length, false),
    ];
  },
};

/** What a prompt costs before its first token: a pass that fills a new cache. Not recorded, as in `generate`. */
export const prefillBenchmark: Benchmark = {
  name: 'prefill',
  cases(scale) {
    const length = scale.large ? 2048 : 64;
    return benchModels(scale).map(({ label, dtype, spec: specOf }): Case => {
      const spec = specOf(length);
      const { perToken, constant } = cacheBytes(spec);
      return {
        shape: `${label} B1 T${length} ${dtype}`,
        work: {
          flops: forwardFlops(spec, 1, length, { headTokens: 1 }),
          bytes: weightBytes(spec, dtype) + length * perToken + constant,
          precision: dtype,
          tokens: length,
        },
        prepare(device) {
          const model = new HybridModel(device, spec, randomWeights(device, spec, { matrices: dtype }));
          const ids = tensor(device, randomIds([1, length], model.vocabularySize), [1, length]);
          const positions = tensor(
            device,
            Int32Array.from({ length }, (_, at) => at),
            [1, length],
          );
          return {
            run() {
              const cache = model.newCache(1, length);
              scope(() => {
                const hidden = model.forward(ids, { positions, cache });
                matmul(slice(hidden, 1, length - 1, 1), model.headWeight, { transposeB: true, dtype: 'float32' });
              });
              cache.dispose();
              device.flush();
            },
            dispose() {
              for (const item of [ids, positions, model]) item.dispose();
            },
          };
        },
      };
    });
  },
};
