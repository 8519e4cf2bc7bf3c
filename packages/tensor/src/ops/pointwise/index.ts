export { add, binaryOps, divide, maximum, minimum, multiply, subtract } from './binary.js';
export {
  absolute,
  exponential,
  logarithm,
  negate,
  relu,
  scale,
  shift,
  sigmoid,
  silu,
  softplus,
  square,
  squareRoot,
  tanh,
  unaryOps,
} from './unary.js';
