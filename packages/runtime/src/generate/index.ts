export {
  type FinishReason,
  type GeneratedToken,
  type GenerateOptions,
  type GenerateStep,
  generate,
} from './generate.js';
export {
  type GeneratedText,
  type GenerateTextOptions,
  generateText,
  streamText,
  type TextPiece,
} from './generate-text.js';
export type { SamplingOptions } from './sampler.js';
