import { AdamW, cosineSchedule, crossEntropy, Random, tensor, valueAndGradients } from '@zebra/tensor';
import type { CopyModel } from './model.js';
import { copyBatch } from './task.js';

/** How the model is trained. */
export interface TrainingOptions {
  readonly steps: number;
  readonly rows?: number;
  readonly learningRate?: number;
  /** Called with every step's loss, in nats a symbol. */
  readonly onStep?: (step: number, loss: number) => void;
}

/**
 * The training loop in full: gradients, then AdamW. (`train()` of `@zebra/tensor/train` does the same, with recorded
 * steps, metrics and checkpoints; the custom-op example uses it.)
 *
 * @returns the loss of every step
 */
export async function trainCopying(model: CopyModel, options: TrainingOptions): Promise<number[]> {
  const { steps, rows = 32, learningRate = 2e-2, onStep } = options;
  const { device, parameters } = model;
  const random = new Random(7);
  const schedule = cosineSchedule({ steps, warmUp: 5, final: 0.1 });
  const optimizer = new AdamW(parameters, { maxGradientNorm: 1 });
  const names = [...parameters.keys()];
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const batch = copyBatch(rows, random);
    using ids = tensor(device, batch.ids, batch.shape);
    using targets = tensor(device, batch.targets, batch.shape);
    const { value, gradients } = valueAndGradients(
      // The head goes into the loss, so that the logits of the whole batch never lie in memory.
      () => crossEntropy({ hidden: model.forward(ids), head: model.head, targets }),
      [...parameters.values()],
    );
    // Gradients come in the order of the tensors asked for; the optimizer wants them by name.
    optimizer.step(new Map(names.map((name, index) => [name, gradients[index]!])), learningRate * schedule(step));
    // Reading is the only thing that waits for the device.
    const loss = await value.item();
    losses.push(loss);
    onStep?.(step + 1, loss);
    // What valueAndGradients returns is ours to free.
    for (const made of [value, ...gradients]) made?.dispose();
  }
  optimizer.dispose();
  return losses;
}
