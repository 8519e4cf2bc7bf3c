import { crossEntropy, type Device, scope, sum, tensor } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import { evaluationBatches } from '@zebra/tensor/train';

/** Mean next-token loss over documents in nats: tokens of a document see what precedes them in it, within a row. */
export async function meanLoss(
  device: Device,
  model: CausalLM,
  documents: readonly Uint16Array[],
  shape: { readonly batchSize: number; readonly length: number },
): Promise<{ readonly nats: number; readonly predictions: number }> {
  const batches = evaluationBatches(documents, shape);
  const size = [shape.batchSize, shape.length];
  let total = 0;
  for (const batch of batches) {
    using loss = scope(() => {
      const [ids, targets, positions, segments] = [batch.ids, batch.targets, batch.positions, batch.segments].map(
        (data) => tensor(device, data as Int32Array, size),
      );
      const hidden = model.forward(ids!, { positions: positions!, segments: segments! });
      return sum(crossEntropy({ hidden, head: model.headWeight, targets: targets! }, { reduction: 'none' }));
    });
    total += await loss.item();
  }
  return { nats: total / batches.predictions, predictions: batches.predictions };
}
