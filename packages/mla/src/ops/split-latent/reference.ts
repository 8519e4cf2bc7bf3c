import { type HostTensor, hostTensor } from '@zebra/tensor';

type Inputs = readonly (HostTensor | undefined)[];

/** Float64 twin of splitLatent. */
export function forward([x]: Inputs, { latentSize }: { readonly latentSize: number }): HostTensor[] {
  const size = x!.shape[2]!;
  const lead = x!.shape.slice(0, 2);
  const latent = hostTensor([...lead, latentSize]);
  const rope = hostTensor([...lead, size - latentSize]);
  for (let t = 0; t < x!.data.length / size; t++) {
    for (let c = 0; c < latentSize; c++) latent.data[t * latentSize + c] = x!.data[t * size + c]!;
    for (let c = latentSize; c < size; c++) {
      rope.data[t * (size - latentSize) + c - latentSize] = x!.data[t * size + c]!;
    }
  }
  return [latent, rope];
}

/** The gradients of both parts, side by side; a missing one is zero. */
export function backward(
  [x]: Inputs,
  { latentSize }: { readonly latentSize: number },
  [latent, rope]: Inputs,
): HostTensor[] {
  const size = x!.shape[2]!;
  const rows = hostTensor(x!.shape);
  for (let i = 0; i < rows.data.length; i++) {
    const t = Math.floor(i / size);
    const c = i % size;
    rows.data[i] =
      (c < latentSize ? latent?.data[t * latentSize + c] : rope?.data[t * (size - latentSize) + c - latentSize]) ?? 0;
  }
  return [rows];
}
