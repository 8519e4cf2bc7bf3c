/** Text that goes into a JSON document as it is: numbers that JavaScript has not, nesting without end, no JSON at all. */
export class Raw {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** An object as its members in order, so that keys may come twice and be named `__proto__`. */
export class Members {
  readonly list: [key: string, value: JsonTree][];

  constructor(list: [key: string, value: JsonTree][]) {
    this.list = list;
  }
}

/** JSON that can be made wrong. */
export type JsonTree = null | boolean | number | string | Raw | Members | JsonTree[];

/** A parsed JSON value as a tree of its own. */
export function toTree(value: unknown): JsonTree {
  if (Array.isArray(value)) return value.map(toTree);
  if (typeof value !== 'object' || value === null) return value as null | boolean | number | string;
  return new Members(Object.entries(value).map(([key, inside]) => [key, toTree(inside)]));
}

/** A copy that shares nothing that mutations change. */
export function copyTree(tree: JsonTree): JsonTree {
  if (Array.isArray(tree)) return tree.map(copyTree);
  if (tree instanceof Members) return new Members(tree.list.map(([key, inside]) => [key, copyTree(inside)]));
  return tree;
}

/** The tree as text. */
export function toText(tree: JsonTree): string {
  if (tree instanceof Raw) return tree.text;
  if (Array.isArray(tree)) return `[${tree.map(toText).join(',')}]`;
  if (tree instanceof Members) {
    return `{${tree.list.map(([key, inside]) => `${JSON.stringify(key)}:${toText(inside)}`).join(',')}}`;
  }
  return JSON.stringify(tree) ?? 'null';
}
