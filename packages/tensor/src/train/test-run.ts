import { tensor } from '../core/create.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { add, multiply, square, subtract } from '../ops/pointwise/index.js';
import { mean, sum } from '../ops/reduce/index.js';
import { cosineSchedule } from '../optim/index.js';
import { Random, type RandomState } from '../random/random.js';
import type { BatchSource } from './batch-source.js';
import type { BatchTensors } from './step-runner.js';
import type { StepMetrics, TrainResult } from './train.js';
import type { TrainOptions } from './train-options.js';

/** Inputs of the linear regression that the trainer's tests train. */
const WIDTH = 7;
const TRUTH = [0.5, -1, 2, 0.25, -0.75, 1.5, 0.1];

/** Random points on a plane, with a little noise; resumable. */
export function pointSource(rows: number, seed = 1): BatchSource {
  let random = new Random(seed);
  return {
    specs: { x: { shape: [rows, WIDTH], dtype: 'float32' }, y: { shape: [rows], dtype: 'float32' } },
    next() {
      const x = Array.from({ length: rows * WIDTH }, () => random.normal());
      const noise = () => 0.01 * random.normal();
      const y = Array.from({ length: rows }, (_, r) =>
        TRUTH.reduce((t, w, i) => t + w * x[r * WIDTH + i]!, 0.3 + noise()),
      );
      return { x, y };
    },
    state: () => [...random.state],
    restore(state) {
      if (!Array.isArray(state) || state.length !== 4) throw new Error('other data');
      random = Random.from(state as unknown as RandomState);
    },
    tokensIn: () => rows,
  };
}

/** A small model with its run: everything a test may want to change comes in `changes`. */
export function regression(device: Device, changes: Partial<TrainOptions> = {}) {
  const weight = tensor(device, new Float32Array(WIDTH).fill(0.1));
  const bias = tensor(device, [0]);
  const parameters = new Map([
    ['weight', weight],
    ['bias', bias],
  ]);
  const predict = (x: Tensor) => add(sum(multiply(x, weight), { axes: [-1] }), bias);
  const loss = ({ x, y }: BatchTensors) => mean(square(subtract(predict(x!), y!)));
  const options: TrainOptions = {
    device,
    parameters,
    loss,
    data: pointSource(12),
    steps: 8,
    learningRate: 0.05,
    schedule: cosineSchedule({ steps: 40, warmUp: 3 }),
    optimizer: { weightDecay: 0.01, maxGradientNorm: 1 },
    ...changes,
  };
  const dispose = () => {
    weight.dispose();
    bias.dispose();
  };
  return { options, parameters, predict, weight, bias, dispose };
}

/** Goes through a run to its end, or to its error. */
export async function drain(
  run: AsyncGenerator<StepMetrics, TrainResult, void>,
): Promise<{ metrics: StepMetrics[]; result?: TrainResult; error?: Error }> {
  const metrics: StepMetrics[] = [];
  try {
    for (;;) {
      const next = await run.next();
      if (next.done) return { metrics, result: next.value };
      metrics.push(next.value);
    }
  } catch (error) {
    return { metrics, error: error as Error };
  }
}
