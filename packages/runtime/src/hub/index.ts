export { type DownloadedModel, type DownloadModelOptions, downloadModel } from './download-model.js';
export { type FromPretrainedOptions, fromPretrained, type Pretrained } from './from-pretrained.js';
export { type ModelCardDetails, modelCard } from './model-card.js';
export type { HubProgress } from './progress.js';
export { type PushedModel, type PushToHubOptions, pushToHub } from './push-to-hub.js';
export type { HubOptions } from './settings.js';
