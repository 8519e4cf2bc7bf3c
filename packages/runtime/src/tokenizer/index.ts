export type { TemplateBudget } from './bounded-interpreter.js';
export { type ChatMessage, ChatTemplate, type RenderChatOptions } from './chat-template.js';
export { loadTokenizer } from './load-tokenizer.js';
export { createStreamDecoder, type StreamDecoder, type StreamDecoderOptions } from './stream-decoder.js';
export {
  type ChatTemplateOptions,
  createTokenizer,
  type DecodeOptions,
  type EncodeOptions,
  type Tokenizer,
} from './tokenizer.js';
export type { TokenizerFiles } from './tokenizer-files.js';
