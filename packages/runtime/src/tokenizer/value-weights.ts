import type { RuntimeValue } from './bounded-interpreter.js';

/** Levels of lists and objects inside each other that a template may make. */
export const MAX_DEPTH = 200;

/**
 * How many characters a value would be as text, about: shared parts count as often as they would be printed. A value
 * that cannot change is weighed once.
 */
export class ValueWeights {
  private readonly known = new WeakMap<object, number>();
  private readonly most: number;

  /** @param most weights above it are not told apart */
  constructor(most: number) {
    this.most = most;
  }

  of(value: RuntimeValue): number | 'deep' {
    try {
      return this.weigh(value, 0).weight;
    } catch (error) {
      if (error === TOO_DEEP) return 'deep';
      throw error;
    }
  }

  private weigh(value: RuntimeValue, depth: number): { weight: number; fixed: boolean } {
    if (typeof value?.value === 'string') return { weight: value.value.length + 1, fixed: true };
    const parts = partsOf(value);
    if (!parts) return { weight: 1, fixed: true };
    const known = this.known.get(value);
    if (known !== undefined) return { weight: known, fixed: true };
    if (depth >= MAX_DEPTH) throw TOO_DEEP;
    // A namespace is the one thing that a template can change later.
    let fixed = value.type !== 'NamespaceValue';
    let weight = 2;
    for (const [key, part] of parts) {
      const inside = this.weigh(part, depth + 1);
      weight += key.length + inside.weight;
      fixed &&= inside.fixed;
      if (weight > this.most) return { weight, fixed: false };
    }
    if (fixed) this.known.set(value, weight);
    return { weight, fixed };
  }
}

const TOO_DEEP = Symbol('too deep');

function* listParts(list: readonly RuntimeValue[]): Iterable<[string, RuntimeValue]> {
  for (const item of list) yield ['', item];
}

function partsOf(value: RuntimeValue): Iterable<[string, RuntimeValue]> | undefined {
  if (Array.isArray(value?.value)) return listParts(value.value as RuntimeValue[]);
  if (value?.value instanceof Map) return value.value as Map<string, RuntimeValue>;
  return undefined;
}
