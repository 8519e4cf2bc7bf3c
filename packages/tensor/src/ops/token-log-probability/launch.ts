import type { OpInputs } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import type { Kernel } from '../../device/kernel.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import { type Chunk, logitsGeometry, type Rows, selectionParams } from '../vocabulary/index.js';

/** What the row kernels need to know of the operation. */
export interface RowAttributes {
  readonly ignoreIndex: number;
  /** 1 for log-probabilities, −1 for cross-entropies. */
  readonly sign: 1 | -1;
}

/** A piece of the logits, and the operation that works on it. */
export interface RowStep {
  readonly inputs: OpInputs;
  readonly attributes: RowAttributes;
  readonly piece: Chunk;
  readonly logits: Rows;
}

/** Where gradients of logits go, and what the upstream is multiplied with. */
export interface GradientTarget {
  readonly target: Rows;
  readonly scale: number;
}

/** Runs one of the row kernels over a piece. */
export function launch(
  kernel: Kernel,
  step: RowStep,
  tensors: Readonly<Record<string, Tensor | undefined>>,
  gradient?: GradientTarget,
): void {
  const { inputs, attributes, piece, logits } = step;
  const targets = inputs[2]!;
  const { device } = targets;
  const { columns } = logitsGeometry('tokenLogProbabilities', '', inputs[0]!, inputs[1]);
  const plan = planRows(device, columns, { rows: piece.count });
  const selection = { kind: 'targets', ignoreIndex: attributes.ignoreIndex, vocabulary: columns } as const;
  const { target, scale = 1 } = gradient ?? {};
  // A gradient that overwrites its logits binds them once, to be written.
  const x = target?.tensor === logits.tensor ? undefined : logits.tensor.range();
  const ranges = Object.entries(tensors).map(([name, tensor]) => [name, tensor?.range()]);
  device.dispatch(kernel, {
    bindings: { x, targets: targets.range(), d: target?.tensor.range(), ...Object.fromEntries(ranges) },
    params: {
      rows: piece.count,
      units: plan.units,
      first: piece.first,
      x_start: logits.start * plan.units,
      d_start: (target?.start ?? 0) * plan.units,
      sign: attributes.sign,
      scale,
      ...selectionParams(selection),
    },
    constants: plan.constants,
    groups: rowGroups(device, kernel, piece.count, plan),
  });
}
