import { defineKernel, linearMain, type Tensor } from '@zebra/tensor';

/** Steps whose ids the device keeps until they are read. */
export const RING = 32;

const feedKernel = defineKernel({
  name: 'decode_feed',
  bindings: { best: 'read', first: 'read', ids: 'write', positions: 'write', ring: 'write' },
  params: { count: 'u32' },
  source: () =>
    linearMain(
      'p.count',
      `
  let id = best[i];
  ids[i] = max(id, 0);
  ring[u32(positions[i] - first[i]) % ${RING}u * p.count + i] = id;
  positions[i] += 1;`,
    ),
});

/** What a session keeps on the device of B rows; int32. */
export interface FeedState {
  /** [B, 1]: the token that the next step runs, and its place. */
  readonly ids: Tensor;
  readonly positions: Tensor;
  /** [B]: `positions` before the first token was chosen. */
  readonly first: Tensor;
  /** [RING, B]: what was chosen, by its number modulo RING; −1 where logits were not finite. */
  readonly ring: Tensor;
}

/**
 * Makes the tokens that a step found those that the next step runs, and notes them, all on the device: steps can follow
 * each other without the host.
 *
 * @param best int32 [B]
 */
export function feed(best: Tensor, { ids, positions, first, ring }: FeedState): void {
  best.device.dispatch(feedKernel, {
    bindings: {
      best: best.range(),
      first: first.range(),
      ids: ids.range(),
      positions: positions.range(),
      ring: ring.range(),
    },
    params: { count: best.size },
    groups: Math.ceil(best.size / best.device.workgroupOf(feedKernel)),
  });
}
