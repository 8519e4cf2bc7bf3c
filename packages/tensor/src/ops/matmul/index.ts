export { type LinearOptions, linear } from './linear.js';
export {
  type MatmulIntoOptions,
  type MatmulOptions,
  matmul,
  matmulInto,
  matmulOp,
} from './matmul.js';
export type { MatrixPlan } from './matrix.wgsl.js';
export {
  type MatmulCandidate,
  type MatmulProduct,
  type TunedMatmul,
  type TuneMatmulOptions,
  tuneMatmul,
} from './tune.js';
