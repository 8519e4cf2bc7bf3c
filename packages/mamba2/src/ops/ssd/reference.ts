import { type HostTensor, hostTensor } from '@zebra/tensor';
import { segmentRules } from '../../rows.js';

/** Inputs of the reference, in the operation's order. */
export type SsdHosts = readonly (HostTensor | undefined)[];

const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));

function open(inputs: SsdHosts) {
  const [x, b, c, dt, dtBias, aLog, skip, segments, initial] = inputs;
  const [batch, length, xHeads, headDim] = x!.shape as [number, number, number, number];
  const [heads, stateSize] = [c!.shape[2]!, c!.shape[3]!];
  const rules = segmentRules(segments?.data, length, initial !== undefined);
  return {
    batch,
    length,
    heads,
    headDim,
    stateSize,
    initial: initial?.data,
    skip: skip!.data,
    rate: (h: number) => -Math.exp(aLog!.data[h]!),
    /** δ and e^a of a token and head. */
    gate(
      n: number,
      t: number,
      h: number,
    ): { delta: number; decay: number; raw: number; cut: boolean; padded: boolean } {
      const raw = dt!.data[(n * length + t) * heads + h]! + dtBias!.data[h]!;
      if (rules.padded(n, t)) return { delta: 0, decay: 1, raw, cut: false, padded: true };
      const delta = softplus(raw);
      const cut = rules.starts(n, t);
      return { delta, decay: cut ? 0 : Math.exp(-Math.exp(aLog!.data[h]!) * delta), raw, cut, padded: false };
    },
    xAt: (n: number, t: number, h: number) => ((n * length + t) * xHeads + Math.floor(h / (heads / xHeads))) * headDim,
    bAt: (n: number, t: number, h: number) => {
      const bHeads = b!.shape[2]!;
      return ((n * length + t) * bHeads + Math.floor(h / (heads / bHeads))) * stateSize;
    },
    cAt: (n: number, t: number, h: number) => ((n * length + t) * heads + h) * stateSize,
    yAt: (n: number, t: number, h: number) => ((n * length + t) * heads + h) * headDim,
    x: x!.data,
    b: b!.data,
    c: c!.data,
  };
}

type Opened = ReturnType<typeof open>;

/** Runs one head's recurrence, calling `visit` with the state after each token; returns the last state. */
function runHead(o: Opened, n: number, h: number, visit: (t: number, state: Float64Array) => void): Float64Array {
  const size = o.headDim * o.stateSize;
  const state = new Float64Array(size);
  if (o.initial) state.set(o.initial.subarray((n * o.heads + h) * size, (n * o.heads + h + 1) * size));
  for (let t = 0; t < o.length; t++) {
    const { delta, decay } = o.gate(n, t, h);
    const [xAt, bAt] = [o.xAt(n, t, h), o.bAt(n, t, h)];
    for (let i = 0; i < o.headDim; i++) {
      for (let j = 0; j < o.stateSize; j++) {
        const at = i * o.stateSize + j;
        state[at] = decay * state[at]! + delta * o.x[xAt + i]! * o.b[bAt + j]!;
      }
    }
    visit(t, state);
  }
  return state;
}

/** S_t = e^{a_t}·S_{t−1} + δ_t·x_t ⊗ B_t, y_t = S_t·C_t + D·x_t, token by token. Returns y and the last state. */
export function ssdReference(inputs: SsdHosts): HostTensor[] {
  const o = open(inputs);
  const y = hostTensor([o.batch, o.length, o.heads, o.headDim]);
  const final = hostTensor([o.batch, o.heads, o.headDim, o.stateSize]);
  for (let n = 0; n < o.batch; n++) {
    for (let h = 0; h < o.heads; h++) {
      const last = runHead(o, n, h, (t, state) => {
        const [xAt, cAt, yAt] = [o.xAt(n, t, h), o.cAt(n, t, h), o.yAt(n, t, h)];
        for (let i = 0; i < o.headDim; i++) {
          let sum = o.skip[h]! * o.x[xAt + i]!;
          for (let j = 0; j < o.stateSize; j++) sum += state[i * o.stateSize + j]! * o.c[cAt + j]!;
          y.data[yAt + i] = sum;
        }
      });
      final.data.set(last, (n * o.heads + h) * last.length);
    }
  }
  return [y, final];
}

/** The gradient by the recurrence run backwards, all states kept: G_t = dy_t ⊗ C_t + e^{a_{t+1}}·G_{t+1}. */
export function ssdReferenceBackward(inputs: SsdHosts, dy: HostTensor): (HostTensor | undefined)[] {
  const o = open(inputs);
  const [dx, db, dc, ddt, ddtBias, daLog, dSkip] = inputs.slice(0, 7).map((input) => hostTensor(input!.shape));
  const dInitial = inputs[8] && hostTensor(inputs[8].shape);
  const size = o.headDim * o.stateSize;
  for (let n = 0; n < o.batch; n++) {
    for (let h = 0; h < o.heads; h++) {
      const states: Float64Array[] = [];
      runHead(o, n, h, (_t, state) => states.push(state.slice()));
      const first = new Float64Array(size);
      if (o.initial) first.set(o.initial.subarray((n * o.heads + h) * size, (n * o.heads + h + 1) * size));
      const g = new Float64Array(size);
      for (let t = o.length - 1; t >= 0; t--) {
        const { delta, decay, raw, cut, padded } = o.gate(n, t, h);
        const [xAt, bAt, cAt, yAt] = [o.xAt(n, t, h), o.bAt(n, t, h), o.cAt(n, t, h), o.yAt(n, t, h)];
        const before = states[t - 1] ?? first;
        let dDelta = 0;
        let dDecay = 0;
        for (let i = 0; i < o.headDim; i++) {
          const up = dy.data[yAt + i]!;
          dx!.data[xAt + i]! += o.skip[h]! * up;
          dSkip!.data[h]! += up * o.x[xAt + i]!;
          for (let j = 0; j < o.stateSize; j++) {
            const at = i * o.stateSize + j;
            g[at]! += up * o.c[cAt + j]!;
            dc!.data[cAt + j]! += up * states[t]![at]!;
            dx!.data[xAt + i]! += delta * g[at]! * o.b[bAt + j]!;
            db!.data[bAt + j]! += delta * g[at]! * o.x[xAt + i]!;
            dDelta += g[at]! * o.x[xAt + i]! * o.b[bAt + j]!;
            dDecay += g[at]! * before[at]!;
            g[at]! *= decay;
          }
        }
        if (padded) continue;
        const dLog = cut ? 0 : dDecay * decay;
        const dRaw = (dDelta + o.rate(h) * dLog) * sigmoid(raw);
        ddt!.data[(n * o.length + t) * o.heads + h] = dRaw;
        ddtBias!.data[h]! += dRaw;
        daLog!.data[h]! += dLog * o.rate(h) * delta;
      }
      dInitial?.data.set(g, (n * o.heads + h) * size);
    }
  }
  return [dx, db, dc, ddt, ddtBias, daLog, dSkip, undefined, dInitial];
}
