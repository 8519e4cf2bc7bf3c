import type { Reference } from '../../core/define-op.js';
import { type HostTensor, hostTensor } from '../../core/host.js';
import type { RopeAttributes } from './index.js';

function rotate(
  inputs: readonly (HostTensor | undefined)[],
  x: HostTensor,
  { start, layout }: RopeAttributes,
  inverse: boolean,
): HostTensor {
  const [, cos, sin, positions] = inputs;
  const [, tokens, heads, columns] = x.shape as [number, number, number, number];
  const [rows, pairs] = cos!.shape as [number, number];
  const y = hostTensor(x.shape, x.data);
  for (let head = 0; head < x.data.length / columns; head++) {
    const token = Math.floor(head / heads);
    const position = Math.min(Math.max(positions ? positions.data[token]! : token % tokens, 0), rows - 1);
    for (let j = 0; j < pairs; j++) {
      const first = head * columns + start;
      const split = [first + j, first + j + pairs] as const;
      const input = layout === 'interleaved' ? ([first + 2 * j, first + 2 * j + 1] as const) : split;
      const [from, to] = inverse ? [split, input] : [input, split];
      const c = cos!.data[position * pairs + j]!;
      const s = (inverse ? -1 : 1) * sin!.data[position * pairs + j]!;
      y.data[to[0]] = x.data[from[0]]! * c - x.data[from[1]]! * s;
      y.data[to[1]] = x.data[from[1]]! * c + x.data[from[0]]! * s;
    }
  }
  return y;
}

/** Float64 twin of rope. */
export const ropeReference: Reference<RopeAttributes> = {
  forward: (inputs, attributes) => [rotate(inputs, inputs[0]!, attributes, false)],
  backward: (inputs, attributes, [g]) => [rotate(inputs, g!, attributes, true)],
};
