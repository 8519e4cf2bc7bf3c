import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { TensorSpec } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { ZebraError } from '../../errors.js';
import {
  assertIgnoreIndex,
  assertReduction,
  chunksOf,
  finishGradient,
  gradientSumSpecs,
  IGNORE_INDEX,
  isHalf,
  keptLogitsSpec,
  type Logits,
  LogitsGradient,
  logitInputs,
  logitsGeometry,
  logitsScale,
  meanOfRows,
  onePassNeeds,
  peakOf,
  piecesOf,
  type Reduction,
  type Rows,
  resolveChunkRows,
  type Selection,
} from '../vocabulary/index.js';
import { forwardKernel, gradientKernel } from './kl-divergence.wgsl.js';
import { bothLogits, type DivergenceAttributes, divergenceGeometry, launch, pieceRows } from './launch.js';
import { meanKlDivergenceOp } from './one-pass.js';
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
   * Rows whose logits, or their gradient, are in memory at a time. Default: as many as fit 4 MiB on a CPU, 512 MiB on
   * a GPU for both models, in multiples of 64 (of 256 where they are many).
   */
  readonly chunkRows?: number;
  /** `mean` over the rows that count, or `none`: one value a row. Default `mean`. */
  readonly reduction?: Reduction;
}

/** Attributes of {@link klDivergenceOp}. */
export interface KlDivergenceAttributes extends DivergenceAttributes {
  readonly chunkRows: number;
}

/**
 * KL divergence of each row as an operation. Inputs: the student's hidden states and head (or logits and nothing), the
 * teacher's, and which rows count. Chunks, and what is kept for the backward, are as in `tokenLogProbabilityOp`.
 */
export const klDivergenceOp = defineOp<KlDivergenceAttributes>({
  name: 'klDivergence',
  shape(inputs, { chunkRows }) {
    const { lead, rows } = divergenceGeometry(inputs);
    const [student, studentHead, teacher, teacherHead] = inputs;
    const size = pieceRows(student!, studentHead, chunkRows);
    const outputs: (TensorSpec | undefined)[] = [
      { shape: lead, dtype: 'float32' },
      { shape: [rows, 4], dtype: 'float32' },
      keptLogitsSpec(studentHead, rows, size),
      keptLogitsSpec(teacher && teacherHead, rows, size),
    ];
    return outputs.filter((spec) => spec !== undefined);
  },
  forward({ inputs, outputs: [y, statistics, ...kept], attributes }) {
    const size = pieceRows(inputs[0]!, inputs[1], attributes.chunkRows);
    const models = bothLogits(inputs, size, kept, false);
    for (const piece of chunksOf(y!.size, size)) {
      const step = { inputs, attributes, piece, student: models.student.of(piece), teacher: models.teacher.of(piece) };
      launch(forwardKernel, step, { y: y!, statistics: statistics! });
    }
  },
  backward({ device, inputs, outputs: [y, statistics, ...kept], gradients: [g], attributes, needs }) {
    const [x, head] = inputs as [Tensor, Tensor | undefined];
    const specs = gradientSumSpecs(x, head, [needs[0]!, needs[1]!]);
    if (!specs.dx && !specs.dHead) return [];
    const sums = {
      dx: specs.dx && allocateTensor(device, specs.dx),
      dHead: specs.dHead && allocateTensor(device, specs.dHead),
    };
    const { chunkRows } = attributes;
    const size = pieceRows(x, head, chunkRows);
    const models = bothLogits(inputs, size, kept, true);
    const gradient = new LogitsGradient(models.student, sums, chunkRows);
    const peak = isHalf(x, head) ? peakOf(g!) : undefined;
    const scale = logitsScale(x, head);
    for (const chunk of chunksOf(y!.size, chunkRows)) {
      let target: Rows | undefined;
      for (const piece of piecesOf(chunk, size)) {
        const step = {
          inputs,
          attributes,
          piece,
          student: models.student.of(piece),
          teacher: models.teacher.of(piece),
        };
        target = gradient.target(chunk, piece, step.student);
        launch(gradientKernel, step, { statistics: statistics!, g: g!, peak }, { target, scale });
      }
      gradient.add(chunk, target!);
    }
    const factor = { constant: 1 / scale, factors: peak ? [peak] : [] };
    return [finishGradient(sums.dx, x, factor), finishGradient(sums.dHead, head, factor)];
  },
  saves: { outputs: [1, 2, 3] },
  reference: klDivergenceReference,
});

/**
 * KL(p_teacher ‖ p_student) of each row's distribution over the vocabulary, in nats: the loss of distillation. Computed
 * in float32 without the full logits of either model in memory. Gradients reach the student alone. What
 * `crossEntropy` says of one pass and of float16 hidden states holds here too, for each model by its own dtypes.
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
  const sizes = { rows, columns, models: 2, half: isHalf(student, studentHead) } as const;
  const chunkRows = resolveChunkRows('klDivergence', student.device, sizes, options.chunkRows);
  const inputs = [student, studentHead, teacher, teacherHead, by];
  const needs = reduction === 'mean' ? onePassNeeds(student, studentHead) : undefined;
  if (needs) {
    const [loss, ...sums] = meanKlDivergenceOp.apply(inputs, { selection, temperature, chunkRows, needs });
    for (const sum of sums) sum.dispose();
    return loss!;
  }
  const [y, ...rest] = klDivergenceOp.apply(inputs, { selection, temperature, chunkRows });
  for (const other of rest) other.dispose();
  return reduction === 'none' ? y! : meanOfRows(y!, by, selection);
}

function selectionOf(given: KlDivergenceArguments, ignoreIndex: number, vocabulary: number): Selection | undefined {
  if (given.mask) return { kind: 'mask' };
  return given.targets && { kind: 'targets', ignoreIndex, vocabulary };
}
