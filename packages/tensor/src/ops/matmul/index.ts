export { type LinearOptions, linear } from './linear.js';
export {
  type MatmulIntoOptions,
  type MatmulOptions,
  matmul,
  matmulInto,
  matmulOp,
} from './matmul.js';
