import { HybridModel } from '@zebra/runtime';
import { argmax, type Device, matmul, reshape, scope, tensor } from '@zebra/tensor';
import { type Cache, SequenceCache } from '@zebra/tensor/nn';
import { randomWeights } from '../gpu/random-weights.js';
import type { Benchmark, Case } from '../runner/case.js';
import { recorded } from '../runner/recorded.js';
import { benchModels, cacheBytes, forwardFlops, type NamedModel, weightBytes } from './models.js';

/** What a card of 80 GB has room for, beside what the driver takes. */
const MOST_BYTES = 70e9;

/** Moves the length of a cache, whatever the rows hold that nobody computed. Within a capture by a recorded dispatch. */
export function moveLength(cache: Cache, tokens: number): void {
  if (!(cache instanceof SequenceCache)) throw new TypeError('decode: a cache of another kind');
  scope(() => cache.pass(tokens, undefined, () => undefined));
}

function decodeCase({ label, dtype, spec: specOf }: NamedModel, batch: number, context: number): Case {
  const spec = specOf(context + 1);
  const { perToken, constant } = cacheBytes(spec);
  const weights = weightBytes(spec, dtype);
  const cached = batch * (context * perToken + constant);
  const needed = weights + cached;
  return {
    shape: `${label} B${batch} context ${context} ${dtype}`,
    ...(needed > MOST_BYTES && {
      skip: `weights and cache are ${(needed / 1e9).toFixed(0)} GB, more than ${MOST_BYTES / 1e9}`,
    }),
    work: {
      flops: forwardFlops(spec, batch, 1, { past: context }),
      // States are written again.
      bytes: needed + batch * constant,
      precision: dtype,
      tokens: batch,
    },
    prepare: (device) => prepare(device, specOf(context + 1), batch, context, dtype),
  };
}

/** One greedy step, as `generate` records it, but that the cache's length goes back: every run sees the same context. */
function prepare(
  device: Device,
  spec: ReturnType<NamedModel['spec']>,
  batch: number,
  context: number,
  dtype: 'float16' | 'float32',
) {
  const model = new HybridModel(device, spec, randomWeights(device, spec, { matrices: dtype }));
  const cache = model.newCache(batch, context + 1);
  moveLength(cache, context);
  const column = (value: number) => tensor(device, new Int32Array(batch).fill(value), [batch, 1]);
  const [ids, positions] = [column(5), column(context)];
  return recorded(device, [cache, ids, positions, model], () => {
    const hidden = model.forward(ids, { positions, cache });
    const logits = matmul(hidden, model.headWeight, { transposeB: true, dtype: 'float32' });
    moveLength(cache, -1);
    return [argmax(reshape(logits, [batch, -1]), { finite: true })];
  });
}

/** One token a row of a batch whose caches hold `context` tokens. */
export const decodeBenchmark: Benchmark = {
  name: 'decode',
  cases(scale) {
    const batches = scale.large ? [1, 8, 64] : [1, 8];
    const contexts = scale.large ? [1024, 8192, 32_768] : [64, 256];
    return benchModels(scale).flatMap((model) =>
      contexts.flatMap((context) => batches.map((batch) => decodeCase(model, batch, context))),
    );
  },
};
