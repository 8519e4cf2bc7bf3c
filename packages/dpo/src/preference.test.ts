import { scope, tensor, valueAndGradients } from '@zebra/tensor';
import { linearModel, testDevice } from '@zebra/tensor/testing';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodePair, padRows, preferenceAccuracy, preferenceLoss, preferenceMargins, scorePairs } from './index.js';

const device = await testDevice();
let before = 0;
beforeEach(() => {
  before = device.statistics().liveBuffers;
});
afterEach(() => {
  expect(device.statistics().liveBuffers).toBe(before);
});

describe('preferenceLoss', () => {
  it('and its gradients follow the formula, at ordinary and huge margins', async () => {
    const policyChosen = [-10, -2, -400];
    const policyRejected = [-12, -1, -4000];
    const reference = [-11, -3, -500];
    const beta = 0.1;
    const logs = {
      policyChosen: tensor(device, policyChosen),
      policyRejected: tensor(device, policyRejected),
      referenceChosen: tensor(device, reference),
      referenceRejected: tensor(device, reference),
    };
    const found = valueAndGradients(() => preferenceLoss(logs, { beta }), [logs.policyChosen, logs.policyRejected]);
    const margins = policyChosen.map((chosen, i) => chosen - policyRejected[i]!);
    const expected = margins.map((margin) => Math.log1p(Math.exp(-beta * margin)));
    const slope = margins.map((margin) => -beta / (1 + Math.exp(beta * margin)) / 3);
    expect(await found.value.item()).toBeCloseTo(expected.reduce((a, b) => a + b, 0) / 3, 5);
    [...(await found.gradients[0]!.read())].forEach((g, i) => {
      expect(g).toBeCloseTo(slope[i]!, 6);
    });
    [...(await found.gradients[1]!.read())].forEach((g, i) => {
      expect(g).toBeCloseTo(-slope[i]!, 6);
    });
    using read = scope(() => preferenceMargins(logs));
    expect([...(await read.read())]).toEqual(margins);
    for (const item of [...Object.values(logs), found.value, ...found.gradients]) item?.dispose();
  });
});

describe('encodePair', () => {
  const pair = { prompt: [5, 6, 7], chosen: [8, 9], rejected: [10] };
  it('masks the prompt and counts the response with its end token', () => {
    const { chosen, rejected } = encodePair(pair, { beginToken: 0, endToken: 1 });
    expect(chosen).toEqual({ ids: [0, 5, 6, 7, 8, 9], targets: [-100, -100, -100, 8, 9, 1] });
    expect(rejected).toEqual({ ids: [0, 5, 6, 7, 10], targets: [-100, -100, -100, 10, 1] });
  });

  it('cuts prompts from the left and rows at the end', () => {
    const { chosen } = encodePair(pair, { beginToken: 0, endToken: 1, maxPromptLength: 2, maxLength: 4 });
    expect(chosen).toEqual({ ids: [0, 6, 7], targets: [-100, -100, 8] });
  });

  it('refuses empty responses and prompts that leave no room', () => {
    expect(() => encodePair({ ...pair, chosen: [] }, { endToken: 1 })).toThrow(/empty/);
    expect(() => encodePair(pair, { endToken: 1, maxLength: 3 })).toThrow(/leaves no response/);
    expect(() => encodePair({ ...pair, prompt: [] }, { endToken: 1 })).toThrow(/nothing to predict it from/);
  });

  it('is padded on the right without touching what counts', () => {
    const padded = padRows([{ ids: [4, 5], targets: [-100, 6] }], 4, 1);
    expect([...padded.ids]).toEqual([4, 5, 1, 1]);
    expect([...padded.targets]).toEqual([-100, 6, -100, -100]);
    expect([...padded.segments]).toEqual([0, 0, -1, -1]);
    expect(() => padRows([{ ids: [1, 2, 3], targets: [1, 2, 3] }], 2, 0)).toThrow(/does not fit/);
  });
});

describe('scorePairs', () => {
  it('gives the same whatever the batch, and sums over the response alone', async () => {
    const model = linearModel(device, { vocabularySize: 20, hiddenSize: 8, layerCount: 2, seed: 4 });
    const pairs = [
      { prompt: [5, 6, 7], chosen: [8, 9], rejected: [10] },
      { prompt: [3], chosen: [2, 2, 2, 2, 11], rejected: [12, 13] },
      { prompt: [4, 4], chosen: [15], rejected: [16, 17, 18] },
    ];
    const limits = { beginToken: 0, endToken: 1 };
    const together = await scorePairs(model, pairs, { ...limits, batchSize: 3 });
    const alone = await scorePairs(model, pairs, { ...limits, batchSize: 1 });
    together.forEach((scores, i) => {
      expect(scores.chosen).toBeCloseTo(alone[i]!.chosen, 4);
      expect(scores.rejected).toBeCloseTo(alone[i]!.rejected, 4);
      expect(scores.chosen).toBeLessThan(0);
    });
    // Tokens of this model do not see each other: a response's score is a sum of its tokens' own.
    const double = await scorePairs(model, [{ prompt: [2], chosen: [2, 2], rejected: [2] }], limits);
    const step = double[0]!.chosen - double[0]!.rejected;
    const triple = await scorePairs(model, [{ prompt: [2], chosen: [2, 2, 2], rejected: [2, 2] }], limits);
    expect(triple[0]!.chosen - triple[0]!.rejected).toBeCloseTo(step, 4);
    expect(
      preferenceAccuracy([
        { chosen: -1, rejected: -2 },
        { chosen: -3, rejected: -2 },
      ]),
    ).toBe(0.5);
    await expect(scorePairs(model, [], limits)).rejects.toThrow(/no pairs/);
    model.dispose();
  });
});
