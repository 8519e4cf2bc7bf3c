export { AdamW, type AdamWOptions, type Gradients } from './adamw.js';
export { type CosineOptions, constantSchedule, cosineSchedule, type Schedule } from './schedule.js';
