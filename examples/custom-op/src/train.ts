import { cosineSchedule, crossEntropy } from '@zebra/tensor';
import { type StepMetrics, train } from '@zebra/tensor/train';
import type { Classifier } from './classifier.js';
import { spiralSource } from './spirals.js';

/**
 * Trains the classifier. The trainer captures one step (forward, backward and update with every kernel of ours in it)
 * as a program and replays it; the operation needs to know nothing of that.
 */
export function trainClassifier(classifier: Classifier, steps: number, record = true): AsyncGenerator<StepMetrics> {
  return train({
    device: classifier.device,
    parameters: classifier.parameters,
    loss: ({ x, labels }) => crossEntropy({ logits: classifier.logits(x!), targets: labels! }),
    data: spiralSource(128, 5),
    steps,
    learningRate: 1e-2,
    schedule: cosineSchedule({ steps, warmUp: 0.05, final: 0.1 }),
    optimizer: { maxGradientNorm: 1 },
    record,
  });
}
