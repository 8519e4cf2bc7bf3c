import { ZebraError } from '../errors.js';
import type { Tensor } from './tensor.js';

/** Tensors made while a scope is open, to be freed when it closes. */
type Scope = Set<Tensor>;

const scopes: Scope[] = [];

/** Registers a new tensor with the innermost open scope. */
export function enterScope(tensor: Tensor): void {
  scopes[scopes.length - 1]?.add(tensor);
}

/** Takes a tensor out of whatever scope would free it: from here on its memory is the caller's. */
export function keep<T extends Tensor>(tensor: T): T {
  for (const scope of scopes) scope.delete(tensor);
  return tensor;
}

/** Forgets a disposed tensor. */
export function leaveScope(tensor: Tensor): void {
  for (const scope of scopes) scope.delete(tensor);
}

/** Calls `visit` for every tensor in a value: a tensor, or (nested) arrays, maps, sets and plain objects of them. */
export function visitTensors(value: unknown, visit: (tensor: Tensor) => void, seen = new Set<unknown>()): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  seen.add(value);
  if ('storage' in value && 'dtype' in value && 'shape' in value) visit(value as Tensor);
  else if (Array.isArray(value) || value instanceof Set) for (const item of value) visitTensors(item, visit, seen);
  else if (value instanceof Map) for (const item of value.values()) visitTensors(item, visit, seen);
  else if (Object.getPrototypeOf(value) === Object.prototype || Object.getPrototypeOf(value) === null) {
    for (const item of Object.values(value)) visitTensors(item, visit, seen);
  }
}

/**
 * Runs `f` and frees every tensor made inside it, except those it returns (in arrays, maps, sets or plain objects
 * too) or passed to {@link keep}. Returned tensors belong to the surrounding scope, or to the caller where there is none.
 *
 * @throws ZebraError `argument` when `f` returns a promise: scopes end when `f` returns. Read results outside.
 */
export function scope<T>(f: () => T): T {
  const mine: Scope = new Set();
  scopes.push(mine);
  let result: T | undefined;
  try {
    result = f();
    if (result instanceof Promise) {
      throw new ZebraError(
        'argument',
        'scope: the function returned a promise; scopes are synchronous. Read tensors outside of it.',
      );
    }
    return result;
  } finally {
    scopes.pop();
    const kept = new Set<Tensor>();
    visitTensors(result, (tensor) => kept.add(tensor));
    for (const tensor of mine) {
      if (kept.has(tensor)) enterScope(tensor);
      else tensor.dispose();
    }
  }
}
