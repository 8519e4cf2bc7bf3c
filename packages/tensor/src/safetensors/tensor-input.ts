import { toLittleEndian } from './byte-order.js';
import { fromFloat32 } from './convert.js';
import { dtypeBytes, elementCount, type SafetensorsDtype } from './dtypes.js';
import { SafetensorsError } from './errors.js';

/**
 * Data of one tensor.
 *
 * - `Uint8Array`: the little-endian bytes as they go into the file, whatever the dtype.
 * - `Float32Array`: one value per element, converted to the dtype as by `fromFloat32`.
 * - `Int32Array`: one value per element, for dtype I32 or I64.
 */
export type TensorData = Uint8Array | Float32Array | Int32Array;

/** One tensor to write. Nothing is modified or kept after the write. */
export interface TensorInput {
  /** Any string but `__metadata__`; names are unique within a model. */
  name: string;
  dtype: SafetensorsDtype;
  /** Sizes per dimension, outermost first; empty for a scalar. */
  shape: readonly number[];
  /**
   * The data, or a function that is called once when its turn to be written
   * comes and gives the data, or the file's bytes in chunks (so that a model
   * larger than memory can be written).
   */
  data: TensorData | (() => Promise<TensorData> | TensorData | AsyncIterable<Uint8Array>);
}

/** A checked tensor with its size in the file. */
export interface SizedTensor extends TensorInput {
  byteLength: number;
}

/** Float32 values are converted in slices of this many, to bound the memory a large tensor takes. */
const sliceLength = 2 ** 20;

/** Checks names, dtypes, shapes and given data's lengths before anything is written. Reads no function's data. */
export function checkTensors(tensors: Iterable<TensorInput>, file: string | undefined): SizedTensor[] {
  const names = new Set<string>();
  const checked: SizedTensor[] = [];
  for (const tensor of tensors) {
    const { name, dtype, shape } = tensor;
    if (typeof name !== 'string' || name === '__metadata__' || /\p{Surrogate}/u.test(name)) {
      throw new SafetensorsError('argument', {
        problem: "a tensor can't have this name",
        file,
        tensor: String(name),
        expected: 'a string of whole Unicode characters other than __metadata__',
      });
    }
    if (names.has(name)) {
      throw new SafetensorsError('duplicate', { problem: 'two tensors to write have this name', file, tensor: name });
    }
    names.add(name);
    const byteLength = (elementCount(shape) ?? NaN) * dtypeBytes(dtype);
    if (!Number.isSafeInteger(byteLength)) {
      throw new SafetensorsError('shape', {
        problem: "the shape isn't usable",
        file,
        tensor: name,
        expected: 'non-negative integers whose size in bytes is below 2^53',
        got: `[${shape.join(', ')}]`,
      });
    }
    const sized = { ...tensor, byteLength };
    if (typeof tensor.data !== 'function') checkLength(sized, tensor.data, file);
    checked.push(sized);
  }
  return checked;
}

/** The tensor's bytes in order; exactly `byteLength` of them, or an error. */
export async function* tensorChunks(tensor: SizedTensor, file: string | undefined): AsyncGenerator<Uint8Array> {
  const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
  if (ArrayBuffer.isView(data)) {
    checkLength(tensor, data, file);
    yield* encodeData(tensor, data, file);
    return;
  }
  let given = 0;
  for await (const chunk of data) {
    given += chunk.length;
    if (given > tensor.byteLength) break;
    yield chunk;
  }
  if (given !== tensor.byteLength) throw wrongLength(tensor, tensor.byteLength, given, 'bytes', file);
}

function* encodeData(tensor: SizedTensor, data: TensorData, file: string | undefined): Generator<Uint8Array> {
  const { name, dtype } = tensor;
  if (data instanceof Uint8Array) {
    yield data;
  } else if (data instanceof Int32Array) {
    if (dtype === 'I32') yield toLittleEndian(data, 4);
    else {
      for (let at = 0; at < data.length; at += sliceLength) {
        yield toLittleEndian(BigInt64Array.from(data.subarray(at, at + sliceLength), BigInt), 8);
      }
    }
  } else if (dtype === 'F32') {
    yield toLittleEndian(data, 4);
  } else {
    for (let at = 0; at < data.length; at += sliceLength) {
      let bytes: Uint8Array;
      try {
        bytes = fromFloat32(data.subarray(at, at + sliceLength), dtype);
      } catch (cause) {
        if (!SafetensorsError.is(cause)) throw cause;
        const problem = `in the elements from ${at} on: ${cause.message.replace(/^safetensors: |\.$/g, '')}`;
        throw new SafetensorsError(cause.code, { problem, file, tensor: name, cause });
      }
      yield bytes;
    }
  }
}

function checkLength(tensor: SizedTensor, data: TensorData, file: string | undefined): void {
  const { name, dtype, byteLength } = tensor;
  if (!(data instanceof Uint8Array || data instanceof Float32Array || data instanceof Int32Array)) {
    throw new SafetensorsError('argument', {
      problem: 'the data has the wrong type',
      file,
      tensor: name,
      expected: "a Uint8Array of the file's bytes, a Float32Array or an Int32Array",
      got: Object.prototype.toString.call(data).slice(8, -1),
    });
  }
  if (data instanceof Int32Array && dtype !== 'I32' && dtype !== 'I64') {
    throw new SafetensorsError('dtype', {
      problem: "an Int32Array can't be written as this dtype",
      file,
      tensor: name,
      expected: 'I32 or I64',
      got: dtype,
      fix: 'Pass the bytes as a Uint8Array',
    });
  }
  const bytes = data instanceof Uint8Array;
  const expected = bytes ? byteLength : byteLength / dtypeBytes(dtype);
  if (data.length !== expected) throw wrongLength(tensor, expected, data.length, bytes ? 'bytes' : 'values', file);
}

function wrongLength(
  tensor: SizedTensor,
  expected: number,
  got: number,
  unit: string,
  file: string | undefined,
): SafetensorsError {
  return new SafetensorsError('data_length', {
    problem: `the data's length contradicts dtype ${tensor.dtype} and shape [${tensor.shape.join(', ')}]`,
    file,
    tensor: tensor.name,
    expected: `${expected} ${unit}`,
    got: `${got > expected ? 'at least ' : ''}${got} ${unit}`,
  });
}
