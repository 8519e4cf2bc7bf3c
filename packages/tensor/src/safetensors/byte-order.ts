/**
 * Safetensors data is little-endian; typed arrays are in the machine's order.
 * Every JavaScript engine in use runs on little-endian machines, where these
 * functions cost nothing; on a big-endian one they swap a copy.
 */
export const hostIsLittleEndian: boolean = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** A copy with the bytes of each element reversed. `bytes.length` must be a multiple of `elementBytes`. */
export function swapBytes(bytes: Uint8Array, elementBytes: number): Uint8Array<ArrayBuffer> {
  const swapped = new Uint8Array(bytes);
  for (let at = 0; at < swapped.length; at += elementBytes) swapped.subarray(at, at + elementBytes).reverse();
  return swapped;
}

/**
 * The same bytes in the machine's order and at an address that a typed array
 * of that element size can view: `bytes` itself when it already is so, else a copy.
 */
export function toHostOrder(bytes: Uint8Array, elementBytes: number): Uint8Array {
  if (!hostIsLittleEndian && elementBytes > 1) return swapBytes(bytes, elementBytes);
  return bytes.byteOffset % elementBytes === 0 ? bytes : new Uint8Array(bytes);
}

/** The bytes of a typed array in little-endian order: a view of its memory, or a swapped copy. */
export function toLittleEndian(array: ArrayBufferView, elementBytes: number): Uint8Array {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return hostIsLittleEndian || elementBytes === 1 ? bytes : swapBytes(bytes, elementBytes);
}
