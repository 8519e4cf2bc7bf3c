import type { OpInputs } from '../../core/define-op.js';
import { type Shape, sameShape, shapeError, showShape, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Kernel } from '../../device/kernel.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import {
  assertSelection,
  type Chunk,
  ChunkLogits,
  isHalf,
  keptLogitsSpec,
  logitsGeometry,
  pieceRowsOf,
  type Rows,
  type Selection,
  selectionParams,
} from '../vocabulary/index.js';

/** What the row kernels need to know of the operation. */
export interface DivergenceAttributes {
  /** What the last input says; undefined without one: all rows count. */
  readonly selection?: Selection | undefined;
  readonly temperature: number;
}

/** Checks the five inputs of a divergence, and gives the sizes. */
export function divergenceGeometry(inputs: readonly (TensorSpec | undefined)[]): { lead: Shape; rows: number } {
  const [student, studentHead, teacher, teacherHead, by] = inputs;
  const s = logitsGeometry('klDivergence', 'student.', student!, studentHead);
  const t = logitsGeometry('klDivergence', 'teacher.', teacher!, teacherHead);
  if (!sameShape(s.lead, t.lead)) {
    shapeError('klDivergence', 'teacher', `of the student's rows, ${showShape(s.lead)}`, t.lead);
  }
  if (s.columns !== t.columns) {
    shapeError('klDivergence', 'teacher', `over the student's vocabulary of ${s.columns}`, String(t.columns));
  }
  if (by) assertSelection('klDivergence', 'mask or targets', by, s.lead);
  return { lead: s.lead, rows: s.rows };
}

/** Rows whose logits, of both models, are in memory at a time. */
export function pieceRows(student: TensorSpec, studentHead: TensorSpec | undefined, chunkRows: number): number {
  return pieceRowsOf({ half: isHalf(student, studentHead), models: 2 }, chunkRows);
}

/**
 * Makes the logits of both models.
 *
 * @param kept the logits that a forward keeps where they fit one piece, the student's first
 * @param filled whether they are there already
 */
export function bothLogits(
  [student, studentHead, teacher, teacherHead]: OpInputs,
  size: number,
  kept: readonly Tensor[] = [],
  filled = false,
): { readonly student: ChunkLogits; readonly teacher: ChunkLogits } {
  const rest = [...kept];
  const rows = student!.size / student!.shape[student!.shape.length - 1]!;
  const take = (head: Tensor | undefined) => ({ kept: keptLogitsSpec(head, rows, size) && rest.shift(), filled });
  return {
    student: new ChunkLogits(student!, studentHead, size, take(studentHead)),
    teacher: new ChunkLogits(teacher!, teacherHead, size, take(teacherHead)),
  };
}

/** A piece of the logits of both models, and the operation that works on it. */
export interface DivergenceStep {
  readonly inputs: OpInputs;
  readonly attributes: DivergenceAttributes;
  readonly piece: Chunk;
  readonly student: Rows;
  readonly teacher: Rows;
}

/** Where gradients of logits go, and what the upstream is multiplied with. */
export interface GradientTarget {
  readonly target: Rows;
  readonly scale: number;
}

/** Runs one of the row kernels over a piece. */
export function launch(
  kernel: Kernel,
  step: DivergenceStep,
  tensors: Readonly<Record<string, Tensor | undefined>>,
  gradient?: GradientTarget,
): void {
  const { inputs, attributes, piece, student, teacher } = step;
  const { device } = student.tensor;
  const { columns } = logitsGeometry('klDivergence', 'student.', inputs[0]!, inputs[1]);
  const plan = planRows(device, columns, { rows: piece.count });
  const { target, scale = 1 } = gradient ?? {};
  const ranges = Object.entries(tensors).map(([name, tensor]) => [name, tensor?.range()]);
  device.dispatch(kernel, {
    bindings: {
      teacher: teacher.tensor.range(),
      // A gradient that overwrites its logits binds them once, to be written.
      student: target?.tensor === student.tensor ? undefined : student.tensor.range(),
      selection: inputs[4]?.range(),
      d: target?.tensor.range(),
      ...Object.fromEntries(ranges),
    },
    params: {
      rows: piece.count,
      units: plan.units,
      first: piece.first,
      teacher_start: teacher.start * plan.units,
      student_start: student.start * plan.units,
      d_start: (target?.start ?? 0) * plan.units,
      inverse_temperature: 1 / attributes.temperature,
      scale,
      ...selectionParams(attributes.selection),
    },
    constants: plan.constants,
    groups: rowGroups(device, kernel, piece.count, plan),
  });
}
