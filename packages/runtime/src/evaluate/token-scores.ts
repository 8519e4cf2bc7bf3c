// Shapes: B rows, T tokens a row, D hidden size.
import { scope, type Tensor, tensor, tokenLogProbabilities } from '@zebra/tensor';
import type { CausalLM } from '@zebra/tensor/nn';
import type { PackedBatch } from '@zebra/tensor/train';

/**
 * The log-probability of every target of a batch, in nats; 0 where there is none.
 *
 * @param shape [B, T]
 * @returns row-major [B, T]
 */
export async function scoreBatch(
  model: CausalLM,
  batch: PackedBatch,
  shape: readonly [number, number],
): Promise<Float32Array> {
  const { device, headWeight: head } = model;
  const scores: Tensor = scope(() => {
    const [ids, positions, segments, targets] = [batch.ids, batch.positions, batch.segments, batch.targets].map(
      (values) => tensor(device, values, shape),
    ) as [Tensor, Tensor, Tensor, Tensor];
    const hidden = model.forward(ids, { positions, segments });
    return tokenLogProbabilities({ hidden, head, targets });
  });
  try {
    return (await scores.read()) as Float32Array;
  } finally {
    scores.dispose();
  }
}
