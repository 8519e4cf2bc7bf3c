import {
  allocateTensor,
  defineKernel,
  defineOp,
  hostTensor,
  linearMain,
  type Reference,
  type Tensor,
  ZebraError,
} from '@zebra/tensor';

// A kernel is a template that returns WGSL. What it binds and its scalars are declared beside it; the header (bindings,
// the types `<name>_t` of their elements, the scalars as `p`) is generated, so that only the maths is left to write.
// Loading with f32(…) and storing with y_t(…) is all it takes to serve float16 tensors as well.
const forwardKernel = defineKernel({
  name: 'example_squared_relu_gate',
  bindings: { gate: 'read', up: 'read', y: 'write' },
  params: { count: 'u32' },
  // linearMain gives one invocation an element: `i` is its index.
  source: () =>
    linearMain(
      'p.count',
      /* wgsl */ `
  let a = max(f32(gate[i]), 0.0);
  y[i] = y_t(a * a * f32(up[i]));`,
    ),
});

// One kernel for both gradients. A binding that a dispatch leaves out is not in the shader (`has`), so that a gradient
// nobody asked for costs nothing.
const gradientKernel = defineKernel({
  name: 'example_squared_relu_gate_gradient',
  bindings: { g: 'read', gate: 'read', up: 'read', d_gate: 'write', d_up: 'write' },
  params: { count: 'u32' },
  source: ({ has }) =>
    linearMain(
      'p.count',
      /* wgsl */ `
  let a = max(f32(gate[i]), 0.0);
  let upstream = f32(g[i]);
  ${has('d_gate') ? 'd_gate[i] = d_gate_t(upstream * 2.0 * a * f32(up[i]));' : ''}
  ${has('d_up') ? 'd_up[i] = d_up_t(upstream * a * a);' : ''}`,
    ),
});

type NoAttributes = Record<never, never>;

// The same in float64 loops, as plain as can be: what checkOp() holds the kernels to. The gradient here is itself
// checked against differences of the forward.
const reference: Reference<NoAttributes> = {
  forward: ([gate, up]) => [
    hostTensor(
      gate!.shape,
      gate!.data.map((x, i) => Math.max(x, 0) ** 2 * up!.data[i]!),
    ),
  ],
  backward: ([gate, up], _attributes, [g]) => [
    hostTensor(
      gate!.shape,
      gate!.data.map((x, i) => g!.data[i]! * 2 * Math.max(x, 0) * up!.data[i]!),
    ),
    hostTensor(
      gate!.shape,
      gate!.data.map((x, i) => g!.data[i]! * Math.max(x, 0) ** 2),
    ),
  ],
};

/** {@link squaredReluGate} as an operation. */
export const squaredReluGateOp = defineOp<NoAttributes>({
  name: 'squaredReluGate',
  // Shapes and dtypes of the outputs, from those of the inputs; the place to refuse what does not fit.
  shape([gate, up]) {
    if (gate!.shape.join() !== up!.shape.join()) {
      throw new ZebraError(
        'shape',
        `squaredReluGate: up must be [${gate!.shape.join(', ')}] like gate, got [${up!.shape.join(', ')}]`,
      );
    }
    for (const [name, { dtype }] of Object.entries({ gate: gate!, up: up! })) {
      if (dtype !== 'float32' && dtype !== 'float16') {
        throw new ZebraError('dtype', `squaredReluGate: ${name} must be float32 or float16, got ${dtype}`);
      }
    }
    return [gate!];
  },
  // The outputs are allocated already; the forward fills them.
  forward({ device, inputs: [gate, up], outputs: [y] }) {
    device.dispatch(forwardKernel, {
      bindings: { gate: gate!.range(), up: up!.range(), y: y!.range() },
      params: { count: y!.size },
      groups: Math.ceil(y!.size / device.workgroupOf(forwardKernel)),
    });
  },
  // Gradients in the order of the inputs; undefined for those that nobody needs.
  backward({ device, inputs: [gate, up], gradients: [g], needs }) {
    const dGate = needs[0] ? allocateTensor(device, gate!) : undefined;
    const dUp = needs[1] ? allocateTensor(device, up!) : undefined;
    device.dispatch(gradientKernel, {
      bindings: { g: g!.range(), gate: gate!.range(), up: up!.range(), d_gate: dGate?.range(), d_up: dUp?.range() },
      params: { count: g!.size },
      groups: Math.ceil(g!.size / device.workgroupOf(gradientKernel)),
    });
    return [dGate, dUp];
  },
  reference,
});

/**
 * relu(gate)² · up elementwise: a gated feed-forward activation with the squared ReLU of So et al., "Primer: Searching
 * for Efficient Transformers for Language Modeling" (2021), in the place of SwiGLU's sigmoid.
 *
 * @param gate any shape, float32 or float16
 * @param up the same shape
 * @returns the shape and dtype of `gate`; the caller owns it
 * @throws ZebraError `shape` or `dtype` when the inputs do not fit
 */
export function squaredReluGate(gate: Tensor, up: Tensor): Tensor {
  return squaredReluGateOp.apply([gate, up], {})[0]!;
}
