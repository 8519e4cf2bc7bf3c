import { klDivergence, scope, type Tensor, ZebraError } from '@zebra/tensor';
import type { LayeredCausalLM, SequenceContext } from '@zebra/tensor/nn';

/** One batch of the calibration set: int32 [B, T] each. */
export interface CalibrationBatch {
  readonly ids: Tensor;
  readonly positions?: Tensor;
  readonly segments?: Tensor;
  /** Rows whose target is −100 do not count, as in `evaluationBatches`. Default: every token counts. */
  readonly targets?: Tensor;
}

/** Options of {@link sensitivityScores}. */
export interface SensitivityOptions {
  /** The model that both students were made from. */
  readonly teacher: LayeredCausalLM;
  /** The student whose layers are all Mamba2. */
  readonly base: LayeredCausalLM;
  /** The student whose layers are all MLA. */
  readonly alternative: LayeredCausalLM;
  /** Calibration batches, each of the same number of counting tokens; they stay the caller's. */
  readonly batches: Iterable<CalibrationBatch> | AsyncIterable<CalibrationBatch>;
  /** Called after each layer of each batch. */
  readonly onProgress?: (done: { readonly batch: number; readonly layer: number; readonly layers: number }) => void;
}

/** What {@link sensitivityScores} finds; nats a token. */
export interface SensitivityScores {
  /** s_i = KL(teacher‖base) − KL(teacher‖base with layer i from the alternative): what layer i would gain. */
  readonly scores: readonly number[];
  /** KL(teacher‖base). */
  readonly baseDivergence: number;
  /** KL(teacher‖base with layer i from the alternative). */
  readonly swappedDivergences: readonly number[];
}

/**
 * SMART's sensitivity scores (Zebra-Llama, arXiv 2505.17272): how much nearer to the teacher the all-Mamba2 student
 * comes when one of its layers is taken whole from the all-MLA student.
 *
 * The layers below the swapped one are the same for every score: they run once a batch, so that a batch costs about
 * L²/2 layers instead of L².
 *
 * @throws ZebraError `argument` when the models do not fit together or there is no batch
 */
export async function sensitivityScores(options: SensitivityOptions): Promise<SensitivityScores> {
  const { teacher, base, alternative, batches, onProgress } = options;
  const layers = base.layerCount;
  for (const [name, model] of Object.entries({ teacher, alternative })) {
    if (model.layerCount === layers && model.vocabularySize === base.vocabularySize) continue;
    throw new ZebraError(
      'argument',
      `sensitivityScores: ${name} has ${model.layerCount} layers and ${model.vocabularySize} tokens, the base ${layers} and ${base.vocabularySize}`,
    );
  }
  const sums = new Float64Array(layers + 1);
  let count = 0;
  for await (const batch of batches) {
    const seen = scope(() => runBase(teacher, base, batch));
    try {
      sums[layers]! += await take(scope(() => divergence(teacher, seen.teacherHidden, base, seen.hidden, batch)));
      for (let layer = 0; layer < layers; layer++) {
        const swapped = scope(() => {
          let x = alternative.forwardLayer(layer, seen.inputs[layer] as Tensor, contextOf(batch)).output;
          for (let above = layer + 1; above < layers; above++) x = base.forwardLayer(above, x, contextOf(batch)).output;
          return divergence(teacher, seen.teacherHidden, base, base.finalNorm(x), batch);
        });
        sums[layer]! += await take(swapped);
        onProgress?.({ batch: count, layer, layers });
      }
    } finally {
      for (const tensor of [seen.teacherHidden, seen.hidden, ...seen.inputs]) tensor.dispose();
    }
    count++;
  }
  if (count === 0) throw new ZebraError('argument', 'sensitivityScores: the calibration set is empty');
  const baseDivergence = sums[layers]! / count;
  const swappedDivergences = Array.from(sums.subarray(0, layers), (sum) => sum / count);
  return { scores: swappedDivergences.map((value) => baseDivergence - value), baseDivergence, swappedDivergences };
}

function contextOf({ positions, segments }: CalibrationBatch): Pick<SequenceContext, 'positions' | 'segments'> {
  return { ...(positions && { positions }), ...(segments && { segments }) };
}

function runBase(teacher: LayeredCausalLM, base: LayeredCausalLM, batch: CalibrationBatch) {
  const teacherHidden = teacher.forward(batch.ids, contextOf(batch));
  const inputs: Tensor[] = [];
  const hidden = base.forward(batch.ids, { ...contextOf(batch), observe: (_, { input }) => inputs.push(input) });
  return { teacherHidden, hidden, inputs };
}

function divergence(
  teacher: LayeredCausalLM,
  teacherHidden: Tensor,
  student: LayeredCausalLM,
  hidden: Tensor,
  batch: CalibrationBatch,
): Tensor {
  return klDivergence({
    teacher: { hidden: teacherHidden, head: teacher.headWeight },
    student: { hidden, head: student.headWeight },
    ...(batch.targets && { targets: batch.targets }),
  });
}

async function take(value: Tensor): Promise<number> {
  try {
    return await value.item();
  } finally {
    value.dispose();
  }
}
