export { mean, type ReduceOptions, sum, sumOp } from './reduce.js';
