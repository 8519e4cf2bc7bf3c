import { type Device, keep, type Shape, type Tensor, tensor, ZebraError } from '@zebra/tensor';
import { checkWeights } from '@zebra/tensor/nn';
import type { TensorReader } from '@zebra/tensor/safetensors';

/** Options of {@link loadWeights}. */
export interface LoadWeightsOptions {
  /** Names that the checkpoint may hold without being loaded, such as a tied model's `lm_head.weight`. */
  readonly ignored?: ReadonlySet<string>;
  /** Called after each tensor, with bytes read so far and in all. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/**
 * Loads named tensors from a checkpoint to the device as float32, one at a time, so that host memory holds one of them.
 *
 * @param expected every name with its shape
 * @returns the tensors, owned by the caller
 * @throws ZebraError `format` that lists every missing, extra and misshaped tensor, or every one that is no float,
 *   before anything is read; `data` for a weight that is NaN or infinite
 */
export async function loadWeights(
  device: Device,
  reader: TensorReader,
  expected: ReadonlyMap<string, Shape>,
  options: LoadWeightsOptions = {},
): Promise<Map<string, Tensor>> {
  const { ignored = new Set<string>(), onProgress } = options;
  const given = new Map(
    [...reader.names]
      .filter((name) => expected.has(name) || !ignored.has(name))
      .map((name) => [name, { shape: reader.info(name).shape, dtype: 'float32' as const }]),
  );
  checkWeights('checkpoint', expected, given);
  assertFloats(reader, expected);
  const total = [...expected.keys()].reduce((sum, name) => sum + reader.info(name).byteLength, 0);
  const weights = new Map<string, Tensor>();
  let done = 0;
  try {
    for (const [name, shape] of expected) {
      const values = await reader.readFloat32(name);
      assertFinite(name, values);
      weights.set(name, keep(tensor(device, values, shape)));
      done += reader.info(name).byteLength;
      onProgress?.(done, total);
    }
  } catch (error) {
    for (const weight of weights.values()) weight.dispose();
    throw error;
  }
  return weights;
}

/** Whole numbers and 8-bit floats are codes of a quantised checkpoint, and mean nothing without their scales. */
const FLOATS: ReadonlySet<string> = new Set(['F64', 'F32', 'F16', 'BF16']);

function assertFloats(reader: TensorReader, expected: ReadonlyMap<string, Shape>): void {
  const others = [...expected.keys()].filter((name) => !FLOATS.has(reader.info(name).dtype));
  if (others.length === 0) return;
  const list = others.map((name) => `${name} is ${reader.info(name).dtype}`).join('\n  ');
  throw new ZebraError(
    'format',
    `checkpoint: weights must be F64, F32, F16 or BF16. Quantised checkpoints cannot be read; take the original one:\n  ${list}`,
  );
}

function assertFinite(name: string, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    if (!Number.isFinite(values[i])) {
      throw new ZebraError(
        'data',
        `checkpoint: ${name} holds ${values[i]} at element ${i}. The file is damaged, or its training diverged.`,
      );
    }
  }
}
