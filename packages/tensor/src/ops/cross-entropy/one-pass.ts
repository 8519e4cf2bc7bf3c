import { allocateTensor, defineOp } from '../../core/define-op.js';
import type { Tensor } from '../../core/tensor.js';
import type { TokenLogProbabilityAttributes } from '../token-log-probability/index.js';
import { launch } from '../token-log-probability/launch.js';
import { tokenLogProbabilityReference } from '../token-log-probability/reference.js';
import { onePassKernel } from '../token-log-probability/token-log-probability.wgsl.js';
import {
  assertSelection,
  ChunkLogits,
  chunksOf,
  isHalf,
  LogitsGradient,
  logitsGeometry,
  logitsScale,
  meanInto,
  meanReference,
  type OnePassNeeds,
  onePassGradients,
  onePassOutputs,
  onePassSums,
  pieceRowsOf,
  piecesOf,
  type Rows,
  type Selection,
} from '../vocabulary/index.js';

/** Attributes of {@link meanCrossEntropyOp}. */
export interface MeanCrossEntropyAttributes extends TokenLogProbabilityAttributes {
  readonly needs: OnePassNeeds;
}

const selectionOf = (ignoreIndex: number, vocabulary: number): Selection => ({
  kind: 'targets',
  ignoreIndex,
  vocabulary,
});

/**
 * The mean cross-entropy of hidden states whose gradient is wanted, in one pass over the chunks of logits. Inputs:
 * hidden states, head, targets. Outputs: those of `onePassOutputs`.
 */
export const meanCrossEntropyOp = defineOp<MeanCrossEntropyAttributes>({
  name: 'meanCrossEntropy',
  shape([x, head, targets], { needs }) {
    assertSelection('crossEntropy', 'targets', targets!, logitsGeometry('crossEntropy', '', x!, head).lead);
    return onePassOutputs(x!, head, needs);
  },
  forward({ device, inputs, outputs, attributes }) {
    const [x, head, targets] = inputs as [Tensor, Tensor, Tensor];
    const { chunkRows, needs, ignoreIndex } = attributes;
    const size = pieceRowsOf({ half: isHalf(x, head), models: 1 }, chunkRows);
    const source = new ChunkLogits(x, head, size);
    const gradient = new LogitsGradient(source, onePassSums(outputs, needs), chunkRows);
    const y = allocateTensor(device, { shape: targets.shape, dtype: 'float32' });
    const scale = logitsScale(x, head);
    for (const chunk of chunksOf(targets.size, chunkRows)) {
      let target: Rows | undefined;
      for (const piece of piecesOf(chunk, size)) {
        const logits = source.of(piece);
        target = gradient.target(chunk, piece, logits);
        launch(onePassKernel, { inputs, attributes, piece, logits }, { y }, { target, scale });
      }
      gradient.add(chunk, target!);
    }
    const selection = selectionOf(ignoreIndex, head.shape[0]!);
    meanInto(y, targets, { selection, factor: 1 }, outputs[0]!, outputs[1]!);
  },
  backward: (call) => onePassGradients(call, call.attributes.needs),
  // The gradients are there; hidden states and heads are not read again.
  saves: { inputs: [], outputs: [1, 2, 3] },
  reference: meanReference(tokenLogProbabilityReference, 2, ({ ignoreIndex }, [, head]) =>
    selectionOf(ignoreIndex, head!.shape[0]!),
  ),
});
