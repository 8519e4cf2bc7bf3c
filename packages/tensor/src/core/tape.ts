import { ZebraError } from '../errors.js';
import { accumulate, isExclusive } from './accumulate.js';
import { isFloat } from './dtype.js';
import { keep, scope } from './scope.js';
import { sameShape, showShape } from './shape.js';
import type { Tensor } from './tensor.js';

/** What the tape must know of an operation to run it backwards. */
export interface TapeNode {
  readonly name: string;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly outputs: readonly Tensor[];
  /**
   * Gradients of the inputs from gradients of the outputs. `needs[i]` says whether input `i` wants one; `extra` takes
   * gradients of tensors that are no inputs (captured by a checkpointed function). `sums[i]` is what input `i` has been
   * given already, where it may be added to in place: it is returned then.
   */
  backward(
    gradients: readonly (Tensor | undefined)[],
    needs: readonly boolean[],
    extra: (id: number, gradient: Tensor) => void,
    sums: readonly (Tensor | undefined)[],
  ): readonly (Tensor | undefined)[];
}

/** Records operations on tracked tensors, in order. */
export class Tape {
  readonly tracked: Set<number>;
  private readonly nodes: TapeNode[] = [];

  constructor(tracked: Iterable<number>) {
    this.tracked = new Set(tracked);
  }

  /** Whether gradients flow to any of the tensors. */
  tracks(tensors: readonly (Tensor | undefined)[]): boolean {
    return tensors.some((tensor) => tensor !== undefined && this.tracked.has(tensor.id));
  }

  /** Adds a node. The tape holds handles of its own, so that disposing of a tensor early does no harm. */
  record(node: TapeNode): void {
    for (const output of node.outputs) if (isFloat(output.dtype)) this.tracked.add(output.id);
    this.nodes.push(node);
  }

  /**
   * Runs the tape backwards from the given gradients and frees it. Returns the gradients of tracked tensors that no
   * node made (the leaves), by id. The caller owns them.
   */
  backward(seeds: ReadonlyMap<number, Tensor>): Map<number, Tensor> {
    const gradients = new Map(seeds);
    const sumOf = (id: number) => gradients.get(id);
    const add = (id: number, gradient: Tensor) => {
      const sum = gradients.get(id);
      if (!sum) return void gradients.set(id, gradient);
      gradients.set(id, accumulate(sum, gradient));
    };
    try {
      for (let i = this.nodes.length - 1; i >= 0; i--) {
        const node = this.nodes[i] as TapeNode;
        const outgoing = node.outputs.map((output) => gradients.get(output.id));
        if (outgoing.some((gradient) => gradient !== undefined)) this.step(node, outgoing, add, sumOf);
        for (const output of node.outputs) {
          gradients.get(output.id)?.dispose();
          gradients.delete(output.id);
          output.dispose();
        }
        for (const input of node.inputs) input?.dispose();
        this.nodes.pop();
      }
    } catch (error) {
      for (const gradient of gradients.values()) gradient.dispose();
      throw error;
    }
    return gradients;
  }

  private step(
    node: TapeNode,
    outgoing: readonly (Tensor | undefined)[],
    add: (id: number, gradient: Tensor) => void,
    sumOf: (id: number) => Tensor | undefined,
  ): void {
    const needs = node.inputs.map((input) => input !== undefined && this.tracked.has(input.id));
    const extras: [number, Tensor][] = [];
    const sums = node.inputs.map((input, index) => {
      const sum = input && needs[index] ? sumOf(input.id) : undefined;
      return sum && isExclusive(sum) ? sum : undefined;
    });
    const incoming = scope(() => [
      ...node.backward(outgoing, needs, (id, gradient) => extras.push([id, keep(gradient)]), sums),
    ]);
    for (const [index, gradient] of incoming.entries()) {
      const input = node.inputs[index];
      // Where it is the sum itself, it has been added.
      if (!gradient || gradient === sums[index]) continue;
      keep(gradient);
      if (!input || !needs[index]) {
        gradient.dispose();
        continue;
      }
      if (!sameShape(gradient.shape, input.shape)) {
        throw new ZebraError(
          'shape',
          `${node.name}: the gradient of input ${index} has shape ${showShape(gradient.shape)}, the input ${showShape(input.shape)}`,
        );
      }
      // A backward may hand on one tensor for two inputs, or the incoming gradient itself: count each use.
      const shared = outgoing.includes(gradient) || incoming.indexOf(gradient) !== index;
      add(input.id, shared ? keep(gradient.alias()) : gradient);
    }
    for (const [id, gradient] of extras) add(id, gradient);
  }

  /** Frees what a tape holds that will not run backwards. */
  discard(): void {
    for (const node of this.nodes) for (const tensor of [...node.inputs, ...node.outputs]) tensor?.dispose();
    this.nodes.length = 0;
  }
}

let current: Tape | undefined;

/** The tape that operations are recorded on, if any. */
export function currentTape(): Tape | undefined {
  return current;
}

/** Runs `f` with a tape, or (undefined) with none. */
export function withTape<T>(tape: Tape | undefined, f: () => T): T {
  const outer = current;
  current = tape;
  try {
    return f();
  } finally {
    current = outer;
  }
}
