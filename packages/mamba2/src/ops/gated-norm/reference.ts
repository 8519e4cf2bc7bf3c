import { type HostTensor, hostTensor } from '@zebra/tensor';

const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));

/** RMSNorm over groups of `groupSize` channels of y·silu(z), times weight. */
export function gatedNormReference(
  y: HostTensor,
  z: HostTensor,
  weight: HostTensor,
  groupSize: number,
  epsilon: number,
): HostTensor {
  const out = hostTensor(y.shape);
  const gated = y.data.map((value, i) => value * z.data[i]! * sigmoid(z.data[i]!));
  for (let first = 0; first < gated.length; first += groupSize) {
    let squares = 0;
    for (let k = 0; k < groupSize; k++) squares += gated[first + k]! ** 2;
    const r = 1 / Math.sqrt(squares / groupSize + epsilon);
    for (let i = first; i < first + groupSize; i++) out.data[i] = gated[i]! * r * weight.data[i % weight.data.length]!;
  }
  return out;
}

/** Gradients of y, z and weight. */
export function gatedNormReferenceBackward(
  y: HostTensor,
  z: HostTensor,
  weight: HostTensor,
  g: HostTensor,
  groupSize: number,
  epsilon: number,
): HostTensor[] {
  const [dy, dz, dw] = [hostTensor(y.shape), hostTensor(z.shape), hostTensor(weight.shape)];
  const gated = y.data.map((value, i) => value * z.data[i]! * sigmoid(z.data[i]!));
  for (let first = 0; first < gated.length; first += groupSize) {
    let squares = 0;
    let inner = 0;
    for (let i = first; i < first + groupSize; i++) {
      squares += gated[i]! ** 2;
      inner += gated[i]! * g.data[i]! * weight.data[i % weight.data.length]!;
    }
    const r = 1 / Math.sqrt(squares / groupSize + epsilon);
    for (let i = first; i < first + groupSize; i++) {
      const c = i % weight.data.length;
      const s = sigmoid(z.data[i]!);
      const dv = r * (g.data[i]! * weight.data[c]! - (gated[i]! * r * r * inner) / groupSize);
      dw.data[c]! += g.data[i]! * gated[i]! * r;
      dy.data[i] = dv * z.data[i]! * s;
      dz.data[i] = dv * y.data[i]! * s * (1 + z.data[i]! * (1 - s));
    }
  }
  return [dy, dz, dw];
}
