import { Interpreter } from '@huggingface/jinja';
import { ZebraError } from '@zebra/tensor';
import { MAX_DEPTH, ValueWeights } from './value-weights.js';

/** What a template may spend. */
export interface TemplateBudget {
  /** Expressions and statements evaluated, and turns of loops. Default 1,000,000. */
  readonly steps?: number;
  /** Wall-clock time. Default 5000. */
  readonly milliseconds?: number;
  /** Characters of the output and of every value on the way. Default 1,000,000 + 4 times those of the input. */
  readonly characters?: number;
}

/** What the interpreter makes: strings, numbers, lists, maps, functions. */
export interface RuntimeValue {
  readonly type: string;
  readonly value: unknown;
}

// The declarations of the package leave out the file extensions that TypeScript's Node resolution wants, so that its
// classes come without types.
const Base = Interpreter as unknown as new (
  environment: object,
) => {
  evaluate(node: object | undefined, environment: object): RuntimeValue;
  run(program: object): RuntimeValue;
};

/** Parts of the syntax tree that this file looks at. */
interface Syntax {
  readonly type: string;
  readonly args?: readonly Syntax[];
  readonly callee?: Syntax;
  readonly object?: Syntax;
  readonly operand?: Syntax;
  readonly filter?: Syntax;
  readonly body?: readonly Syntax[];
  readonly value?: unknown;
  readonly argument?: Syntax;
  readonly iterable?: Syntax;
  readonly lhs?: Syntax;
}

/** A call under evaluation whose result may be as large as the product of its operand and its arguments. */
interface Product {
  operand: number;
  argument: number;
}

interface Role {
  readonly of: Product;
  readonly part: keyof Product;
}

/** How much larger than the budget one operation may grow before its result is looked at. */
const PRODUCT_FACTOR = 64;

/**
 * The interpreter of `@huggingface/jinja` with a meter. All work of a template passes through `evaluate`, so it counts
 * steps and looks at the clock there, and weighs every value that comes out: a list of lists of lists that would print
 * as more than the budget ends the run when it is made. Operations that multiply (`replace`, `join`, `indent`,
 * `tojson`) are stopped before they run. What remains for one step between two looks is linear in the budget.
 */
export class BoundedInterpreter extends Base {
  private readonly weights: ValueWeights;
  private readonly characters: number;
  private readonly milliseconds: number;
  private readonly mostSteps: number;
  private readonly deadline: number;
  private readonly roles = new Map<unknown, Role>();
  private readonly iterated = new WeakSet<object>();
  private steps = 0;

  constructor(environment: object, budget: Required<TemplateBudget>) {
    super(environment);
    this.characters = budget.characters;
    this.milliseconds = budget.milliseconds;
    this.mostSteps = budget.steps;
    this.deadline = performance.now() + budget.milliseconds;
    this.weights = new ValueWeights(budget.characters);
  }

  override evaluate(node: object | undefined, environment: object): RuntimeValue {
    if (!node) return super.evaluate(node, environment);
    this.spend(1);
    if (performance.now() > this.deadline) overBudget(`more than ${this.milliseconds} ms`);
    const { type, iterable } = node as Syntax;
    if (type === 'For' && iterable)
      this.iterated.add(iterable.type === 'SelectExpression' ? (iterable.lhs as Syntax) : iterable);
    const value = this.evaluateInRole(node, environment);
    // Turns of a loop cost something even where its body is empty.
    if (this.iterated.has(node) && Array.isArray(value.value)) this.spend(value.value.length);
    const weight = this.weights.of(value);
    if (weight === 'deep') overBudget(`values nested more than ${MAX_DEPTH} levels deep`);
    if (weight > this.characters) overBudget(`a value of more than ${this.characters} characters`);
    const role = this.roles.get(node);
    if (role) this.multiply(role, value, weight);
    return value;
  }

  private spend(steps: number): void {
    this.steps += steps;
    if (this.steps > this.mostSteps) overBudget(`more than ${this.mostSteps} steps`);
  }

  private evaluateInRole(node: object, environment: object): RuntimeValue {
    const parts = multiplyingParts(node as Syntax);
    if (!parts) return super.evaluate(node, environment);
    const product: Product = { operand: 0, argument: 0 };
    // A macro may come back to the same node before it is done with it.
    const outer = parts.map(([child]) => [child, this.roles.get(child)] as const);
    for (const [child, part] of parts) this.roles.set(child, { of: product, part });
    try {
      return super.evaluate(node, environment);
    } finally {
      for (const [child, role] of outer) {
        if (role) this.roles.set(child, role);
        else this.roles.delete(child);
      }
    }
  }

  private multiply({ of, part }: Role, value: RuntimeValue, weight: number): void {
    // An integer argument is a width or a count.
    of[part] += typeof value.value === 'number' && part === 'argument' ? Math.abs(value.value) : weight;
    if (of.operand * of.argument > PRODUCT_FACTOR * this.characters) {
      overBudget(`an operation whose result may have more than ${PRODUCT_FACTOR * this.characters} characters`);
    }
  }
}

/** Operand and arguments of a filter with arguments, of a method call, and of a filter block. */
function multiplyingParts(node: Syntax): [Syntax, keyof Product][] | undefined {
  const argumentsOf = (call: Syntax) =>
    (call.args ?? []).map((child) => [inner(child), 'argument'] as [Syntax, 'argument']);
  if (node.type === 'CallExpression' && node.callee?.type === 'MemberExpression') {
    return [[node.callee.object as Syntax, 'operand'], ...argumentsOf(node)];
  }
  if (node.filter?.type !== 'CallExpression') return undefined;
  if (node.type === 'FilterExpression') return [[node.operand as Syntax, 'operand'], ...argumentsOf(node.filter)];
  if (node.type === 'FilterStatement') {
    const body = (node.body ?? []).map((child) => [child, 'operand'] as [Syntax, 'operand']);
    return [...body, ...argumentsOf(node.filter)];
  }
  return undefined;
}

/** The expression that is evaluated for an argument. */
function inner(argument: Syntax): Syntax {
  if (argument.type === 'KeywordArgumentExpression') return argument.value as Syntax;
  return argument.argument && argument.type.endsWith('SpreadExpression') ? argument.argument : argument;
}

function overBudget(what: string): never {
  throw new ZebraError(
    'data',
    `chat template: it takes ${what}. If it is meant to, raise the budget of applyChatTemplate().`,
  );
}
