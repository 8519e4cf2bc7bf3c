export type { BaseModel, PresetSize } from './base-models.js';
export { countParameters } from './count-parameters.js';
export { type HybridPreset, type PresetName, presetHybridConfig, presets } from './presets.js';
export { type HybridProposal, type ProposeHybridOptions, proposeHybrid } from './propose-hybrid.js';
export type { PresetPreferenceRun, PresetRun, PresetRuns } from './runs.js';
