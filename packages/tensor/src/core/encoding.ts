import { bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16 } from '../safetensors/half.js';
import type { DType, HostData } from './dtype.js';

/** Host values as the bytes of a dtype, padded to a multiple of 4 for the queue. Rounds to nearest even. */
export function encodeBytes(data: HostData, dtype: DType): Uint8Array {
  if (dtype === 'float16' || dtype === 'bfloat16') {
    const source = data instanceof Float32Array ? data : Float32Array.from(data);
    const halves = new Uint16Array(Math.ceil(data.length / 2) * 2);
    halves.set(dtype === 'float16' ? float32ToFloat16(source) : float32ToBfloat16(source));
    return new Uint8Array(halves.buffer);
  }
  const typed = typedFor(data, dtype);
  return new Uint8Array(typed.buffer, typed.byteOffset, typed.byteLength);
}

function typedFor(data: HostData, dtype: DType): Float32Array | Int32Array | Uint32Array {
  if (dtype === 'float32') return data instanceof Float32Array ? data : Float32Array.from(data);
  if (dtype === 'int32') return data instanceof Int32Array ? data : Int32Array.from(data);
  return data instanceof Uint32Array ? data : Uint32Array.from(data);
}

/** The elements in the bytes of a dtype; halves become float32. */
export function decodeBytes(bytes: Uint8Array, dtype: DType): Float32Array | Int32Array | Uint32Array {
  const { buffer, byteOffset } = bytes;
  if (dtype === 'float16') return float16ToFloat32(new Uint16Array(buffer, byteOffset, bytes.byteLength / 2));
  if (dtype === 'bfloat16') return bfloat16ToFloat32(new Uint16Array(buffer, byteOffset, bytes.byteLength / 2));
  const count = bytes.byteLength / 4;
  if (dtype === 'float32') return new Float32Array(buffer, byteOffset, count);
  if (dtype === 'int32') return new Int32Array(buffer, byteOffset, count);
  return new Uint32Array(buffer, byteOffset, count);
}
