import type { Device } from '../device/device.js';
import { ZebraError } from '../errors.js';
import { BYTES } from './dtype.js';
import type { HostTensor } from './host.js';
import { keep, scope } from './scope.js';
import { elementCount, showShape, type TensorSpec } from './shape.js';
import { currentTape, withTape } from './tape.js';
import { Tensor } from './tensor.js';

/** Inputs of an operation, in order; an optional input that is not given is undefined. */
export type OpInputs = readonly (Tensor | undefined)[];

/** What the forward of an operation works with. */
export interface ForwardCall<A> {
  readonly device: Device;
  readonly inputs: OpInputs;
  /** Fresh memory of the shapes that the shape rule gave; the forward fills all of it. */
  readonly outputs: readonly Tensor[];
  readonly attributes: A;
}

/** What the gradient of an operation works with. */
export interface BackwardCall<A> {
  readonly device: Device;
  readonly inputs: OpInputs;
  readonly outputs: readonly Tensor[];
  /** Gradients of the outputs; undefined where the loss does not depend on one. */
  readonly gradients: readonly (Tensor | undefined)[];
  readonly attributes: A;
  /** Whether each input wants a gradient. */
  readonly needs: readonly boolean[];
  /**
   * What other uses of an input have given it already, where nobody else uses that memory. A gradient that touches
   * little of an input may be added to it in place: return that tensor then. Default: none.
   */
  readonly sums?: readonly (Tensor | undefined)[];
}

/** Float64 twins on the host, plain loops, no GPU: what tests hold the kernels to. */
export interface Reference<A> {
  forward(inputs: readonly (HostTensor | undefined)[], attributes: A): readonly HostTensor[];
  backward?(
    inputs: readonly (HostTensor | undefined)[],
    attributes: A,
    gradients: readonly (HostTensor | undefined)[],
  ): readonly (HostTensor | undefined)[];
}

/** Which of an operation's tensors its gradient reads, by index. */
export interface SavedTensors {
  /** Default: all inputs. */
  readonly inputs?: readonly number[];
  /** Default: all outputs. */
  readonly outputs?: readonly number[];
}

/** An operation: its shape rule, kernels, gradient and reference in one object. */
export interface OpDefinition<A> {
  readonly name: string;
  /** Shapes and dtypes of the outputs; throws on inputs that do not fit. Later outputs may be for the gradient only. */
  shape(inputs: readonly (TensorSpec | undefined)[], attributes: A): readonly TensorSpec[];
  /** Not there: the output is a view of the first input, seen as the shape rule says (of the same size and dtype). */
  forward?(call: ForwardCall<A>): void;
  /** Gradients of the inputs, undefined for those without. Not there: the operation cannot be differentiated. */
  backward?(call: BackwardCall<A>): readonly (Tensor | undefined)[];
  /**
   * What `backward` reads. The tape keeps the memory of these alone until then; the others come to `backward` as
   * disposed tensors, which still know their shape and dtype. Default: everything.
   */
  readonly saves?:
    | SavedTensors
    | ((call: { readonly attributes: A; readonly needs: readonly boolean[] }) => SavedTensors);
  readonly reference: Reference<A>;
}

/** A defined operation, ready to run. */
export interface Op<A> extends OpDefinition<A> {
  /** Runs the operation, recording it on the current tape when a gradient is wanted. Returns all outputs. */
  apply(inputs: OpInputs, attributes: A): Tensor[];
}

/**
 * Defines an operation. The library's own operations and those of other authors walk through this one door.
 *
 * @example
 * const square = defineOp<Record<string, never>>({
 *   name: 'square',
 *   shape: ([x]) => [x!],
 *   forward: ({ device, inputs: [x], outputs: [y] }) => device.dispatch(squareKernel, …),
 *   backward: ({ inputs: [x], gradients: [g] }) => [multiply(g!, multiply(x!, 2))],
 *   reference: { forward: ([x]) => [hostTensor(x!.shape, x!.data.map((v) => v * v))], backward: … },
 * });
 */
export function defineOp<A>(definition: OpDefinition<A>): Op<A> {
  return { ...definition, apply: (inputs, attributes) => applyOp(definition, inputs, attributes) };
}

function applyOp<A>(op: OpDefinition<A>, inputs: OpInputs, attributes: A): Tensor[] {
  const device = deviceOf(op.name, inputs);
  const specs = op.shape(inputs, attributes);
  const tape = currentTape();
  const outputs: Tensor[] = [];
  try {
    device.naming(op.name, () => {
      if (!op.forward) return void outputs.push(inputs[0]!.view(specs[0]!));
      for (const spec of specs) outputs.push(allocateTensor(device, spec));
      withTape(undefined, () => scope(() => op.forward?.({ device, inputs, outputs, attributes })));
    });
  } catch (error) {
    for (const output of outputs) output.dispose();
    throw error;
  }
  if (tape?.tracks(inputs)) recordOp(op, device, inputs, outputs, attributes);
  return outputs;
}

function recordOp<A>(
  op: OpDefinition<A>,
  device: Device,
  inputs: OpInputs,
  outputs: readonly Tensor[],
  attributes: A,
): void {
  const tape = currentTape();
  if (!tape) return;
  const needs = inputs.map((input) => input !== undefined && tape.tracked.has(input.id));
  const saves = typeof op.saves === 'function' ? op.saves({ attributes, needs }) : op.saves;
  const held = inputs.map((input, index) => input && hold(input, saves?.inputs, index));
  const results = outputs.map((output, index) => hold(output, saves?.outputs, index));
  tape.record({
    name: op.name,
    inputs: held,
    outputs: results,
    backward(gradients, _needs, _extra, sums) {
      const { backward } = op;
      if (!backward) throw new ZebraError('argument', `${op.name}: this operation has no gradient`);
      const call = { device, inputs: held, outputs: results, gradients, attributes, needs, sums };
      return device.naming(`${op.name} gradient`, () => backward.call(op, call));
    },
  });
}

/** A handle for the tape: on the memory too where it is saved, else on shape and dtype alone. */
function hold(tensor: Tensor, saved: readonly number[] | undefined, index: number): Tensor {
  const handle = keep(tensor.alias());
  if (saved && !saved.includes(index)) handle.dispose();
  return handle;
}

/** Elements of a tensor, at most: kernels count them in 32 bits, and invocations past the last one as well. */
const MOST_ELEMENTS = 2 ** 32 - 2 ** 25;

/**
 * Memory of a tensor, contents undefined.
 *
 * @throws ZebraError `memory` for more elements than kernels count, and as `Device.allocate` does
 */
export function allocateTensor(device: Device, spec: TensorSpec): Tensor {
  if (elementCount(spec.shape) > MOST_ELEMENTS) {
    throw new ZebraError(
      'memory',
      `a tensor of shape ${showShape(spec.shape)} was asked for; kernels count at most ${MOST_ELEMENTS} elements. Use smaller chunks.`,
    );
  }
  const storage = device.allocate(elementCount(spec.shape) * BYTES[spec.dtype], spec);
  return new Tensor(device, storage, { shape: [...spec.shape], dtype: spec.dtype });
}

function deviceOf(name: string, inputs: OpInputs): Device {
  let device: Device | undefined;
  for (const input of inputs) {
    if (!input) continue;
    if (!(input instanceof Tensor)) {
      throw new ZebraError('argument', `${name}: expected tensors, got ${typeof input}. Make one with tensor().`);
    }
    if (device && input.device !== device)
      throw new ZebraError('device', `${name}: the inputs lie on different devices`);
    device = input.device;
  }
  if (!device) throw new ZebraError('argument', `${name}: no input tensor given`);
  return device;
}
