export { type GenerationDefaults, readGenerationDefaults } from './checkpoint/generation-defaults.js';
export { type LoadModelOptions, loadModel, readModelSpec } from './checkpoint/load-model.js';
export { type LoadWeightsOptions, loadWeights, type WeightDType } from './checkpoint/load-weights.js';
export { type SaveModelOptions, saveModel } from './checkpoint/save-model.js';
export type { TransferProgress } from './checkpoint/transfer-progress.js';
export type { WeightSource } from './checkpoint/weight-source.js';
export {
  type CreateHybridOptions,
  createHybridConfig,
  type HybridConfig,
  type HybridLayerKind,
  type HybridMamba2Config,
  type HybridMlaConfig,
  type MlaRanks,
  type ParseConfigOptions,
  parseHybridConfig,
  parseTransformerConfig,
  parseXEcoMlaConfig,
  type RopeConfig,
  type RopeScaling,
  type TransformerConfig,
  type TransformerType,
  type WriteHybridConfigOptions,
  writeHybridConfig,
} from './config/index.js';
export {
  type ChoiceItem,
  type ChoiceResult,
  type ChoiceScores,
  type MinimalPair,
  type MinimalPairResult,
  minimalPairs,
  type Perplexity,
  type PerplexityOptions,
  type PerplexityProgress,
  perplexity,
  type ScoreOptions,
  scoreChoices,
} from './evaluate/index.js';
export {
  type FinishReason,
  type GeneratedText,
  type GeneratedToken,
  type GenerateOptions,
  type GenerateStep,
  type GenerateTextOptions,
  generate,
  generateText,
  type SamplingOptions,
  streamText,
  type TextPiece,
} from './generate/index.js';
export {
  type DownloadedModel,
  type DownloadModelOptions,
  downloadModel,
  type FromPretrainedOptions,
  fromPretrained,
  type HubOptions,
  type HubProgress,
  type ModelCardDetails,
  modelCard,
  type Pretrained,
  type PushedModel,
  type PushToHubOptions,
  pushToHub,
} from './hub/index.js';
export { type AttentionConfig, AttentionLayer, AttentionState, attentionSpecs } from './models/attention-layer.js';
export { HybridModel } from './models/model.js';
export { type ModelSpec, type ModelSpecOptions, modelSpec } from './models/model-spec.js';
export type { LayerKind } from './models/prefixes.js';
export { frequenciesOf } from './models/rope.js';
export { modelSpecs } from './models/specs.js';
export {
  type BaseModel,
  countParameters,
  type HybridPreset,
  type HybridProposal,
  type PresetName,
  type PresetPreferenceRun,
  type PresetRun,
  type PresetRuns,
  type PresetSize,
  type ProposeHybridOptions,
  presetHybridConfig,
  presets,
  proposeHybrid,
} from './presets/index.js';
export {
  type CacheReport,
  type CacheReportConfigs,
  type CacheReportOptions,
  cacheReport,
  modelCacheReport,
} from './report/cache-report.js';
export {
  type ChatMessage,
  ChatTemplate,
  type ChatTemplateOptions,
  createStreamDecoder,
  createTokenizer,
  type DecodeOptions,
  type EncodeOptions,
  loadTokenizer,
  type RenderChatOptions,
  type StreamDecoder,
  type StreamDecoderOptions,
  type TemplateBudget,
  type Tokenizer,
  type TokenizerFiles,
} from './tokenizer/index.js';
