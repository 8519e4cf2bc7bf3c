import { HybridModel } from '@zebra/runtime';
import { crossEntropy, tensor } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { describe, expect, it } from 'vitest';
import { randomWeights } from '../gpu/random-weights.js';
import { runCase } from '../runner/run-case.js';
import { decodeBenchmark, moveLength } from './decode.js';
import { forwardBenchmark, prefillBenchmark } from './forward.js';
import { randomIds } from './inputs.js';
import { benchModels, cacheBytes, forwardFlops } from './models.js';
import { scanBenchmark } from './scan.js';
import { recordStep } from './step.js';
import { distillationStepBenchmark } from './train-step.js';

const SMALL = { large: false, float16: false };
const LARGE = { large: true, float16: true };
const [llama, hybrid] = benchModels(SMALL) as [ReturnType<typeof benchModels>[0], ReturnType<typeof benchModels>[0]];

describe('what models are counted to do', () => {
  it.for(['float32', 'float16'] as const)('caches as many bytes as the layers say in %s', async (dtype, { skip }) => {
    const device = await testDevice();
    skip(dtype === 'float16' && !device.info.float16);
    for (const { spec: specOf } of [llama, hybrid]) {
      const spec = { ...specOf(8), computeDType: dtype };
      using model = new HybridModel(device, spec, randomWeights(device, spec));
      const cache = model.newCache(1, 8);
      expect(cacheBytes(spec)).toEqual({ perToken: cache.bytesPerToken, constant: cache.constantBytes });
      cache.dispose();
    }
  });

  it('computes what a count by hand gives', () => {
    // q and o [64, 64], k and v [32, 64], three of [128, 64], two norms of 64; three layers and the last norm.
    const body = 3 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64 + 2 * 64) + 64;
    const spec = llama.spec(8);
    expect(forwardFlops(spec, 2, 4)).toBe(2 * 8 * (body + 512 * 64) + 3 * 4 * 64 * 2 * 10);
    expect(forwardFlops(spec, 2, 1, { past: 3, headTokens: 0 })).toBe(2 * 2 * body + 3 * 4 * 64 * 2 * 4);
    // Tokens one by one cost what they cost together.
    const each = [0, 1, 2, 3].map((past) => forwardFlops(hybrid.spec(8), 1, 1, { past }));
    expect(each.reduce((sum, flops) => sum + flops)).toBe(forwardFlops(hybrid.spec(8), 1, 4));
  });

  it('leaves out what no card of 80 GB holds, and says so', () => {
    const skipped = decodeBenchmark.cases(LARGE).filter(({ skip }) => skip !== undefined);
    expect(skipped.map(({ shape }) => shape)).toEqual(['Llama-3.2-1B B64 context 32768 float16']);
    expect(decodeBenchmark.cases({ large: true, float16: false })).toEqual([]);
  });
});

describe('small cases', () => {
  const cases = [forwardBenchmark, prefillBenchmark, decodeBenchmark, distillationStepBenchmark, scanBenchmark];

  // A case that leaves a buffer behind fails.
  it.each(cases)('$name run, and leave nothing behind', async ({ cases: of }) => {
    const device = await testDevice();
    const budget = { total: 0, sample: 0, minSamples: 1, maxSamples: 1 };
    for (const one of of(SMALL)) expect((await runCase(device, one, budget)).memory).toBeGreaterThan(0);
  });

  it('decode the same token at every run: the cache is as long as before', async () => {
    const device = await testDevice();
    const spec = llama.spec(8);
    using model = new HybridModel(device, spec, randomWeights(device, spec));
    const cache = model.newCache(1, 8);
    moveLength(cache, 5);
    using ids = tensor(device, Int32Array.of(5), [1, 1]);
    using positions = tensor(device, Int32Array.of(5), [1, 1]);
    const program = device.capture(() => {
      const hidden = model.forward(ids, { positions, cache });
      moveLength(cache, -1);
      return hidden;
    });
    program.run();
    const first = await program.result.read();
    program.run();
    expect(await program.result.read()).toEqual(first);
    program.result.dispose();
    program.dispose();
    cache.dispose();
  });

  it.for(['float32', 'float16'] as const)(
    'train: the loss of a repeated step falls in %s',
    async (computeDType, { skip }) => {
      const device = await testDevice();
      skip(computeDType === 'float16' && !device.info.float16);
      const before = device.statistics().liveBuffers;
      const spec = { ...llama.spec(16), computeDType };
      const model = new HybridModel(device, spec, randomWeights(device, spec));
      const [ids, targets] = [1, 2].map((seed) => tensor(device, randomIds([2, 16], 512, seed), [2, 16]));
      const step = recordStep(device, model, () =>
        crossEntropy({ hidden: model.forward(ids!), head: model.headWeight, targets: targets! }),
      );
      const losses: number[] = [];
      for (let i = 0; i < 4; i++) {
        step.run(1e-3);
        losses.push(await step.program.result.item());
      }
      expect(losses.at(-1)).toBeLessThan(losses[0]! - 0.05);
      if (step.lossScale) expect((await step.lossScale.read()).skippedSteps).toBe(0);
      for (const item of [step, ids!, targets!, model]) item.dispose();
      expect(device.statistics().liveBuffers).toBe(before);
    },
  );
});

it('names its rows as the PyTorch baselines do', () => {
  const shapesOf = (benchmark: { cases: typeof decodeBenchmark.cases }) =>
    benchmark.cases(LARGE).map(({ shape }) => shape);
  expect(shapesOf(forwardBenchmark)).toEqual(
    expect.arrayContaining(['Llama-3.2-1B B4 T2048 float16', 'Llama-3.2-1B B4 T2048 with logits float16']),
  );
  expect(shapesOf(scanBenchmark)).toEqual(
    expect.arrayContaining(['forward B8 T2048 H32 P64 N64 G32', '+backward B8 T2048 H32 P64 N64 G32']),
  );
  expect(shapesOf(distillationStepBenchmark)).toEqual([
    '1B hybrid 4 MLA + 12 Mamba2 from Llama-3.2-1B B4 T2048 AdamW float16',
  ]);
});
