import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tensor } from '../core/create.js';
import { defineOp } from '../core/define-op.js';
import type { Tensor } from '../core/tensor.js';
import { exponential, logarithm, multiply, shift, square } from '../ops/pointwise/index.js';
import { mean, sum } from '../ops/reduce/index.js';
import { relativeError, testDevice } from '../testing/index.js';
import type { BatchSource } from './batch-source.js';
import { packDocuments } from './packing.js';
import { drain, pointSource, regression } from './test-run.js';
import { train } from './train.js';
import type { TrainOptions } from './train-options.js';

const device = await testDevice();
let before = 0;
beforeEach(() => {
  before = device.statistics().liveBuffers;
});
afterEach(() => {
  expect(device.statistics().liveBuffers).toBe(before);
});

/** A whole run of the regression: losses, norms and final parameters. */
async function runAll(changes: Partial<TrainOptions> = {}) {
  const model = regression(device, changes);
  const { metrics, result, error } = await drain(train(model.options));
  const numbers = metrics.map(({ loss, gradientNorm }) => [loss, gradientNorm]);
  const weights = [...(await model.weight.read()), ...(await model.bias.read())];
  model.dispose();
  return { metrics, result, error, numbers, weights };
}

/** Batches of the first run, each cut into equal parts, as batches of their own. */
function splitSource(rows: number, parts: number): BatchSource {
  const whole = pointSource(rows);
  const queue: Record<string, number[]>[] = [];
  const size = rows / parts;
  return {
    ...pointSource(size),
    next() {
      if (queue.length === 0) {
        const { x, y } = whole.next() as Record<string, number[]>;
        for (let k = 0; k < parts; k++) {
          const slice = (values: number[], width: number) => values.slice(k * size * width, (k + 1) * size * width);
          queue.push({ x: slice(x!, x!.length / rows), y: slice(y!, 1) });
        }
      }
      return queue.shift()!;
    },
  };
}

/** An operation that cannot be differentiated. */
const oneWay = defineOp<object>({
  name: 'one_way',
  shape: ([x]) => [x!],
  forward: ({ device: own, inputs: [x], outputs: [y] }) => own.copy(x!.range(), y!.range()),
  reference: { forward: ([x]) => [x!] },
});

describe('train', () => {
  it('learns, in order, and says what it did', async () => {
    const { metrics, result } = await runAll({ steps: 40, learningRate: 0.3 });
    expect(metrics.map((m) => m.step)).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
    expect(metrics[0]!.loss).toBeGreaterThan(1);
    expect(metrics.at(-1)!.loss).toBeLessThan(0.05 * metrics[0]!.loss);
    expect(metrics[0]!.learningRate).toBeCloseTo(0.1);
    expect(metrics[2]!.learningRate).toBeCloseTo(0.3);
    for (const m of metrics) {
      expect(m.gradientNorm).toBeGreaterThan(0);
      expect(m.tokens).toBe(12);
      expect(m.seconds).toBeGreaterThanOrEqual(0);
      expect(m.memoryBytes).toBeGreaterThan(0);
    }
    expect(result).toEqual({
      steps: 40,
      loss: metrics.at(-1)!.loss,
      tokens: 480,
      untouched: [],
      memory: expect.objectContaining({ liveBytes: expect.any(Number) }),
    });
  });

  it('gives the same numbers bit for bit, recorded or eager, and again', async () => {
    for (const accumulate of [1, 3]) {
      const recorded = await runAll({ accumulate });
      for (const record of [true, false]) {
        const other = await runAll({ accumulate, record });
        expect(other.numbers).toEqual(recorded.numbers);
        expect(other.weights).toEqual(recorded.weights);
      }
    }
    expect((await runAll({ data: pointSource(12, 2) })).numbers).not.toEqual((await runAll()).numbers);
  });

  it.each([2, 3])('with %i parts of a batch, does what one batch does', async (parts) => {
    const one = await runAll();
    for (const record of [true, false]) {
      const many = await runAll({ data: splitSource(12, parts), accumulate: parts, record });
      expect(many.metrics.map((m) => m.tokens)).toEqual(one.metrics.map((m) => m.tokens));
      // The sums are taken in another order, and a third is no float32: a few units in the last place, eight steps long.
      expect(relativeError(many.numbers.flat(), one.numbers.flat())).toBeLessThan(3e-6);
      expect(relativeError(many.weights, one.weights)).toBeLessThan(3e-6);
    }
  });

  it('reports further metrics as means over the batches of a step, and evaluations where they are due', async () => {
    const model = regression(device);
    let evaluations = 0;
    const options: TrainOptions = {
      ...model.options,
      accumulate: 2,
      steps: 5,
      loss: (batch) => ({
        loss: model.options.loss(batch) as Tensor,
        meanOfY: mean(batch.y!),
        one: mean(multiply(shift(batch.y!, 1e9), 1e-9)),
      }),
      evaluate: { every: 2, run: async () => ({ count: ++evaluations, bias: await model.bias.item() }) },
    };
    const { metrics, result } = await drain(train(options));
    const source = pointSource(12);
    for (const m of metrics) {
      const y = [source.next(), source.next()].flatMap((batch) => [...batch.y!]);
      expect(m.metrics!.meanOfY).toBeCloseTo(y.reduce((a, b) => a + b) / 24, 5);
      expect(m.metrics!.one).toBeCloseTo(1, 5);
    }
    expect(metrics.map((m) => m.evaluation?.count)).toEqual([undefined, 1, undefined, 2, 3]);
    expect(metrics[4]!.evaluation!.bias).toBe(await model.bias.item());
    expect(result!.steps).toBe(5);
    model.dispose();
    const plain = await runAll({ accumulate: 2, steps: 5 });
    expect(metrics.map((m) => m.loss)).toEqual(plain.metrics.map((m) => m.loss));
  });

  it('feeds packed documents as int32 tensors', async () => {
    const { weight, options, dispose } = regression(device);
    const data = packDocuments(
      [
        [1, 2, 3],
        [4, 5],
      ],
      { batchSize: 2, length: 3, seed: 1, boundaries: 'reset' },
    );
    const seen: string[] = [];
    const { metrics, error } = await drain(
      train({
        ...options,
        data,
        loss(batch) {
          for (const [name, { dtype, shape }] of Object.entries(batch)) seen.push(`${name} ${dtype} ${shape}`);
          return mean(square(weight));
        },
      }),
    );
    expect(error).toBeUndefined();
    expect(seen).toEqual(['ids', 'targets', 'positions', 'segments'].map((name) => `${name} int32 2,3`));
    // Of five tokens an epoch three predict; a batch has six.
    expect(metrics.map((m) => m.tokens).every((n) => n === 3 || n === 4)).toBe(true);
    dispose();
  });

  it('lists parameters that the loss does not reach, and leaves them alone', async () => {
    for (const accumulate of [1, 2]) {
      const model = regression(device, { accumulate });
      using idle = tensor(device, [1, 2]);
      model.parameters.set('idle', idle);
      const { result } = await drain(train(model.options));
      expect(result!.untouched).toEqual(['idle']);
      expect([...(await idle.read())]).toEqual([1, 2]);
      model.dispose();
    }
  });
});

describe('train gives everything back', () => {
  it('when the consumer leaves the loop', async () => {
    const model = regression(device);
    for await (const { step } of train(model.options)) if (step === 3) break;
    model.dispose();
  });

  it('when it is never started', () => {
    const model = regression(device);
    train(model.options);
    model.dispose();
  });

  it('when it is aborted, after the step at hand', async () => {
    const controller = new AbortController();
    const model = regression(device, { signal: controller.signal });
    const steps: number[] = [];
    await expect(async () => {
      for await (const { step } of train(model.options)) {
        steps.push(step);
        if (step === 3) controller.abort(new Error('enough'));
      }
    }).rejects.toThrow('enough');
    expect(steps).toEqual([1, 2, 3, 4]);
    model.dispose();
  });

  it.each([true, false])('when the data, the evaluation or the loss fail (record %s)', async (record) => {
    const source = pointSource(12);
    let calls = 0;
    const failing: BatchSource = {
      ...source,
      next() {
        if (++calls === 4) throw new Error('no more data');
        return source.next();
      },
    };
    const { error, metrics } = await runAll({ data: failing, record });
    expect(error!.message).toBe('no more data');
    expect(metrics.length).toBe(2);
    const run = () => Promise.reject(new Error('no score'));
    expect((await runAll({ evaluate: { every: 2, run }, record })).error!.message).toBe('no score');
    const model = regression(device);
    const bad: TrainOptions['loss'] = ({ x }) => {
      sum(multiply(x!, model.weight));
      throw new Error('no loss');
    };
    expect((await drain(train({ ...model.options, loss: bad, record }))).error!.message).toBe('no loss');
    const dead: TrainOptions['loss'] = (batch) => oneWay.apply([model.options.loss(batch) as Tensor], {})[0]!;
    expect((await drain(train({ ...model.options, loss: dead, record }))).error!.message).toMatch(/has no gradient/);
    model.dispose();
  });
});

describe('train refuses', () => {
  it('to go on without finite numbers, naming the step', async () => {
    for (const accumulate of [1, 2]) {
      const model = regression(device, { accumulate, steps: 20 });
      const source = pointSource(12);
      let calls = 0;
      const data: BatchSource = {
        ...source,
        next() {
          const batch = source.next() as Record<string, number[]>;
          const step = Math.floor(calls++ / accumulate) + 1;
          // Step 3 alone is forgiven; from step 6 on nothing is finite.
          return step === 3 || step >= 6 ? { ...batch, y: batch.y!.map(() => Number.NaN) } : batch;
        },
      };
      const { metrics, error } = await drain(train({ ...model.options, data }));
      expect(error).toMatchObject({ code: 'data', message: expect.stringMatching(/3 steps in a row, up to step 8/) });
      expect(metrics.map((m) => Number.isFinite(m.loss))).toEqual([true, true, false, true, true, false, false, false]);
      expect([...(await model.weight.read())].every(Number.isFinite)).toBe(true);
      model.dispose();
    }
  });

  it('losses and metrics that are no scalars, and a loss that no parameter reaches', async () => {
    const check = async (loss: TrainOptions['loss']) => (await runAll({ loss })).error!.message;
    expect(await check(({ x }) => x!.alias())).toMatch(/must be one element/);
    expect(await check(({ y }) => mean(logarithm(exponential(y!))))).toMatch(/depends on none of the parameters/);
    const model = regression(device);
    const withMetric: TrainOptions['loss'] = (batch) => ({
      loss: model.options.loss(batch) as Tensor,
      wide: square(batch.y!),
    });
    expect((await drain(train({ ...model.options, loss: withMetric }))).error!.message).toMatch(
      /metric wide must be one element, got shape \[12\]/,
    );
    model.dispose();
  });

  it('batches that are not what the specs promise', async () => {
    const source = pointSource(12);
    const check = async (change: (batch: Record<string, number[]>) => object) => {
      const data = { ...source, next: () => change(source.next() as Record<string, number[]>) as never };
      return (await runAll({ data })).error!.message;
    };
    expect(await check(({ x }) => ({ x }))).toMatch(/promise y of shape \[12\], its batch has none/);
    expect(await check(({ x, y }) => ({ x, y: y!.slice(1) }))).toMatch(/its batch has 11 values/);
    expect(await check((batch) => ({ ...batch, z: [1] }))).toMatch(/gave z, which its specs do not name/);
  });

  it('impossible options', async () => {
    const check = async (changes: Partial<TrainOptions>) => (await runAll(changes)).error!.message;
    expect(await check({ steps: 0 })).toMatch(/steps must be an integer of at least 1, got 0/);
    expect(await check({ accumulate: 1.5 })).toMatch(/accumulate must be/);
    expect(await check({ learningRate: Number.NaN })).toMatch(/learningRate/);
    expect(await check({ schedule: () => Number.NaN })).toMatch(/learning rate NaN at step 0/);
    expect(await check({ parameters: new Map() })).toMatch(/no parameters/);
    expect(await check({ resume: true })).toMatch(/no checkpoint.folder/);
    using half = tensor(device, [1], [1], { dtype: 'float16' });
    expect(await check({ parameters: new Map([['half', half]]) })).toMatch(/half is float16/);
    using w = tensor(device, [1]);
    const twice = new Map([
      ['a', w],
      ['b', w],
    ]);
    expect(await check({ parameters: twice })).toMatch(/b and a are the same tensor/);
  });
});
