import { generate, type HybridModel, loadModel } from '@zebra/runtime';
import {
  AdamW,
  crossEntropy,
  type Device,
  klDivergence,
  matmul,
  scope,
  type Tensor,
  tensor,
  valueAndGradients,
} from '@zebra/tensor';
import type { ParityDType } from './find-cases.js';
import { Golden, readJsonFile } from './golden.js';
import { compared, comparedExactly, type ParityRow, TOLERANCE, worst } from './row.js';

const IGNORED = -100;
/** hidden · headᵀ, in float32 whatever the model computes in. */
const LOGITS = { transposeB: true, dtype: 'float32' } as const;

/** A whole model, teacher or hybrid: outputs, gradients, far positions, optimizer steps, greedy continuation. */
export async function checkModel(
  device: Device,
  name: string,
  folder: string,
  files: ReadonlySet<string>,
  dtype: ParityDType = 'float32',
): Promise<ParityRow[]> {
  if (dtype === 'float16') return halfPrecision(device, name, folder, files);
  const rows: ParityRow[] = [];
  const load = () => loadModel(device, folder);
  const model = await load();
  try {
    if (files.has('golden.safetensors'))
      rows.push(...(await outputs(model, name, await Golden.read(folder, 'golden.safetensors'))));
    if (files.has('golden_far.safetensors'))
      rows.push(await far(model, name, await Golden.read(folder, 'golden_far.safetensors')));
    if (files.has('grads.safetensors')) {
      rows.push(
        await gradients(
          model,
          name,
          await Golden.read(folder, 'golden.safetensors'),
          await Golden.read(folder, 'grads.safetensors'),
        ),
      );
    }
    if (files.has('greedy.json')) rows.push(await greedy(model, name, folder));
  } finally {
    model.dispose();
  }
  if (files.has('train10.json')) rows.push(...(await trainTen(await load(), name, folder)));
  if (files.has('kd10.json')) rows.push(await distilTen(await load(), name, folder));
  if (rows.length === 0) rows.push(worst(name, 'nothing to compare with', []));
  return rows;
}

/** Outputs with float16 weights and activations. */
async function halfPrecision(
  device: Device,
  name: string,
  folder: string,
  files: ReadonlySet<string>,
): Promise<ParityRow[]> {
  const rows: ParityRow[] = [];
  const model = await loadModel(device, folder, { dtype: 'float16' });
  try {
    const tolerance = TOLERANCE.float16;
    if (files.has('golden.safetensors'))
      rows.push(...(await outputs(model, name, await Golden.read(folder, 'golden.safetensors'), tolerance)));
    if (files.has('golden_far.safetensors'))
      rows.push(await far(model, name, await Golden.read(folder, 'golden_far.safetensors'), tolerance));
  } finally {
    model.dispose();
  }
  if (rows.length === 0) rows.push(worst(name, 'nothing to compare with', []));
  return rows;
}

/** Next-token targets of rows of ids: the last token of a row has none. */
function nextTokens(ids: ArrayLike<number>, length: number): Int32Array {
  return Int32Array.from({ length: ids.length }, (_, i) => ((i + 1) % length === 0 ? IGNORED : (ids[i + 1] as number)));
}

interface Batch {
  readonly ids: Tensor;
  readonly targets: Tensor;
}

function batchOf(device: Device, golden: Golden): Batch {
  const shape = golden.shape('input_ids');
  const ids = golden.data('input_ids');
  return {
    ids: golden.tensor(device, 'input_ids'),
    targets: tensor(device, nextTokens(ids, shape[1] as number), shape),
  };
}

function lossOf(model: HybridModel, { ids, targets }: Batch): Tensor {
  return crossEntropy({ hidden: model.forward(ids), head: model.headWeight, targets });
}

async function outputs(
  model: HybridModel,
  name: string,
  golden: Golden,
  tolerance: number = TOLERANCE.output,
): Promise<ParityRow[]> {
  const hidden: Tensor[] = [];
  const batch = batchOf(model.device, golden);
  const result = scope(() => {
    const final = model.forward(batch.ids, { observe: (_, { input }) => hidden.push(input) });
    return {
      hidden: [...hidden, final],
      logits: matmul(final, model.headWeight, LOGITS),
      loss: lossOf(model, batch),
    };
  });
  const rows: ParityRow[] = [];
  for (const [layer, tensorOfLayer] of result.hidden.entries()) {
    const check = `hidden_states.${layer}`;
    rows.push(compared(name, check, await tensorOfLayer.read(), golden.data(check), tolerance));
  }
  const summary = worst(name, 'hidden states', rows);
  const logits = compared(name, 'logits', await result.logits.read(), golden.data('logits'), tolerance);
  const loss = compared(name, 'ce_loss', await result.loss.read(), golden.data('ce_loss'), tolerance);
  for (const item of [...result.hidden, result.logits, result.loss, batch.ids, batch.targets]) item.dispose();
  return [summary, logits, loss];
}

async function far(
  model: HybridModel,
  name: string,
  golden: Golden,
  tolerance: number = TOLERANCE.far,
): Promise<ParityRow> {
  using ids = golden.tensor(model.device, 'input_ids');
  using positions = golden.tensor(model.device, 'position_ids');
  using logits = scope(() => matmul(model.forward(ids, { positions }), model.headWeight, LOGITS));
  return compared(name, 'logits at far positions', await logits.read(), golden.data('logits'), tolerance);
}

async function gradients(model: HybridModel, name: string, golden: Golden, grads: Golden): Promise<ParityRow> {
  const parameters = model.namedParameters();
  const batch = batchOf(model.device, golden);
  const found = valueAndGradients(() => lossOf(model, batch), [...parameters.values()]);
  const byName = new Map([...parameters.keys()].map((key, i) => [key, found.gradients[i]]));
  const rows: ParityRow[] = [];
  for (const key of grads.names) {
    const gradient = byName.get(key);
    const values = gradient ? await gradient.read() : new Float32Array();
    rows.push(compared(name, key, values, grads.data(key), TOLERANCE.gradient));
  }
  for (const item of [found.value, ...found.gradients, batch.ids, batch.targets]) item?.dispose();
  return worst(name, 'gradients', rows);
}

async function greedy(model: HybridModel, name: string, folder: string): Promise<ParityRow> {
  const { prompt, tokens } = await readJsonFile<{ prompt: number[]; tokens: number[] }>(folder, 'greedy.json');
  const got: number[] = [];
  for await (const step of generate(model, [prompt], { maxNewTokens: tokens.length, temperature: 0 })) {
    for (const { id } of step.tokens) got.push(id);
  }
  return comparedExactly(name, 'greedy tokens', got, tokens);
}

const LEARNING_RATE = 1e-3;

/** Ten AdamW steps on the golden batch; returns losses and gradient norms. Frees the model. */
async function tenSteps(
  model: HybridModel,
  weightDecay: number,
  maxGradientNorm: number | undefined,
  loss: () => Tensor,
) {
  const parameters = model.namedParameters();
  const optimizer = new AdamW(parameters, { weightDecay, ...(maxGradientNorm !== undefined && { maxGradientNorm }) });
  const losses: number[] = [];
  const norms: number[] = [];
  for (let step = 0; step < 10; step++) {
    const found = valueAndGradients(loss, [...parameters.values()]);
    const named = [...parameters.keys()].flatMap((key, i): [string, Tensor][] =>
      found.gradients[i] ? [[key, found.gradients[i]]] : [],
    );
    optimizer.step(new Map(named), LEARNING_RATE);
    losses.push(await found.value.item());
    norms.push((await optimizer.gradientNorm.read())[0] as number);
    for (const item of [found.value, ...found.gradients]) item?.dispose();
  }
  optimizer.dispose();
  model.dispose();
  return { losses, norms };
}

async function trainTen(model: HybridModel, name: string, folder: string): Promise<ParityRow[]> {
  const golden = await Golden.read(folder, 'golden.safetensors');
  const { loss_gradnorm_per_step: expected } = await readJsonFile<{ loss_gradnorm_per_step: [number, number][] }>(
    folder,
    'train10.json',
  );
  const batch = batchOf(model.device, golden);
  const { losses, norms } = await tenSteps(model, 0.1, 1, () => lossOf(model, batch));
  batch.ids.dispose();
  batch.targets.dispose();
  return [
    eachStep(
      name,
      'losses of ten AdamW steps',
      losses,
      expected.map(([loss]) => loss),
    ),
    eachStep(
      name,
      'gradient norms of ten steps',
      norms,
      expected.map(([, norm]) => norm),
    ),
  ];
}

/** Every step on its own: late losses are small beside the first ones, whose norm would hide them. */
function eachStep(name: string, check: string, got: readonly number[], golden: readonly number[]): ParityRow {
  const rows = golden.map((value, i) => compared(name, `step ${i + 1}`, got.slice(i, i + 1), [value], TOLERANCE.steps));
  return worst(name, check, rows);
}

async function distilTen(model: HybridModel, name: string, folder: string): Promise<ParityRow> {
  const golden = await Golden.read(folder, 'kd10.safetensors');
  const { loss_per_step: expected } = await readJsonFile<{ loss_per_step: number[] }>(folder, 'kd10.json');
  const ids = golden.tensor(model.device, 'input_ids');
  const logits = golden.tensor(model.device, 'teacher_logits');
  const { losses } = await tenSteps(model, 0, undefined, () =>
    klDivergence({ teacher: { logits }, student: { hidden: model.forward(ids), head: model.headWeight } }),
  );
  ids.dispose();
  logits.dispose();
  return eachStep(name, 'losses of ten distillation steps', losses, expected);
}
