export { mean, type ReduceOptions, sum, sumOp } from './reduce.js';
export { sumTo } from './sum-to.js';
