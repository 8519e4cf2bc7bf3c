export { AdamW, type AdamWOptions, type Gradients } from './adamw.js';
export { LossScale, type LossScaleOptions, type LossScaleState } from './loss-scale.js';
export { type CosineOptions, constantSchedule, cosineSchedule, type Schedule } from './schedule.js';
