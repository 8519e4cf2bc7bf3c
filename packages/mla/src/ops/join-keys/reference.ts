import { type HostTensor, hostTensor } from '@zebra/tensor';

type Inputs = readonly (HostTensor | undefined)[];
interface Attributes {
  readonly nopeSize: number;
}

/** Where one element of the outputs comes from. */
interface Place {
  readonly output: 'k' | 'v';
  readonly at: number;
  readonly input: 'kv' | 'rope';
  readonly from: number;
}

function* places([kv, rope]: Inputs, { nopeSize }: Attributes): Generator<Place> {
  const [batch, tokens, heads, size] = kv!.shape as [number, number, number, number];
  const ropeSize = rope!.shape[2]!;
  for (let head = 0; head < batch * tokens * heads; head++) {
    const key = head * (nopeSize + ropeSize);
    const shared = Math.floor(head / heads) * ropeSize;
    const value = head * (size - nopeSize);
    for (let c = 0; c < nopeSize; c++) yield { output: 'k', at: key + c, input: 'kv', from: head * size + c };
    for (let c = 0; c < ropeSize; c++) yield { output: 'k', at: key + nopeSize + c, input: 'rope', from: shared + c };
    for (let c = nopeSize; c < size; c++) {
      yield { output: 'v', at: value + c - nopeSize, input: 'kv', from: head * size + c };
    }
  }
}

/** Float64 twin of joinKeys. */
export function forward(inputs: Inputs, attributes: Attributes): HostTensor[] {
  const [kv, rope] = inputs as [HostTensor, HostTensor];
  const lead = kv.shape.slice(0, 3);
  const k = hostTensor([...lead, attributes.nopeSize + rope.shape[2]!]);
  const v = hostTensor([...lead, kv.shape[3]! - attributes.nopeSize]);
  for (const { output, at, input, from } of places(inputs, attributes)) {
    (output === 'k' ? k : v).data[at] = (input === 'kv' ? kv : rope).data[from]!;
  }
  return [k, v];
}

/** Gradients of kv and of the rotary key, which sums over the heads; a missing gradient is zero. */
export function backward(inputs: Inputs, attributes: Attributes, [gk, gv]: Inputs): HostTensor[] {
  const dkv = hostTensor(inputs[0]!.shape);
  const drope = hostTensor(inputs[1]!.shape);
  for (const { output, at, input, from } of places(inputs, attributes)) {
    (input === 'kv' ? dkv : drope).data[from]! += (output === 'k' ? gk : gv)?.data[at] ?? 0;
  }
  return [dkv, drope];
}
