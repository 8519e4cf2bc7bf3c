import { argmax, type Device, linear, Random, type Shape, scope, type Tensor, tensor, zeros } from '@zebra/tensor';
import { spiralPoints } from './spirals.js';
import { squaredReluGate } from './squared-relu-gate.js';

const INNER = 48;
const CLASSES = 2;

/** Two gated layers from a point in the plane to the logits of two classes. */
export class Classifier {
  readonly device: Device;
  readonly parameters = new Map<string, Tensor>();

  constructor(device: Device, seed = 1) {
    this.device = device;
    const random = new Random(seed);
    const layer = (name: string, [outputs, inputs]: readonly [number, number]) => {
      const values = Float32Array.from({ length: outputs * inputs }, () => random.normal() / Math.sqrt(inputs));
      this.add(`${name}.weight`, [outputs, inputs], values);
      this.parameters.set(`${name}.bias`, zeros(device, [outputs]));
    };
    layer('gate', [INNER, 2]);
    layer('up', [INNER, 2]);
    layer('gate2', [INNER, INNER]);
    layer('up2', [INNER, INNER]);
    layer('out', [CLASSES, INNER]);
  }

  private add(name: string, shape: Shape, values: Float32Array): void {
    this.parameters.set(name, tensor(this.device, values, shape));
  }

  /** Points [N, 2] to logits [N, 2]. */
  logits(x: Tensor): Tensor {
    return scope(() => {
      const to = (name: string, input: Tensor) =>
        linear(input, this.parameters.get(`${name}.weight`)!, this.parameters.get(`${name}.bias`)!);
      const first = squaredReluGate(to('gate', x), to('up', x));
      const second = squaredReluGate(to('gate2', first), to('up2', first));
      return to('out', second);
    });
  }

  /** The share of fresh points whose spiral is told rightly. */
  async accuracy(rows = 400, seed = 99): Promise<number> {
    const { x, labels } = spiralPoints(rows, new Random(seed));
    const best = scope(() => argmax(this.logits(tensor(this.device, x, [rows, 2]))));
    const found = await best.read();
    best.dispose();
    return labels.filter((label, row) => label === found[row]).length / rows;
  }

  [Symbol.dispose](): void {
    for (const parameter of this.parameters.values()) parameter.dispose();
  }
}
