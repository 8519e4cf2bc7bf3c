import { type Shape, sameShape, showShape, type TensorSpec } from '../core/shape.js';
import { ZebraError } from '../errors.js';

/** Expected tensors by name. */
export type WeightSpecs = ReadonlyMap<string, Shape>;

/**
 * Holds a set of named tensors to what a module expects, and reports every missing, extra and misshaped one at once.
 *
 * @param owner what the weights are for, for the message
 * @throws ZebraError `format`
 */
export function checkWeights(owner: string, expected: WeightSpecs, given: ReadonlyMap<string, TensorSpec>): void {
  const problems: string[] = [];
  for (const [name, shape] of expected) {
    const got = given.get(name);
    if (!got) problems.push(`missing ${name} ${showShape(shape)}`);
    else if (!sameShape(got.shape, shape))
      problems.push(`${name} has shape ${showShape(got.shape)}, expected ${showShape(shape)}`);
  }
  for (const name of given.keys()) if (!expected.has(name)) problems.push(`unexpected ${name}`);
  if (problems.length > 0) {
    throw new ZebraError('format', `${owner}: the weights do not fit the configuration:\n  ${problems.join('\n  ')}`);
  }
}
