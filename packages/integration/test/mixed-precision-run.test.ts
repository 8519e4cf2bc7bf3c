import { crossEntropy, Random, type RandomState } from '@zebra/tensor';
import { testDevice } from '@zebra/tensor/testing';
import { type BatchSource, type StepMetrics, train } from '@zebra/tensor/train';
import { describe, expect, it } from 'vitest';
import { type ModelKind, smallModel, VOCABULARY } from './support/small-model.js';

const STEPS = 200;
const ROWS = 2;
const LENGTH = 32;

const device = await testDevice();

/**
 * A language with something to learn: three tokens in four follow from the one before, the others are random. Batches
 * whose numbers are in `dropped` are never seen.
 */
function chains(seed: number, dropped: ReadonlySet<number>): BatchSource {
  let random = new Random(seed);
  let batch = 0;
  const spec = { shape: [ROWS, LENGTH], dtype: 'int32' } as const;
  const draw = () => Math.floor(random.uniform() * VOCABULARY);
  const drawRows = () =>
    Array.from({ length: ROWS }, () => {
      const row = [draw()];
      while (row.length <= LENGTH) row.push(random.uniform() < 0.75 ? (row.at(-1)! * 7 + 3) % VOCABULARY : draw());
      return row;
    });
  return {
    specs: { ids: spec, targets: spec },
    next() {
      let rows = drawRows();
      while (dropped.has(batch++)) rows = drawRows();
      return { ids: rows.flatMap((row) => row.slice(0, -1)), targets: rows.flatMap((row) => row.slice(1)) };
    },
    state: () => [...random.state],
    restore(state) {
      random = Random.from(state as unknown as RandomState);
    },
  };
}

async function run(
  kind: ModelKind,
  computeDType: 'float16' | 'float32',
  dropped: ReadonlySet<number> = new Set(),
): Promise<StepMetrics[]> {
  const model = smallModel(device, kind, 3, { computeDType });
  const steps: StepMetrics[] = [];
  const training = train({
    device,
    parameters: model.namedParameters(),
    loss: ({ ids, targets }) =>
      crossEntropy({ hidden: model.forward(ids!), head: model.headWeight, targets: targets! }),
    data: chains(11, dropped),
    steps: STEPS - dropped.size,
    learningRate: 1e-3,
    optimizer: { weightDecay: 0.1, maxGradientNorm: 1 },
    // A little too high for these models, so that the run has to survive an overflow or two.
    ...(computeDType === 'float16' && { lossScale: { initial: 2 ** 19 } }),
  });
  for await (const metrics of training) steps.push(metrics);
  model.dispose();
  return steps;
}

const mean = (list: readonly number[]) => list.reduce((sum, value) => sum + value, 0) / list.length;

describe.skipIf(!device.info.float16).each(['llama', 'mla-mamba2'] as const)(
  '%s trained in mixed precision',
  (kind) => {
    it('tracks the float32 run for 200 steps within 1%, overflows included', async () => {
      const before = device.statistics().liveBuffers;
      const mixed = await run(kind, 'float16');
      const skipped = new Set(
        mixed.flatMap(({ skippedSteps }, i) => (skippedSteps! > (mixed[i - 1]?.skippedSteps ?? 0) ? [i] : [])),
      );
      expect(skipped.size).toBeGreaterThan(0);
      expect(skipped.size).toBeLessThan(4);
      // A skipped step is to be as if it, and its batch, had never been. (A run that is merely one update behind differs by
      // up to 3% where the loss falls fast, which says nothing of rounding.)
      const exact = (await run(kind, 'float32', skipped)).map(({ loss }) => loss);
      const losses = mixed.map(({ loss }) => loss).filter((_, step) => !skipped.has(step));
      expect(losses).toHaveLength(exact.length);
      expect(exact.at(-1)).toBeLessThan(0.8 * exact[0]!);
      // Means over twenty steps: one step's loss is that of 64 tokens, of which one may be much less likely in one run.
      const windows = Array.from({ length: Math.ceil(exact.length / 20) }, (_, i) => [20 * i, 20 * i + 20] as const);
      const apart = windows.map(([from, to]) => mean(losses.slice(from, to)) / mean(exact.slice(from, to)) - 1);
      expect(Math.max(...apart.map(Math.abs))).toBeLessThan(0.01);
      expect(device.statistics().liveBuffers).toBe(before);
    });
  },
);
