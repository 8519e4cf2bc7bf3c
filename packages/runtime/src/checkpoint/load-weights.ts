import {
  type ConversionFindings,
  type Device,
  empty,
  type FloatType,
  keep,
  type Shape,
  type Tensor,
  type TensorUpload,
  uploadTensors,
  ZebraError,
} from '@zebra/tensor';
import { checkWeights } from '@zebra/tensor/nn';
import { type SafetensorsDtype, toFloat32 } from '@zebra/tensor/safetensors';
import { TransferMeter, type TransferProgress } from './transfer-progress.js';
import { findElement, underExpectedNames, type WeightSource } from './weight-source.js';

/** Element type of a loaded model's weights. */
export type WeightDType = 'float32' | 'float16';

/** Options of {@link loadWeights}. */
export interface LoadWeightsOptions {
  /** Names that the checkpoint may hold without being loaded, such as a tied model's `lm_head.weight`. */
  readonly ignored?: ReadonlySet<string>;
  /**
   * Element type of the matrices (tensors of two dimensions); all others (norms, biases, a convolution's taps) are
   * float32 always. Default `float32`.
   */
  readonly dtype?: WeightDType;
  /**
   * What becomes of a matrix with a number that float16 cannot hold, from 65520 on: `error` (default), or `float32`,
   * which leaves it float32 (a model that computes in float16 would round it all the same: give `computeDType`
   * float32 too). Numbers below 3e-8 become 0 in float16.
   */
  readonly oversized?: 'error' | 'float32';
  /** Called at most ten times a second, and at the end. */
  readonly onProgress?: (progress: TransferProgress) => void;
}

/**
 * Loads named tensors from a checkpoint to the device in bounded host memory (64 MiB): bytes are read straight into
 * memory that the device copies from, four pieces at once, and converted there.
 *
 * @param source an open safetensors file or folder
 * @param expected every name with its shape
 * @returns the tensors, owned by the caller
 * @throws ZebraError `format` that lists every missing, extra and misshaped tensor, or every one that is no float,
 *   before anything is read; `data` that names the weight which is NaN or infinite, or too large for float16;
 *   `dtype` for float16 on an adapter without it
 */
export async function loadWeights(
  device: Device,
  source: WeightSource,
  expected: ReadonlyMap<string, Shape>,
  options: LoadWeightsOptions = {},
): Promise<Map<string, Tensor>> {
  const { ignored = new Set<string>(), dtype = 'float32', oversized = 'error', onProgress } = options;
  assertDType(device, dtype);
  const given = underExpectedNames(source, expected);
  const specs = given.names
    .filter((name) => expected.has(name) || !ignored.has(name))
    .map((name) => [name, { shape: given.info(name).shape, dtype: 'float32' as const }] as const);
  checkWeights('checkpoint', expected, new Map(specs));
  assertFloats(given, expected);
  // As uploaded: float64 is narrowed on its way.
  const total = [...expected.keys()].reduce((sum, name) => sum + uploadBytes(given, name), 0);
  const weights = new Map<string, Tensor>();
  const make = (name: string, type: WeightDType): Tensor => {
    const made = keep(empty(device, expected.get(name) as Shape, { dtype: type }));
    weights.set(name, made);
    return made;
  };
  try {
    for (const [name, shape] of expected) make(name, shape.length === 2 ? dtype : 'float32');
    const names = inFileOrder(given, [...expected.keys()]);
    const uploads = (of: readonly string[]) => of.map((name) => upload(given, name, weights.get(name) as Tensor));
    const meter = new TransferMeter(total, onProgress);
    const found = await uploadTensors(device, uploads(names), { onBytes: (bytes) => meter.add(bytes) });
    if (oversized === 'float32') {
      const wide = names.filter((_, i) => found[i]?.overflow && !found[i]?.notFinite);
      for (const name of wide) {
        weights.get(name)?.dispose();
        make(name, 'float32');
      }
      await uploadTensors(device, uploads(wide));
      for (const name of wide) found[names.indexOf(name)] = { notFinite: false, overflow: false };
    }
    await assertHeld(given, names, found);
  } catch (error) {
    for (const weight of weights.values()) weight.dispose();
    throw error;
  }
  return weights;
}

/** Whole numbers and 8-bit floats are codes of a quantised checkpoint, and mean nothing without their scales. */
const FLOATS: Partial<Record<SafetensorsDtype, FloatType>> = {
  // Narrowed on the host, as no kernel reads it.
  F64: 'float32',
  F32: 'float32',
  F16: 'float16',
  BF16: 'bfloat16',
};

function uploadBytes(source: WeightSource, name: string): number {
  const { dtype, byteLength } = source.info(name);
  return dtype === 'F64' ? byteLength / 2 : byteLength;
}

function upload(source: WeightSource, name: string, tensor: Tensor): TensorUpload {
  const stored = source.info(name).dtype;
  const dtype = FLOATS[stored] as FloatType;
  if (stored !== 'F64') return { tensor, dtype, read: (target, begin) => source.readInto(name, target, begin) };
  return {
    tensor,
    dtype,
    async read(target, begin) {
      const bytes = await source.readBytes(name, { begin: 2 * begin, end: 2 * (begin + target.length) });
      const values = toFloat32(bytes, stored);
      target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
    },
  };
}

function inFileOrder(source: WeightSource, names: readonly string[]): string[] {
  const places = new Map(names.map((name) => [name, source.info(name)]));
  return [...names].sort((a, b) => {
    const [x, y] = [places.get(a)!, places.get(b)!];
    return x.file === y.file ? x.fileOffset - y.fileOffset : (x.file ?? '') < (y.file ?? '') ? -1 : 1;
  });
}

function assertDType(device: Device, dtype: WeightDType): void {
  if (dtype !== 'float32' && dtype !== 'float16') {
    throw new ZebraError('dtype', `checkpoint: expected dtype float32 or float16, got ${String(dtype)}`);
  }
  if (dtype === 'float16' && !device.info.float16) {
    throw new ZebraError(
      'dtype',
      'checkpoint: this adapter cannot compute in float16 (it lacks shader-f16). Load with dtype float32.',
    );
  }
}

function assertFloats(source: WeightSource, expected: ReadonlyMap<string, Shape>): void {
  const others = [...expected.keys()].filter((name) => !FLOATS[source.info(name).dtype]);
  if (others.length === 0) return;
  const list = others.map((name) => `${name} is ${source.info(name).dtype}`).join('\n  ');
  throw new ZebraError(
    'format',
    `checkpoint: weights must be F64, F32, F16 or BF16. Quantised checkpoints cannot be read; take the original one:\n  ${list}`,
  );
}

/** From here on a number rounds to infinity in float16. */
const FLOAT16_OVERFLOW = 65520;

async function assertHeld(
  source: WeightSource,
  names: readonly string[],
  found: readonly ConversionFindings[],
): Promise<void> {
  const bad = names.filter((_, i) => found[i]?.notFinite || found[i]?.overflow);
  const name = bad.find((each) => found[names.indexOf(each)]?.notFinite) ?? bad[0];
  if (name === undefined) return;
  const { notFinite } = found[names.indexOf(name)]!;
  const isBad = notFinite
    ? (value: number) => !Number.isFinite(value)
    : (value: number) => Math.abs(value) >= FLOAT16_OVERFLOW;
  const place = await findElement(source, name, (bytes) => toFloat32(bytes, source.info(name).dtype), isBad);
  const what = `checkpoint: ${name} holds ${place?.value} at element ${place?.index}`;
  const others = bad.length > 1 ? ` So do ${bad.length - 1} other weights.` : '';
  throw new ZebraError(
    'data',
    notFinite
      ? `${what}. The file is damaged, or its training diverged.${others}`
      : `${what}, which float16 cannot hold.${others} Load with dtype float32, or leave such matrices float32 with oversized: 'float32'.`,
  );
}
