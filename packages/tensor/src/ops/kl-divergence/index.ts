import { defineOp, type OpInputs } from '../../core/define-op.js';
import { sameShape, shapeError, showShape, type TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Kernel } from '../../device/kernel.js';
import { ZebraError } from '../../errors.js';
import { planRows, rowGroups } from '../row/row-lanes.wgsl.js';
import {
  assertIgnoreIndex,
  assertReduction,
  assertSelection,
  type Chunk,
  chunksOf,
  IGNORE_INDEX,
  type Logits,
  LogitsGradient,
  logitInputs,
  logitsGeometry,
  logitsOf,
  meanOfRows,
  type Reduction,
  type Rows,
  resolveChunkRows,
  type Selection,
  scratchSpec,
  selectionParams,
} from '../vocabulary/index.js';
import { forwardKernel, gradientKernel } from './kl-divergence.wgsl.js';
import { klDivergenceReference } from './reference.js';

/** Arguments of {@link klDivergence}. Teacher and student share N (or B and T) and V; their hidden sizes may differ. */
export interface KlDivergenceArguments {
  /** The distribution to learn; receives no gradient. */
  readonly teacher: Logits;
  /** The distribution that learns. */
  readonly student: Logits;
  /** int32 [N] or [B, T]: rows with 0 do not count. Not together with `targets`. */
  readonly mask?: Tensor;
  /** int32 [N] or [B, T]: rows with `ignoreIndex`, or with a target outside the vocabulary, do not count. */
  readonly targets?: Tensor;
}

/** Options of {@link klDivergence}. */
export interface KlDivergenceOptions {
  /** Both models' logits are divided by it; the loss is not multiplied by its square. Default 1. */
  readonly temperature?: number;
  /** The target of rows that do not count. Default -100. */
  readonly ignoreIndex?: number;
  /**
   * Rows whose logits are in memory at a time, once for each model. Default: as many multiples of 64 as fit 4 MiB on
   * a CPU, 128 MiB on a GPU; at least 64.
   */
  readonly chunkRows?: number;
  /** `mean` over the rows that count, or `none`: one value a row. Default `mean`. */
  readonly reduction?: Reduction;
}

/** Attributes of {@link klDivergenceOp}. */
export interface KlDivergenceAttributes {
  /** What the last input says; undefined without one: all rows count. */
  readonly selection?: Selection | undefined;
  readonly temperature: number;
  readonly chunkRows: number;
}

interface Step {
  readonly inputs: OpInputs;
  readonly attributes: KlDivergenceAttributes;
  readonly chunk: Chunk;
  readonly student: Rows;
  readonly teacher: Rows;
}

/** Runs one of the row kernels over a chunk. */
function launch(kernel: Kernel, step: Step, tensors: Readonly<Record<string, Tensor>>, dStart = 0): void {
  const { inputs, attributes, chunk, student, teacher } = step;
  const { device } = student.tensor;
  const { columns } = logitsGeometry('klDivergence', 'student.', inputs[0]!, inputs[1]);
  const plan = planRows(device, columns, { rows: chunk.count });
  const ranges = Object.entries(tensors).map(([name, tensor]) => [name, tensor.range()]);
  device.dispatch(kernel, {
    bindings: {
      teacher: teacher.tensor.range(),
      // A gradient that overwrites its logits binds them once, to be written.
      student: tensors['d'] === student.tensor ? undefined : student.tensor.range(),
      selection: inputs[4]?.range(),
      ...Object.fromEntries(ranges),
    },
    params: {
      rows: chunk.count,
      units: plan.units,
      first: chunk.first,
      teacher_start: teacher.start * plan.units,
      student_start: student.start * plan.units,
      d_start: dStart * plan.units,
      inverse_temperature: 1 / attributes.temperature,
      ...selectionParams(attributes.selection),
    },
    constants: plan.constants,
    groups: rowGroups(device, kernel, chunk.count, plan),
  });
}

/**
 * KL divergence of each row as an operation. Inputs: the student's hidden states and head (or logits and nothing), the
 * teacher's, and which rows count. Chunks, and what is kept for the backward, are as in `tokenLogProbabilityOp`.
 */
export const klDivergenceOp = defineOp<KlDivergenceAttributes>({
  name: 'klDivergence',
  shape([student, studentHead, teacher, teacherHead, by], { chunkRows }) {
    const s = logitsGeometry('klDivergence', 'student.', student!, studentHead);
    const t = logitsGeometry('klDivergence', 'teacher.', teacher!, teacherHead);
    if (!sameShape(s.lead, t.lead)) {
      shapeError('klDivergence', 'teacher', `of the student's rows, ${showShape(s.lead)}`, t.lead);
    }
    if (s.columns !== t.columns) {
      shapeError('klDivergence', 'teacher', `over the student's vocabulary of ${s.columns}`, String(t.columns));
    }
    if (by) assertSelection('klDivergence', 'mask or targets', by, s.lead);
    const outputs: (TensorSpec | undefined)[] = [
      { shape: s.lead, dtype: 'float32' },
      { shape: [s.rows, 4], dtype: 'float32' },
      scratchSpec(studentHead, chunkRows),
      scratchSpec(teacherHead, chunkRows),
    ];
    return outputs.filter((spec) => spec !== undefined);
  },
  forward({ inputs, outputs: [y, statistics, ...scratches], attributes }) {
    const [student, studentHead, teacher, teacherHead] = inputs;
    const studentScratch = studentHead && scratches.shift();
    for (const chunk of chunksOf(y!.size, attributes.chunkRows)) {
      const step = {
        inputs,
        attributes,
        chunk,
        student: logitsOf(student!, studentHead, studentScratch, chunk),
        teacher: logitsOf(teacher!, teacherHead, scratches[0], chunk),
      };
      launch(forwardKernel, step, { y: y!, statistics: statistics! });
    }
  },
  backward({ inputs, outputs: [y, statistics, ...scratches], gradients: [g], attributes, needs }) {
    const [student, studentHead, teacher, teacherHead] = inputs;
    const gradient = new LogitsGradient(student!, studentHead, [needs[0]!, needs[1]!]);
    if (!gradient.wanted) return [];
    const studentScratch = studentHead && scratches.shift();
    // From the last chunk on, whose logits are still there.
    const chunks = chunksOf(y!.size, attributes.chunkRows).reverse();
    chunks.forEach((chunk, index) => {
      const kept = { kept: index === 0 };
      const logits = logitsOf(student!, studentHead, studentScratch, chunk, kept);
      const target = gradient.target(logits);
      const step = {
        inputs,
        attributes,
        chunk,
        student: logits,
        teacher: logitsOf(teacher!, teacherHead, scratches[0], chunk, kept),
      };
      launch(gradientKernel, step, { statistics: statistics!, g: g!, d: target.tensor }, target.start);
      gradient.add(chunk, target);
    });
    return gradient.finish();
  },
  reference: klDivergenceReference,
});

/**
 * KL(p_teacher ‖ p_student) of each row's distribution over the vocabulary, in nats: the loss of distillation. Computed
 * in float32 without the full logits of either model in memory. Gradients reach the student alone.
 *
 * The number of rows that count is found on the device. If there is none the mean is 0, and so are the gradients.
 *
 * @param given `teacher` and `student`, each as `hidden` [N, D] or [B, T, D] with `head` [V, D], or as `logits` [N, V]
 *   or [B, T, V]; `mask` or `targets` int32 [N] or [B, T]
 * @returns [1], or with `reduction: 'none'` [N] or [B, T] with 0 at rows that do not count; float32, the caller owns it
 * @throws ZebraError `shape` or `dtype` for inputs that do not fit; `argument` for options out of range, or for a mask
 *   and targets together
 */
export function klDivergence(given: KlDivergenceArguments, options: KlDivergenceOptions = {}): Tensor {
  const { temperature = 1, ignoreIndex = IGNORE_INDEX, reduction = 'mean' } = options;
  assertReduction('klDivergence', reduction);
  assertIgnoreIndex('klDivergence', ignoreIndex);
  if (!(temperature > 0 && Number.isFinite(temperature))) {
    throw new ZebraError('argument', `klDivergence: temperature must be a positive number, got ${temperature}`);
  }
  if (given.mask && given.targets) {
    throw new ZebraError('argument', 'klDivergence: give a mask or targets, not both');
  }
  const [student, studentHead] = logitInputs('klDivergence', given.student, 'student.');
  const [teacher, teacherHead] = logitInputs('klDivergence', given.teacher, 'teacher.');
  const { rows, columns } = logitsGeometry('klDivergence', 'student.', student, studentHead);
  const by = given.mask ?? given.targets;
  const selection = selectionOf(given, ignoreIndex, columns);
  const chunkRows = resolveChunkRows('klDivergence', student.device, rows, columns, options.chunkRows);
  const inputs = [student, studentHead, teacher, teacherHead, by];
  const [y, ...rest] = klDivergenceOp.apply(inputs, { selection, temperature, chunkRows });
  for (const other of rest) other.dispose();
  return reduction === 'none' ? y! : meanOfRows(y!, by, selection);
}

function selectionOf(given: KlDivergenceArguments, ignoreIndex: number, vocabulary: number): Selection | undefined {
  if (given.mask) return { kind: 'mask' };
  return given.targets && { kind: 'targets', ignoreIndex, vocabulary };
}
