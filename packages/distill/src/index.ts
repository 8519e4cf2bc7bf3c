export { type DistillationBatch, type DistillationOptions, distillationLoss } from './distillation.js';
export {
  type LayerDistillationOptions,
  layerDistillationLoss,
  layerDistillationParameters,
  type TokenBatch,
} from './layer-distillation.js';
export {
  type DistillLayersOptions,
  type DistillOptions,
  distill,
  distillLayers,
  PUBLISHED_DISTILLATION,
  PUBLISHED_LAYER_DISTILLATION,
  type PublishedRecipe,
  type PublishedSize,
  type RecipeOptions,
} from './recipes.js';
