import { allocateTensor, defineOp, type Tensor, type TensorSpec, ZebraError, zeros } from '@zebra/tensor';
import { columns, expectArgument } from '../../rows.js';
import { launchBackward, launchForward, launchStep } from './launch.js';
import type { SsdOperands } from './operands.js';
import { ssdReference, ssdReferenceBackward } from './reference.js';

const NAME = 'stateSpaceScan';

/** Operands of {@link stateSpaceScan}. */
export interface StateSpaceOperands {
  /** Inputs, [B, T, H or n_kv, P]. */
  readonly x: Tensor;
  /** Input projections, [B, T, H or n_kv, N]; as many heads as x. Head h of C uses head ⌊h/(H/n_kv)⌋ of x and B. */
  readonly b: Tensor;
  /** Output projections, [B, T, H, N]. */
  readonly c: Tensor;
  /** Step sizes before bias and softplus, [B, T, H]. */
  readonly dt: Tensor;
  /** [H]. */
  readonly dtBias: Tensor;
  /** Logarithm of the decay rates, [H]. */
  readonly aLog: Tensor;
  /** Skip weight D, [H]. */
  readonly skip: Tensor;
  /** int32 [B, T]: document number of each token, negative for padding, which leaves the state alone. */
  readonly segments?: Tensor;
  /** State to continue from, [B, H, P, N]; zeros by default. Not changed. */
  readonly initialState?: Tensor;
}

/** What {@link stateSpaceScan} gives. */
export interface StateSpaceResult {
  /** [B, T, H, P]. */
  readonly y: Tensor;
  /** State after the last token, float32 [B, H, P, N]. No gradient flows through it. */
  readonly finalState: Tensor;
}

function operands(inputs: readonly (Tensor | undefined)[]): SsdOperands {
  const [x, b, c, dt, dtBias, aLog, skip, segments, initial] = inputs as Tensor[];
  const [batch, length, xHeads, headDim] = x!.shape as [number, number, number, number];
  const heads = c!.shape[2]!;
  return {
    batch,
    length,
    heads,
    group: heads / xHeads,
    headDim,
    stateSize: c!.shape[3]!,
    x: columns(x!),
    b: columns(b!),
    c: columns(c!),
    dt: columns(dt!),
    dtBias: dtBias!,
    aLog: aLog!,
    skip: skip!,
    segments,
    continued: initial !== undefined,
  };
}

function shape(inputs: readonly (TensorSpec | undefined)[]): TensorSpec[] {
  const [x, b, c, dt, dtBias, aLog, skip, segments, initial] = inputs;
  if (x!.shape.length !== 4 || c!.shape.length !== 4) {
    throw new ZebraError(
      'shape',
      `${NAME}: x and c must have 4 dimensions [B, T, heads, size], got [${x!.shape.join(', ')}] and [${c!.shape.join(', ')}]`,
    );
  }
  const [batch, length, xHeads, headDim] = x!.shape as [number, number, number, number];
  const [heads, stateSize] = [c!.shape[2]!, c!.shape[3]!];
  if (heads % xHeads !== 0) {
    throw new ZebraError('shape', `${NAME}: the heads of c (${heads}) must be a multiple of those of x (${xHeads})`);
  }
  expectArgument(NAME, 'x', x, [batch, length, xHeads, headDim]);
  expectArgument(NAME, 'b', b, [batch, length, xHeads, stateSize]);
  expectArgument(NAME, 'c', c, [batch, length, heads, stateSize]);
  expectArgument(NAME, 'dt', dt, [batch, length, heads]);
  expectArgument(NAME, 'dtBias', dtBias, [heads]);
  expectArgument(NAME, 'aLog', aLog, [heads]);
  expectArgument(NAME, 'skip', skip, [heads]);
  if (segments) expectArgument(NAME, 'segments', segments, [batch, length], 'int32');
  const state = [batch, heads, headDim, stateSize];
  if (initial) expectArgument(NAME, 'initialState', initial, state, 'float32');
  return [
    { shape: [batch, length, heads, headDim], dtype: x!.dtype },
    { shape: state, dtype: 'float32' },
  ];
}

/** The operation; inputs: x, b, c, dt, dtBias, aLog, skip, segments, initialState. */
export const stateSpaceScanOp = defineOp<Record<never, never>>({
  name: NAME,
  shape,
  forward({ device, inputs, outputs }) {
    const [y, state] = outputs as [Tensor, Tensor];
    const initial = inputs[8];
    const bytes = { size: state.byteLength };
    if (initial) device.copy({ ...initial.range(), ...bytes }, { ...state.range(), ...bytes });
    else device.clear({ ...state.range(), ...bytes });
    launchForward(device, operands(inputs), columns(y), state);
  },
  backward({ device, inputs, gradients, needs }) {
    if (gradients[1]) throw new ZebraError('argument', `${NAME}: the final state has no gradient`);
    const [x, b, c, dt] = inputs as [Tensor, Tensor, Tensor, Tensor];
    const made = [x, b, c, dt].map((input) => allocateTensor(device, input));
    const [dx, db, dc, ddt] = made.map((tensor) => columns(tensor));
    const initial = needs[8] ? zeros(device, inputs[8]!.shape) : undefined;
    const into = { x: dx!, b: db!, c: dc!, dt: ddt!, initial };
    const shares = launchBackward(device, operands(inputs), gradients[0]!, into, inputs[8]);
    return [...made, shares.dtBias, shares.aLog, shares.skip, undefined, initial];
  },
  reference: {
    forward: (inputs) => ssdReference(inputs),
    backward: (inputs, _attributes, [dy]) => ssdReferenceBackward(inputs, dy!),
  },
});

/**
 * The selective state space of Mamba-2 over whole sequences, differentiable in all float operands:
 * δ = softplus(dt + dtBias), S_t = exp(−exp(aLog)·δ)·S_{t−1} + δ·x_t ⊗ b_t, y_t = S_t·c_t + skip·x_t.
 *
 * A token whose segment differs from the one before starts from a zero state; padding gives its skip term alone. The
 * state and all sums are float32. On a GPU the chunked form runs (Mamba-2, arXiv 2405.21060, section 6), on CPU
 * adapters the recurrence; both agree.
 *
 * @throws ZebraError `shape`, `dtype` or `argument` that names the operand
 */
export function stateSpaceScan(args: StateSpaceOperands): StateSpaceResult {
  const { x, b, c, dt, dtBias, aLog, skip, segments, initialState } = args;
  const [y, finalState] = stateSpaceScanOp.apply([x, b, c, dt, dtBias, aLog, skip, segments, initialState], {});
  return { y: y!, finalState: finalState! };
}

/** Operands of {@link stateSpaceStep}: those of the scan with T = 1. */
export interface StateSpaceStepOperands extends Omit<StateSpaceOperands, 'x' | 'b' | 'c' | 'initialState'> {
  /** x, B and C of the token side by side, [B, 1, n_kv·P + n_kv·N + H·N]. */
  readonly xbc: Tensor;
  /** Heads of x and B. */
  readonly keyValueHeadCount: number;
  /** [B, H, P, N], updated in place. */
  readonly state: Tensor;
}

/**
 * One token of the recurrence of {@link stateSpaceScan}, with the state updated in place. Gives y [B, 1, H, P], zero
 * where the token is padding. Can be recorded in a program: nothing comes from the host. No gradient.
 *
 * @throws ZebraError `shape` or `dtype` that names the operand
 */
export function stateSpaceStep(args: StateSpaceStepOperands): Tensor {
  const { xbc, dt, dtBias, aLog, skip, segments, state, keyValueHeadCount } = args;
  const name = 'stateSpaceStep';
  if (state.shape.length !== 4)
    throw new ZebraError('shape', `${name}: state must be [B, H, P, N], got [${state.shape.join(', ')}]`);
  const [batch, heads, headDim, stateSize] = state.shape as [number, number, number, number];
  expectArgument(name, 'state', state, state.shape, 'float32');
  expectArgument(name, 'xbc', xbc, [batch, 1, keyValueHeadCount * (headDim + stateSize) + heads * stateSize]);
  expectArgument(name, 'dt', dt, [batch, 1, heads]);
  for (const [key, value] of Object.entries({ dtBias, aLog, skip })) expectArgument(name, key, value, [heads]);
  if (segments) expectArgument(name, 'segments', segments, [batch, 1], 'int32');
  const y = allocateTensor(xbc.device, { shape: [batch, 1, heads, headDim], dtype: xbc.dtype });
  const [bAt, cAt] = [keyValueHeadCount * headDim, keyValueHeadCount * (headDim + stateSize)];
  const operands: SsdOperands = {
    batch,
    length: 1,
    heads,
    group: heads / keyValueHeadCount,
    headDim,
    stateSize,
    x: columns(xbc),
    b: columns(xbc, bAt),
    c: columns(xbc, cAt),
    dt: columns(dt),
    dtBias,
    aLog,
    skip,
    segments,
    continued: true,
  };
  launchStep(xbc.device, operands, y, state);
  return y;
}
