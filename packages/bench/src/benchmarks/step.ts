import type { HybridModel } from '@zebra/runtime';
import {
  AdamW,
  type Device,
  klDivergence,
  LossScale,
  type Program,
  scope,
  type Tensor,
  valueAndGradients,
} from '@zebra/tensor';

/** A training step, recorded: {@link Step.run} queues one. */
export interface Step {
  readonly program: Program<Tensor>;
  /** Only with float16. It stays the step's. */
  readonly lossScale: LossScale | undefined;
  /** Queues one step at a learning rate. */
  run(learningRate: number): void;
  dispose(): void;
}

/**
 * Records what a trainer does in a step: the loss, its gradients to all parameters, clipping and AdamW, all in one
 * program. A model that computes in float16 gets a dynamic loss scale, which the optimizer takes out again.
 *
 * @param loss of one element; what it keeps alive stays the caller's
 */
export function recordStep(device: Device, model: HybridModel, loss: () => Tensor): Step {
  const parameters = model.namedParameters();
  // Less than a trainer begins with: a step that overflows is skipped, and would measure no AdamW.
  const lossScale = model.spec.computeDType === 'float16' ? new LossScale(device, { initial: 2 ** 14 }) : undefined;
  const optimizer = new AdamW(parameters, {
    weightDecay: 0.1,
    maxGradientNorm: 1,
    ...(lossScale && { lossScale }),
  });
  const program = device.capture(() =>
    scope(() => {
      const { value, gradients } = valueAndGradients(loss, parameters, lossScale && { seed: lossScale.seed });
      optimizer.apply(gradients);
      for (const gradient of gradients.values()) gradient.dispose();
      return value;
    }),
  );
  return {
    program,
    lossScale,
    run(learningRate) {
      optimizer.prepare(learningRate);
      program.run();
    },
    dispose() {
      program.result.dispose();
      program.dispose();
      optimizer.dispose();
      lossScale?.dispose();
    },
  };
}

/** KL(teacher‖student) over the vocabulary, every token counted. */
export function distillation(
  teacher: HybridModel,
  student: HybridModel,
  ids: Tensor,
  checkpointLayers = false,
): Tensor {
  return klDivergence({
    teacher: { hidden: teacher.forward(ids), head: teacher.headWeight },
    student: { hidden: student.forward(ids, { checkpointLayers }), head: student.headWeight },
  });
}
