import { describe, expect, it } from 'vitest';
import { tensor } from '../../core/create.js';
import { valueAndGradients } from '../../core/gradients.js';
import { scope } from '../../core/scope.js';
import type { Tensor } from '../../core/tensor.js';
import { checkOp, normalValues, relativeError, testDevice, uniformSource } from '../../testing/index.js';
import { multiply } from '../pointwise/index.js';
import { tokenLogProbabilityOp } from '../token-log-probability/index.js';
import { selectedMeanOp } from '../vocabulary/index.js';
import { crossEntropy } from './index.js';

const ROWS = 130;
const VOCABULARY = 63;
const WIDTH = 5;

/** Loss and gradients of a mean cross-entropy in float64, from the references that it is made of. */
function expected(hidden: number[], head: number[], targets: readonly number[]) {
  const hosts = [
    { shape: [ROWS, WIDTH], data: Float64Array.from(hidden) },
    { shape: [VOCABULARY, WIDTH], data: Float64Array.from(head) },
    { shape: [ROWS], data: Float64Array.from(targets) },
  ];
  const attributes = { ignoreIndex: -100, chunkRows: ROWS, sign: -1 } as const;
  const selection = { kind: 'targets', ignoreIndex: -100, vocabulary: VOCABULARY } as const;
  const losses = tokenLogProbabilityOp.reference.forward(hosts, attributes)[0]!;
  const [loss] = selectedMeanOp.reference.forward([losses, hosts[2]], { selection, factor: 1 });
  const one = { shape: [1], data: Float64Array.of(1) };
  const upstream = selectedMeanOp.reference.backward!([losses, hosts[2]], { selection, factor: 1 }, [one]);
  const [dHidden, dHead] = tokenLogProbabilityOp.reference.backward!(hosts, attributes, upstream);
  return { losses: losses.data, loss: loss!.data, dHidden: dHidden!.data, dHead: dHead!.data };
}

describe('crossEntropy', async () => {
  const device = await testDevice();
  const random = uniformSource(3);
  const hidden = [...normalValues([ROWS, WIDTH], random).data];
  const head = [...normalValues([VOCABULARY, WIDTH], random).data];
  const some = Array.from({ length: ROWS }, (_, i) =>
    i % 3 === 0 ? -100 : i % 20 === 7 ? VOCABULARY : i % VOCABULARY,
  );
  const none = new Array<number>(ROWS).fill(-100);
  const make = (targets: readonly number[]) => ({
    hidden: tensor(device, hidden, [2, ROWS / 2, WIDTH]),
    head: tensor(device, head, [VOCABULARY, WIDTH]),
    targets: tensor(device, targets, [2, ROWS / 2], { dtype: 'int32' }),
  });
  const free = (tensors: Iterable<Tensor | undefined>) => {
    for (const item of tensors) item?.dispose();
  };

  it('is the mean over the rows that count, in a recorded program too', async () => {
    const before = device.statistics().liveBuffers;
    const given = make(none);
    const step = () => valueAndGradients(() => crossEntropy(given, { chunkRows: 64 }), [given.hidden, given.head]);
    const program = device.capture(step);
    for (const targets of [some, none, [...some].reverse()]) {
      given.targets.write(targets);
      program.run();
      const { value, gradients } = program.result;
      const want = expected(hidden, head, targets);
      // float32 sums of 5 products, 63 exponentials and 130 rows.
      expect(relativeError(await value.read(), want.loss)).toBeLessThanOrEqual(2e-6);
      expect(relativeError(await gradients[0]!.read(), want.dHidden)).toBeLessThanOrEqual(5e-6);
      expect(relativeError(await gradients[1]!.read(), want.dHead)).toBeLessThanOrEqual(5e-6);
    }
    program.dispose();
    const eager = step();
    expect(
      relativeError(await eager.value.read(), expected(hidden, head, [...some].reverse()).loss),
    ).toBeLessThanOrEqual(2e-6);
    free([...Object.values(given), program.result.value, ...program.result.gradients, eager.value, ...eager.gradients]);
    expect(device.statistics().liveBuffers).toBe(before);
  });

  it('is exactly 0 with gradients of 0 where nothing counts', async () => {
    const given = make(none);
    const { value, gradients } = valueAndGradients(() => crossEntropy(given), [given.hidden, given.head]);
    expect(await value.item()).toBe(0);
    for (const gradient of gradients) expect((await gradient!.read()).every((v) => v === 0)).toBe(true);
    free([...Object.values(given), value, ...gradients]);
  });

  it('gives one loss a row, and takes an upstream of its own for each', async () => {
    const given = make(some);
    const weights = tensor(
      device,
      Array.from({ length: ROWS }, (_, i) => i / ROWS),
      [2, ROWS / 2],
    );
    const losses = crossEntropy(given, { reduction: 'none' });
    expect(losses.shape).toEqual([2, ROWS / 2]);
    const got = await losses.read();
    expect(relativeError(got, expected(hidden, head, some).losses)).toBeLessThanOrEqual(2e-6);
    expect(got[0]).toBe(0);
    const weighted = scope(() => multiply(losses, weights));
    expect(
      relativeError(
        await weighted.read(),
        got.map((v, i) => (v * i) / ROWS),
      ),
    ).toBeLessThanOrEqual(1e-6);
    free([...Object.values(given), weights, losses, weighted]);
  });

  it('honours another ignoreIndex, and refuses an unknown reduction', async () => {
    const given = make(some.map((target) => (target === -100 ? 0 : target)));
    const loss = crossEntropy(given, { ignoreIndex: 0 });
    const want = expected(
      hidden,
      head,
      some.map((target) => (target === 0 ? -100 : target)),
    );
    expect(relativeError(await loss.read(), want.loss)).toBeLessThanOrEqual(2e-6);
    // @ts-expect-error not a reduction
    expect(() => crossEntropy(given, { reduction: 'sum' })).toThrow(/reduction must be/);
    free([...Object.values(given), loss]);
  });
});

describe('selectedMean', async () => {
  const mask = (i: number) => (i % 3 === 0 ? 0 : i - 5);
  const targets = (i: number) => (i % 3 === 0 ? -100 : i - 5);
  // At most 1000 summands in float32.
  const tolerance = { forward: 1e-5, gradient: 1e-6, numeric: 1e-5 };

  it.each(['native', 'hardware'] as const)('agrees with its reference (%s)', async (variant) => {
    const device = await testDevice(variant);
    for (const shape of [[1], [3], [7, 9], [1000]]) {
      const by = (values: (i: number) => number) => ({ shape, dtype: 'int32' as const, values });
      const cases = [
        { inputs: [{ shape }, undefined], attributes: { factor: 1 } },
        { inputs: [{ shape }, by(mask)], attributes: { factor: -2, selection: { kind: 'mask' } } },
        {
          inputs: [{ shape }, by(targets)],
          attributes: { factor: 1, selection: { kind: 'targets', ignoreIndex: -100, vocabulary: 30 } },
        },
        { inputs: [{ shape }, by(() => 0)], attributes: { factor: 1, selection: { kind: 'mask' } } },
      ] as const;
      for (const testCase of cases) await checkOp(device, selectedMeanOp, testCase, tolerance);
    }
  });
});
