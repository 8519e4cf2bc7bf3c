import type { Reference } from '../../core/define-op.js';
import { hostTensor } from '../../core/host.js';

const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

/** Float64 twin of swiglu. */
export const swigluReference: Reference<Record<never, never>> = {
  forward: ([gate, up]) => [
    hostTensor(
      gate!.shape,
      gate!.data.map((a, i) => a * sigmoid(a) * up!.data[i]!),
    ),
  ],
  backward([gate, up], _attributes, [g]) {
    const dGate = hostTensor(gate!.shape);
    const dUp = hostTensor(up!.shape);
    gate!.data.forEach((a, i) => {
      const s = sigmoid(a);
      dGate.data[i] = g!.data[i]! * up!.data[i]! * s * (1 + a * (1 - s));
      dUp.data[i] = g!.data[i]! * a * s;
    });
    return [dGate, dUp];
  },
};
