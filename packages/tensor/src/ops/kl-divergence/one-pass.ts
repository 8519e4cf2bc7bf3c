import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import {
  chunksOf,
  LogitsGradient,
  logitsScale,
  meanInto,
  meanReference,
  type OnePassNeeds,
  onePassGradients,
  onePassOutputs,
  onePassSums,
  piecesOf,
  type Rows,
} from '../vocabulary/index.js';
import type { KlDivergenceAttributes } from './index.js';
import { onePassKernel } from './kl-divergence.wgsl.js';
import { bothLogits, divergenceGeometry, launch, pieceRows } from './launch.js';
import { klDivergenceReference } from './reference.js';

/** Attributes of {@link meanKlDivergenceOp}. */
export interface MeanKlDivergenceAttributes extends KlDivergenceAttributes {
  readonly needs: OnePassNeeds;
}

/**
 * The mean divergence of a student's hidden states whose gradient is wanted, in one pass over the chunks of logits.
 * Inputs: as of `klDivergenceOp`. Outputs: those of `onePassOutputs`.
 */
export const meanKlDivergenceOp = defineOp<MeanKlDivergenceAttributes>({
  name: 'meanKlDivergence',
  shape(inputs, { needs }) {
    divergenceGeometry(inputs);
    return onePassOutputs(inputs[0]!, inputs[1], needs);
  },
  forward({ device, inputs, outputs, attributes }) {
    const [x, head] = inputs as [Tensor, Tensor];
    const { chunkRows, needs, selection } = attributes;
    const size = pieceRows(x, head, chunkRows);
    const models = bothLogits(inputs, size);
    const gradient = new LogitsGradient(models.student, onePassSums(outputs, needs), chunkRows);
    const y = allocateTensor(device, { shape: x.shape.slice(0, -1), dtype: 'float32' });
    const scale = logitsScale(x, head);
    for (const chunk of chunksOf(y.size, chunkRows)) {
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
        launch(onePassKernel, step, { y }, { target, scale });
      }
      gradient.add(chunk, target!);
    }
    meanInto(y, inputs[4], { selection, factor: 1 }, outputs[0]!, outputs[1]!);
  },
  backward: (call) => onePassGradients(call, call.attributes.needs, call.attributes.temperature),
  // The gradients are there; hidden states and heads are not read again.
  saves: { inputs: [], outputs: [1, 2, 3] },
  reference: meanReference(klDivergenceReference, 4, ({ selection }) => selection),
});
