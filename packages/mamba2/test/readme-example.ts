import { createMamba2Weights, Mamba2Layer } from '@zebra/mamba2';
import { mean, openDevice, Random, square, tensor, valueAndGradients } from '@zebra/tensor';

const device = await openDevice();
const config = { hiddenSize: 64, headCount: 4, keyValueHeadCount: 2, headDim: 16 };

// A layer from fresh weights. The weights stay yours: train them, save them, dispose of them.
const random = new Random(1);
const weights = createMamba2Weights(device, config, () => random.uniform());
const layer = new Mamba2Layer(config, weights);

// Whole rows: two sequences of 32 tokens, and the gradient of a loss in every weight.
const numbers = (count: number) => Float32Array.from({ length: count }, () => random.uniform() - 0.5);
const x = tensor(device, numbers(2 * 32 * 64), [2, 32, 64]);
const { value, gradients } = valueAndGradients(() => mean(square(layer.forward(x))), [...weights.values()]);
console.log(`loss ${await value.item()}, ${gradients.length} gradients`);

// Token by token: the state has a constant size, however long the sequence.
const state = layer.newState(2);
layer.forward(x, {}, state).dispose();
const token = tensor(device, numbers(2 * 64), [2, 1, 64]);
const y = layer.forward(token, {}, state);
console.log(`y has shape [${y.shape}], the state takes ${state.byteLength} bytes`);

for (const made of [x, token, y, value, state, ...gradients, ...weights.values()]) made?.dispose();
device.destroy();
