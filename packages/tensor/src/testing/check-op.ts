import { tensor } from '../core/create.js';
import type { Op } from '../core/define-op.js';
import type { DType } from '../core/dtype.js';
import { type HostTensor, hostTensor } from '../core/host.js';
import { scope } from '../core/scope.js';
import type { Shape } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Device } from '../device/device.js';
import { relativeError } from './compare.js';
import { normalValues, uniformSource } from './random-inputs.js';

/** One input of a case: normal values by default. */
export interface CaseInput {
  readonly shape: Shape;
  readonly dtype?: DType;
  /** Value at each position, from its index and a seeded uniform generator; for ids, positive values and the like. */
  readonly values?: (index: number, random: () => number) => number;
}

/** One case of an operation. */
export interface OpCase<A> {
  readonly inputs: readonly (CaseInput | undefined)[];
  readonly attributes: A;
  readonly seed?: number;
}

/** How close device and reference must be, as ‖a−b‖/‖b‖ of each output and gradient. */
export interface Tolerance {
  readonly forward: number;
  readonly gradient: number;
  /** For the numeric check of the reference's own gradient; 1e-6 by default. */
  readonly numeric?: number;
}

const NUMERIC_STEP = 1e-5;

/**
 * Holds an operation to its float64 reference: every output and every gradient, on whatever memory the device gives
 * (poisoned in tests), without a leaked buffer; and the reference's gradient to a central difference of its forward.
 *
 * @throws Error that names the case, the tensor and the error
 */
export async function checkOp<A>(device: Device, op: Op<A>, testCase: OpCase<A>, tolerance: Tolerance): Promise<void> {
  const random = uniformSource(testCase.seed ?? 1);
  const hosts = testCase.inputs.map((input) => input && makeInput(input, random));
  const label = `${op.name} ${testCase.inputs.map((input) => input?.shape.join('×') ?? '-').join(', ')} ${JSON.stringify(testCase.attributes)}`;
  const expected = op.reference.forward(hosts, testCase.attributes);
  const before = device.statistics().liveBuffers;
  const inputs = hosts.map((host, index) => {
    const input = testCase.inputs[index];
    return host && input && tensor(device, host.data, host.shape, { dtype: input.dtype ?? 'float32' });
  });
  const outputs = scope(() => op.apply(inputs, testCase.attributes));
  await compareAll(label, 'output', outputs, expected, tolerance.forward);
  if (op.backward && !op.reference.backward)
    throw new Error(`${label}: the operation has a gradient, its reference none`);
  if (op.backward && op.reference.backward) {
    // Later outputs exist for the gradient alone, so no gradient comes back through them.
    const upstream = expected.map((host, index) => (index === 0 ? normalValues(host.shape, random) : undefined));
    const wanted = op.reference.backward(hosts, testCase.attributes, upstream);
    checkNumerically(label, op, hosts, testCase.attributes, upstream, wanted, tolerance.numeric ?? 1e-6);
    const gradients = upstream.map(
      (host, index) => host && tensor(device, host.data, host.shape, { dtype: outputs[index]!.dtype }),
    );
    const backward = op.backward;
    const needs = wanted.map((gradient) => gradient !== undefined);
    const got = scope(() => [
      ...backward({ device, inputs, outputs, gradients, attributes: testCase.attributes, needs }),
    ]);
    await compareAll(label, 'gradient', got, wanted, tolerance.gradient);
    dispose([...gradients, ...got]);
  }
  dispose([...inputs, ...outputs]);
  const after = device.statistics().liveBuffers;
  if (after !== before) throw new Error(`${label}: ${after - before} buffers leaked`);
}

function makeInput(input: CaseInput, random: () => number): HostTensor {
  if (!input.values) return normalValues(input.shape, random);
  const host = hostTensor(input.shape);
  const { values } = input;
  const integer = input.dtype === 'int32' || input.dtype === 'uint32';
  const rounded = (value: number) => (integer ? value : Math.fround(value));
  return { shape: host.shape, data: host.data.map((_, index) => rounded(values(index, random))) };
}

async function compareAll(
  label: string,
  kind: string,
  got: readonly (Tensor | undefined)[],
  wanted: readonly (HostTensor | undefined)[],
  limit: number,
): Promise<void> {
  for (let i = 0; i < wanted.length; i++) {
    const want = wanted[i];
    if (!want) continue;
    const tensorGot = got[i];
    if (!tensorGot) throw new Error(`${label}: ${kind} ${i} is missing`);
    if (tensorGot.shape.join() !== want.shape.join()) {
      throw new Error(
        `${label}: ${kind} ${i} has shape [${tensorGot.shape.join()}], the reference [${want.shape.join()}]`,
      );
    }
    const error = relativeError(await tensorGot.read(), want.data);
    if (!(error <= limit))
      throw new Error(`${label}: ${kind} ${i} is off by ${error.toExponential(2)}, allowed ${limit}`);
  }
}

/** Compares ⟨gradient, v⟩ with the central difference of ⟨upstream, f⟩ along a random direction v, input by input. */
function checkNumerically<A>(
  label: string,
  op: Op<A>,
  hosts: readonly (HostTensor | undefined)[],
  attributes: A,
  upstream: readonly (HostTensor | undefined)[],
  gradients: readonly (HostTensor | undefined)[],
  limit: number,
): void {
  const random = uniformSource(99);
  const value = (inputs: readonly (HostTensor | undefined)[]) => {
    let total = 0;
    op.reference.forward(inputs, attributes).forEach((output, k) => {
      const up = upstream[k];
      if (up) for (let i = 0; i < output.data.length; i++) total += output.data[i]! * up.data[i]!;
    });
    return total;
  };
  gradients.forEach((gradient, k) => {
    const host = hosts[k];
    if (!gradient || !host) return;
    const direction = normalValues(host.shape, random).data;
    const moved = (step: number) => {
      const data = host.data.map((v, i) => v + step * direction[i]!);
      return value(hosts.map((h, j) => (j === k ? { shape: host.shape, data } : h)));
    };
    const numeric = (moved(NUMERIC_STEP) - moved(-NUMERIC_STEP)) / (2 * NUMERIC_STEP);
    let analytic = 0;
    let scale = 1e-3;
    for (let i = 0; i < direction.length; i++) {
      analytic += gradient.data[i]! * direction[i]!;
      scale += (gradient.data[i]! * direction[i]!) ** 2;
    }
    const error = Math.abs(numeric - analytic) / Math.sqrt(scale);
    if (!(error <= limit)) {
      throw new Error(
        `${label}: the reference's own gradient of input ${k} is off by ${error.toExponential(2)} from a central difference`,
      );
    }
  });
}

function dispose(tensors: readonly (Tensor | undefined)[]): void {
  for (const item of tensors) item?.dispose();
}
