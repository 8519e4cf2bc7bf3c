import { PUBLISHED_DISTILLATION, PUBLISHED_LAYER_DISTILLATION } from '@zebra/distill';
import { PUBLISHED_PREFERENCE_TUNING } from '@zebra/dpo';
import { parseTransformerConfig, presets, proposeHybrid } from '@zebra/runtime';
import { placementViolations } from '@zebra/smart';
import { expect, it } from 'vitest';

it.each(Object.entries(presets))('%s: recipes are those of the packages that run them', (_, { size, runs }) => {
  expect(runs).toEqual({
    layerDistillation: PUBLISHED_LAYER_DISTILLATION[size],
    distillation: PUBLISHED_DISTILLATION[size],
    preferenceTuning: PUBLISHED_PREFERENCE_TUNING,
  });
});

it.each(Object.entries(presets))('%s: its placement obeys the rule', (_, { mlaLayers, base }) => {
  expect(placementViolations(mlaLayers, base.config.layerCount)).toEqual([]);
});

it('proposed placements obey the rule, whatever the depth', () => {
  for (let layers = 1; layers <= 40; layers++) {
    const transformer = parseTransformerConfig({
      model_type: 'llama',
      vocab_size: 32,
      hidden_size: 32,
      intermediate_size: 32,
      num_hidden_layers: layers,
      num_attention_heads: 2,
    });
    for (let count = 0; count <= layers; count++) {
      const { mlaLayers } = proposeHybrid(transformer, { mlaLayers: count });
      expect(mlaLayers).toHaveLength(count);
      expect(placementViolations(mlaLayers, layers)).toEqual([]);
    }
  }
});
