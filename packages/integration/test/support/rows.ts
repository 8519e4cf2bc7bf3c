import { type Device, Random, scope, type Tensor, tensor } from '@zebra/tensor';
import type { Cache, CausalLM } from '@zebra/tensor/nn';
import { VOCABULARY } from './small-model.js';

/** Token ids of one row. */
export function randomIds(count: number, seed: number): number[] {
  const random = new Random(seed);
  return Array.from({ length: count }, () => random.integer(VOCABULARY));
}

/** 0, 1, … from `start` on. */
export function range(count: number, start = 0): number[] {
  return Array.from({ length: count }, (_, i) => start + i);
}

/** Rows of one length as an int32 tensor [B, T]. */
export function int32(device: Device, rows: readonly (readonly number[])[]): Tensor {
  return tensor(device, Int32Array.from(rows.flat()), [rows.length, rows[0]!.length]);
}

/** Rows of tokens and where they stand. */
export interface Rows {
  readonly ids: readonly (readonly number[])[];
  readonly positions?: readonly (readonly number[])[];
  readonly segments?: readonly (readonly number[])[];
}

/** Hidden states of rows, [B·T·D] values; nothing stays on the device but what the cache holds. */
export async function hiddenStates(model: CausalLM, rows: Rows, cache?: Cache): Promise<Float32Array> {
  const { device } = model;
  using hidden = scope(() =>
    model.forward(int32(device, rows.ids), {
      ...(rows.positions && { positions: int32(device, rows.positions) }),
      ...(rows.segments && { segments: int32(device, rows.segments) }),
      ...(cache && { cache }),
    }),
  );
  return (await hidden.read()) as Float32Array;
}

/** Tokens [from, to) of row `row` out of values [B, T, D]. */
export function tokensOf(
  values: Float32Array,
  [row, from, to]: readonly [number, number, number],
  { length, size }: { readonly length: number; readonly size: number },
): Float32Array {
  return values.slice((row * length + from) * size, (row * length + to) * size);
}

/** Arrays one after the other. */
export function joined(parts: readonly Float32Array[]): Float32Array {
  return Float32Array.from(parts.flatMap((part) => [...part]));
}
