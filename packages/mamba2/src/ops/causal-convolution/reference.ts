import { type HostTensor, hostTensor } from '@zebra/tensor';
import { segmentRules } from '../../rows.js';

const sigmoid = (v: number) => 1 / (1 + Math.exp(-v));

/** Inputs of the reference: x [B, T, C], weight [C, 1, 4], bias [C], segments, state [B, C, 4]. */
export type ConvolutionHosts = readonly (HostTensor | undefined)[];

/**
 * Where each tap of a token lies: an index into x's time, or −1…−3 for the state's last, second last, …, or undefined
 * for nothing. `taps[k]` belongs to `weight[3 − k]`.
 */
function tapsOf(inputs: ConvolutionHosts) {
  const [x, , , segments, state] = inputs;
  const length = x!.shape[1]!;
  const rules = segmentRules(segments?.data, length, state !== undefined);
  return (n: number, t: number): (number | undefined)[] => {
    const taps: (number | undefined)[] = [t];
    let at = t;
    let reset = rules.starts(n, t);
    while (taps.length < 4) {
      if (reset) {
        taps.push(undefined);
        continue;
      }
      at--;
      while (at >= 0 && rules.padded(n, at)) at--;
      taps.push(at);
      if (at >= 0) reset = rules.starts(n, at);
    }
    return taps;
  };
}

function preActivation(
  inputs: ConvolutionHosts,
  visit: (n: number, t: number, c: number, v: number, taps: (number | undefined)[]) => void,
): void {
  const [x, weight, bias, segments, state] = inputs;
  const [batch, length, channels] = x!.shape as [number, number, number];
  const taps = tapsOf(inputs);
  const rules = segmentRules(segments?.data, length, state !== undefined);
  for (let n = 0; n < batch; n++) {
    for (let t = 0; t < length; t++) {
      if (rules.padded(n, t)) continue;
      const places = taps(n, t);
      for (let c = 0; c < channels; c++) {
        let v = bias!.data[c]!;
        places.forEach((at, k) => {
          v += weight!.data[c * 4 + 3 - k]! * valueAt(inputs, n, at, c);
        });
        visit(n, t, c, v, places);
      }
    }
  }
}

function valueAt([x, , , , state]: ConvolutionHosts, n: number, at: number | undefined, c: number): number {
  const [, length, channels] = x!.shape as [number, number, number];
  if (at === undefined) return 0;
  if (at >= 0) return x!.data[(n * length + at) * channels + c]!;
  return state ? state.data[(n * channels + c) * 4 + 4 + at]! : 0;
}

/** silu(bias + Σ_k weight[3 − k]·x_{t−k}), depthwise, with zeros before a document and the state before the row. */
export function convolutionReference(inputs: ConvolutionHosts): HostTensor {
  const y = hostTensor(inputs[0]!.shape);
  const [, length, channels] = y.shape as [number, number, number];
  preActivation(inputs, (n, t, c, v) => {
    y.data[(n * length + t) * channels + c] = v * sigmoid(v);
  });
  return y;
}

/** Gradients of x, weight and bias. */
export function convolutionReferenceBackward(inputs: ConvolutionHosts, g: HostTensor): HostTensor[] {
  const [dx, dw, db] = inputs.slice(0, 3).map((input) => hostTensor(input!.shape)) as [
    HostTensor,
    HostTensor,
    HostTensor,
  ];
  const [, length, channels] = dx.shape as [number, number, number];
  preActivation(inputs, (n, t, c, v, places) => {
    const s = sigmoid(v);
    const d = g.data[(n * length + t) * channels + c]! * s * (1 + v * (1 - s));
    db.data[c]! += d;
    places.forEach((at, k) => {
      dw.data[c * 4 + 3 - k]! += d * valueAt(inputs, n, at, c);
      if (at !== undefined && at >= 0)
        dx.data[(n * length + at) * channels + c]! += d * inputs[1]!.data[c * 4 + 3 - k]!;
    });
  });
  return [dx, dw, db];
}
